"""The configuration: one frozen value for the controller, one for a worker, read once at start.

Each setting is an environment variable `PUPLOAD_<NAME>` or a key of the TOML file that `PUPLOAD_CONFIG` names; the
environment wins. Lists and objects are JSON in the environment.
"""

import os
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from pupload.errors import InvalidConfig

PositiveSeconds = Annotated[float, Field(gt=0)]
PositiveCount = Annotated[int, Field(gt=0)]
N = TypeVar("N", int, float)
Limit = Annotated[N, Field(ge=0)]
"""0 is no limit."""
_URL_ALLOW = "hosts, host:port or networks that URLs of users may lead to beside the public internet, by http too"


_REGISTRIES = (
    "where images may come from: `host[:port][/path]`, as `docker.io/library`; `local` is what the engine has already; "
    "empty: anywhere"
)
# A host without a dot or a port would be an account of Docker's own registry.
_HOST = r"(localhost|\[[0-9a-fA-F:]+\]|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+)(:[0-9]+)?|[A-Za-z0-9-]+:[0-9]+"
_REGISTRY = rf"^(local|({_HOST})(/[a-z0-9._-]+)*)$"
Registries = tuple[Annotated[str, StringConstraints(pattern=_REGISTRY)], ...]


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="PUPLOAD_", frozen=True, extra="forbid")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is the library's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (
            init_settings,
            env_settings,
            TomlConfigSettingsSource(settings_cls, os.environ.get("PUPLOAD_CONFIG")),
        )

    def redacted(self) -> dict[str, Any]:
        """The settings for printing; secrets are stars."""
        return self.model_dump(mode="json")


class AccountLimits(BaseModel):
    """What of the limits of keys is otherwise for one account. None: as for all; 0: no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_s: Limit[float] | None = None
    requests_burst: PositiveCount | None = None
    requests_at_once: Limit[int] | None = None
    active_runs: Limit[int] | None = None
    active_nodes: Limit[int] | None = None
    stored_bytes: Limit[int] | None = None
    open_uploads: Limit[int] | None = None


class StoreSettings(BaseModel):
    """A store that flows may name without knowing its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="name that flows use; `default` is what flows use that name none")
    type: str = Field(default="s3", pattern="^(s3|minio)$", description="s3, or minio for its bucket notifications")
    endpoint: str = Field(description="host[:port] that controller and workers reach")
    public_endpoint: str | None = Field(default=None, description="host[:port] that clients outside reach")
    bucket: str = Field(description="bucket; it must exist")
    access_key: str
    secret_key: SecretStr
    location: str = Field(default="us-east-1", description="region that requests are signed for")
    secure: bool = Field(default=True, description="https")


class RegistryLogin(BaseModel):
    """Who a worker is to a registry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    username: str
    password: SecretStr


def _is_loopback(host: str) -> bool:
    """True for an address that this machine alone reaches; a name may lead anywhere."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class ControllerConfig(_Settings):
    """Settings of `pup controller` and of the controller in `pup dev`."""

    host: str = Field(
        default="127.0.0.1", description="address to listen on; beyond loopback every caller needs an API key"
    )
    port: int = Field(default=1234, ge=0, le=65535, description="port to listen on; 0 is any free one")
    data_dir: Path = Field(default=Path(".pupload"), description="where the embedded parts and the secret key live")
    database_url: SecretStr | None = Field(default=None, description="PostgreSQL 14 or later; unset: the embedded one")
    database_pool: PositiveCount = Field(default=10, description="connections kept to PostgreSQL")
    stores: tuple[StoreSettings, ...] = Field(default=(), description="stores; none named `default`: the embedded one")
    secret_key: SecretStr | None = Field(
        default=None, description="encrypts store secrets given in flows; unset: a file in data_dir"
    )
    tiers: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="own tiers: name → {cpu, memory, disk, gpu?, gpu_memory?}"
    )
    notifications: bool = Field(default=True, description="off: polling alone, slower and as right")
    reconcile_s: PositiveSeconds = Field(default=2.0, description="seconds between looks for what was missed")
    beat_s: PositiveSeconds = Field(default=5.0, description="seconds between a worker's beats")
    fence_s: PositiveSeconds = Field(
        default=20.0, description="seconds without a beat after which a worker stops itself"
    )
    lease_s: PositiveSeconds = Field(default=30.0, description="seconds without a beat after which an attempt is lost")
    restarts: int = Field(default=8, ge=0, description="lost attempts a node may have beside its own MaxAttempts")
    upload_ttl_s: PositiveSeconds = Field(default=3600.0, description="seconds an upload URL is good for")
    upload_poll_s: PositiveSeconds = Field(default=0.05, description="first wait between two looks for an upload")
    upload_poll_max_s: PositiveSeconds = Field(default=5.0, description="longest wait between two looks for an upload")
    max_upload_bytes: PositiveCount = Field(default=5 * 1024**3, description="largest single upload")
    max_multipart_bytes: PositiveCount = Field(default=5 * 1024**4, description="largest upload in parts")
    multipart_ttl_s: PositiveSeconds = Field(
        default=7 * 86400.0, description="seconds after which an upload in parts that nobody completed is aborted"
    )
    public_url: str | None = Field(
        default=None,
        pattern=r"^https?://\S+$",
        description="address that clients outside reach this server at; unset: where it listens",
    )
    webhook_secret: SecretStr | None = Field(
        default=None,
        description="signs webhooks, as `whsec_…`; several, parted by blanks, all sign; unset: a file in data_dir",
    )
    webhook_delay_s: PositiveSeconds = Field(
        default=5.0, description="seconds before a webhook is tried again, at first"
    )
    webhook_for_s: PositiveSeconds = Field(default=86400.0, description="seconds after which a webhook is given up")
    max_body_bytes: PositiveCount = Field(default=4 * 1024**2, description="largest JSON body")
    max_nodes: PositiveCount = Field(default=10_000, description="nodes in a flow")
    node_timeout_s: PositiveSeconds = Field(
        default=3600.0, description="node timeout where neither flow nor def has one"
    )
    run_timeout_s: PositiveSeconds = Field(default=7 * 86400.0, description="run timeout where the flow has none")
    log_bytes: PositiveCount = Field(default=10 * 1024**2, description="log kept of an attempt")
    live_log_bytes: PositiveCount = Field(
        default=1024**2, description="log of an attempt shown live and kept in the database"
    )
    max_tool_rounds: PositiveCount = Field(default=10, description="times that one node may ask the client for tools")
    snapshot_bytes: PositiveCount = Field(
        default=16 * 1024, description="kept of each text file of an attempt whose run asks for a trace"
    )
    retention_s: PositiveSeconds = Field(default=30 * 86400.0, description="seconds an ended run is kept")
    session_bytes: PositiveCount = Field(default=100 * 1024**2, description="largest folder of a session")
    session_files: PositiveCount = Field(default=10_000, description="files and folders in the folder of a session")
    session_retention_s: PositiveSeconds = Field(
        default=30 * 86400.0, description="seconds a session is kept after its last use"
    )
    reject_unservable: bool = Field(default=False, description="refuse a flow whose tiers no live worker can hold")
    allow_egress: bool = Field(default=False, description="let defs ask for the network")
    sync_wait_s: PositiveSeconds = Field(default=120.0, description="seconds that a synchronous call waits at most")
    inline_bytes: PositiveCount = Field(default=65_536, description="largest text output that an answer holds itself")
    max_fetch_bytes: PositiveCount = Field(default=25 * 1024**2, description="largest file fetched from a URL")
    url_allow: tuple[str, ...] = Field(default=(), description=_URL_ALLOW)
    pin_images: bool = Field(
        default=True, description="published versions run the exact images that the engine here knows at that time"
    )
    docker_host: str | None = Field(
        default=None, description="engine that tells the exact images; unset: what the environment says"
    )
    registries: Registries = Field(default=(), description=_REGISTRIES)
    require_digest: bool = Field(
        default=False, description="make no run before its images are known by digest, or by the engine's own id"
    )
    require_keys: bool = Field(default=False, description="want an API key of every caller, on loopback too")
    requests_per_s: Limit[float] = Field(
        default=500.0, description="requests a second that one key may make on the average; 0: no limit"
    )
    requests_burst: PositiveCount = Field(default=2000, description="requests that one key may make beyond that, once")
    requests_at_once: Limit[int] = Field(
        default=500, description="requests of one key under way, streams and waiting calls among them; 0: no limit"
    )
    active_runs: Limit[int] = Field(default=10_000, description="runs of one account that are not over; 0: no limit")
    active_nodes: Limit[int] = Field(default=1_000_000, description="nodes of those runs; 0: no limit")
    stored_bytes: Limit[int] = Field(
        default=1024**4, description="bytes of one account's files and sessions; 0: no limit"
    )
    open_uploads: Limit[int] = Field(
        default=1000, description="uploads in parts that one account has open; 0: no limit"
    )
    account_limits: dict[str, AccountLimits] = Field(
        default_factory=dict,
        description='the limits of some accounts: {"acc_…": {"requests_per_s", …, "open_uploads"}}',
    )
    wrong_keys_per_min: Limit[int] = Field(
        default=60, description="calls without a right key that one address may make in a minute; 0: no limit"
    )
    max_connections: PositiveCount = Field(
        default=2000, description="connections held at once; fewer where the system gives a process fewer"
    )
    slow_s: PositiveSeconds = Field(
        default=30.0,
        description="seconds that a client may let us wait: for a request's head, its next bytes, its reading",
    )
    slow_bytes_per_s: Limit[float] = Field(
        default=1024.0, description="least rate of a body, and of reading an answer, once slow_s are over; 0: none"
    )
    prices: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description="credits a second by tier, `*` for all others; empty: nothing costs anything"
    )

    @property
    def wants_keys(self) -> bool:
        """True when there is no call without a key, even before there is a key."""
        return self.require_keys or not _is_loopback(self.host)

    @model_validator(mode="after")
    def _margins(self) -> Self:
        problems = []
        if not self.beat_s < self.fence_s < self.lease_s:
            problems.append("beat_s < fence_s < lease_s must hold, or two workers could run one attempt")
        if problems:
            raise ValueError("; ".join(problems))
        return self


class WorkerConfig(_Settings):
    """Settings of `pup worker`."""

    controller_url: str = Field(
        default="http://127.0.0.1:1234",
        pattern=r"\S",
        description="where the controller listens; of several, parted by blanks, the next when one does not answer",
    )
    worker_token: SecretStr = Field(description="this worker's own token; `pup worker-token add NAME` makes one")
    worker_name: str = Field(default_factory=lambda: os.uname().nodename, description="marks this worker's containers")
    work_dir: Path = Field(default=Path(".pupload/work"), description="where files of running attempts lie")
    docker_host: str | None = Field(default=None, description="engine address; unset: what the environment says")
    cpu: float | None = Field(default=None, gt=0, description="cores to offer; unset: the machine's")
    cpu_overcommit: float = Field(default=4.0, ge=1, description="cores offered for each core there is")
    memory: str | None = Field(default=None, description="memory to offer, as 16gb; unset: the machine's")
    disk: str | None = Field(default=None, description="disk to offer, as 100gb; unset: what is free under work_dir")
    gpus: tuple[dict[str, str], ...] = Field(default=(), description='GPUs to offer: [{"vendor", "memory", "device"}]')
    starts: PositiveCount | None = Field(default=None, description="containers started at once; unset: twice the cores")
    user: int = Field(default=65532, ge=1, description="uid of containers whose def asks for none")
    allow_egress: bool = Field(default=False, description="let containers have a network when their def asks")
    egress_allow: tuple[IPv4Network, ...] = Field(
        default=(), description="networks of this side of the internet that such containers may reach, as 10.1.2.0/24"
    )
    egress_dns: tuple[IPv4Address, ...] = Field(
        default=(), description="who resolves names for such containers; unset: whom this machine asks"
    )
    runtimes: dict[str, str] = Field(
        default_factory=dict,
        description='runtimes of the engine by tier: {"c-*": "runsc"}, the first that matches; all others: its default',
    )
    image_timeout_s: PositiveSeconds = Field(default=900.0, description="seconds a pull may take")
    transfer_timeout_s: PositiveSeconds = Field(default=3600.0, description="seconds all inputs or outputs may take")
    registries: Registries = Field(default=(), description=_REGISTRIES)
    registry_logins: dict[str, RegistryLogin] = Field(
        default_factory=dict,
        description='logins by registry: {"host": {"username", "password"}}; all others: the Docker configuration\'s',
    )
    require_digest: bool = Field(
        default=False, description="run only images that were named by digest, or found by digest before the run"
    )
    pulls_per_minute: PositiveCount = Field(default=60, description="pulls asked of one registry in a minute")
    image_high: float | None = Field(
        default=None, gt=0, le=100, description="percent of the engine's disk in use above which pulled images go"
    )
    image_low: float | None = Field(
        default=None, gt=0, le=100, description="percent in use at which no more go; unset: nine tenths of `image_high`"
    )
    grace_s: PositiveSeconds = Field(default=3.0, description="seconds between TERM and KILL")
    janitor_s: PositiveSeconds = Field(default=60.0, description="seconds between looks for leftovers")
    let_go_s: PositiveSeconds = Field(
        default=150.0, description="seconds that a step which must not be cut short has to end, once its attempt is to"
    )
    drain_s: float = Field(default=30.0, ge=0, description="seconds that running attempts may take to end on SIGTERM")
    files: str = Field(
        default="auto", pattern="^(auto|mount|archive)$", description="how files reach containers; auto: mount if seen"
    )
    allow_user: bool = Field(default=False, description="let defs choose the uid of their containers, never root")
    url_allow: tuple[str, ...] = Field(default=(), description=_URL_ALLOW)

    @model_validator(mode="after")
    def _marks(self) -> Self:
        if self.image_low is not None and (self.image_high is None or self.image_low >= self.image_high):
            raise ValueError("image_low must be below image_high, or every look would find something to remove")
        return self


C = TypeVar("C", ControllerConfig, WorkerConfig)


def read_config(kind: type[C], **given: Any) -> C:
    """The configuration: `given` (None is not given), then the environment, then the file, then the defaults.

    Errors: InvalidConfig listing every problem.
    """
    try:
        return kind(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        problems = [f"  {'.'.join(map(str, e['loc'])) or 'configuration'}: {e['msg']}" for e in error.errors()]
        raise InvalidConfig("the configuration is not usable:\n" + "\n".join(problems)) from error
