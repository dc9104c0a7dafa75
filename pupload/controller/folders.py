"""Folders that are kept between containers: where they lie in the store, and how a worker is told of them."""

from dataclasses import dataclass

from pupload.errors import NotFound
from pupload.protocol import AttemptRef, KeptFolder, ObjectRef
from pupload.stores.base import Store

SESSION = "session"
"""The folder of the run's session, which outlives the run."""
STATE = "state"
"""The folder of one node, from asking its client to the answer."""
_FETCH_S = 3600.0


@dataclass(frozen=True, slots=True)
class Archive:
    """A folder as it lies in the server's default store. Units: bytes."""

    key: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class LentFolder:
    """A folder that an attempt is lent. `archive` None: it begins empty. `until_done` as in `KeptFolder`.

    Units: bytes, files and folders.
    """

    name: str
    archive: Archive | None
    max_size_bytes: int
    max_entries: int
    until_done: bool = False


def session_prefix(session_id: str) -> str:
    """What the keys of the session's archives begin with: a place where no key of a flow leads."""
    return f".sessions/{session_id}/"


def folder_key(session_id: str, ref: AttemptRef, name: str) -> str:
    """The key that one attempt writes its folder to. What lies under the run's own prefix goes with the run.

    Errors: NotFound for a folder that the attempt is not lent.
    """
    if name == SESSION and session_id:
        return f"{session_prefix(session_id)}{ref.run_id}/{ref.node_id}/{ref.attempt}.tar"
    if name == STATE:
        return f"{ref.run_id}/.folders/{ref.node_id}/{ref.attempt}.tar"
    raise NotFound(f"node {ref.node_id!r} is lent no folder {name!r}")


def lend(kept: LentFolder, store: Store) -> KeptFolder:
    """The folder as the worker is told of it, with a URL that is good now."""
    archive = kept.archive
    content = None
    if archive is not None:
        url = store.sign_get(archive.key, _FETCH_S, public=False)
        content = ObjectRef(url=url, size_bytes=archive.size_bytes, sha256=archive.sha256)
    return KeptFolder(
        name=kept.name,
        content=content,
        max_size_bytes=kept.max_size_bytes,
        max_entries=kept.max_entries,
        until_done=kept.until_done,
    )
