"""The server itself: its accounts, tiers and workers. PURE."""

from datetime import datetime

from pydantic import Field

from pupload.document import Document


class AccountAnswer(Document):
    """Who pays. `Balance` in credits, null where it is not counted; `Prices` in credits a second, by tier."""

    id: str
    balance: float | None
    prices: dict[str, float] = Field(default_factory=dict)


class GpuAnswer(Document):
    """One GPU. Units: bytes."""

    vendor: str
    memory_bytes: int


class TierAnswer(Document):
    """A tier. Units: cores, bytes."""

    name: str
    cpu: float
    memory_bytes: int
    disk_bytes: int
    gpu: GpuAnswer | None = None


class CapacityAnswer(Document):
    """Units: cores after overcommit, bytes, whole GPUs."""

    cpu: float = 0.0
    memory_bytes: int = 0
    disk_bytes: int = 0
    gpus: list[GpuAnswer] = Field(default_factory=list)


class WorkerAnswer(Document):
    """A worker as the controller knows it."""

    id: str
    name: str
    live: bool
    draining: bool = False
    attempts: int = 0
    version: str = ""
    engine: str = ""
    architecture: str = ""
    capacity: CapacityAnswer = Field(default_factory=CapacityAnswer)
    free: CapacityAnswer = Field(default_factory=CapacityAnswer)
    seen_at: datetime | None = None
