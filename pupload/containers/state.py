"""What the Docker engine says of itself and of containers, as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

_NEVER = "0001-01-01T00:00:00Z"
_UNKNOWN = 255


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the engine says of itself and its machine. Units: memory in bytes.

    `folder` is where its images lie, "" for an engine of another machine.
    """

    version: str
    architecture: str
    cores: int
    memory_bytes: int
    folder: str = ""
    runtimes: frozenset[str] = frozenset()

    @classmethod
    def told(cls, document: Mapping[str, Any]) -> Self:
        """As an answer to `info` says."""
        return cls(
            version=str(document.get("ServerVersion", "")),
            architecture=str(document.get("Architecture", "")),
            cores=int(document.get("NCPU") or 1),
            memory_bytes=int(document.get("MemTotal") or 0),
            folder=str(document.get("DockerRootDir") or ""),
            runtimes=frozenset(document.get("Runtimes") or ()),
        )


@dataclass(frozen=True, slots=True)
class ContainerState:
    """What inspect says, the only source that is believed. Times are the engine's own text, "" where there is none.

    `interrupted` says that the engine was away while the program may have run.
    """

    id: str
    name: str
    status: str
    exit_code: int
    oom_killed: bool
    started_at: str
    finished_at: str
    error: str
    labels: Mapping[str, str]
    interrupted: bool = False

    @classmethod
    def inspected(cls, document: Mapping[str, Any]) -> Self:
        """As an answer to `inspect` says."""
        state = document["State"]
        return cls(
            id=document["Id"],
            name=document["Name"].lstrip("/"),
            status=state["Status"],
            exit_code=int(state["ExitCode"]),
            oom_killed=bool(state["OOMKilled"]),
            started_at=state["StartedAt"],
            finished_at=state["FinishedAt"],
            error=state.get("Error") or "",
            labels=document["Config"].get("Labels") or {},
        )

    @classmethod
    def listed(cls, row: Mapping[str, Any]) -> Self:
        """As a row of `ps` says, which has neither exit nor times."""
        name = (row.get("Names") or ["/"])[0].lstrip("/")
        return cls(row["Id"], name, row["State"], 0, False, "", "", "", row.get("Labels") or {})  # noqa: FBT003

    @property
    def missed(self) -> bool:
        """True when the engine cannot know how the program ended, for which it has a code that programs use too."""
        return self.interrupted and self.exit_code == _UNKNOWN

    @property
    def ended(self) -> bool:
        """True when the program has run and is over.

        The engine notes the start when its runtime has answered; of a short program that is after the end.
        """
        return self.status in {"exited", "dead"} and min(self.started_at, self.finished_at) > _NEVER
