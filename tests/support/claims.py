"""Whose is what, where several test processes share a machine and an engine: each answers for what it made itself.

A process has its temporary files in a folder of its own, and claims there the names that mark its workers' containers.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "pup-tests-"
_CLAIMS = "claims"


def move_in() -> None:
    """From now on temporary files of this process and of all that it starts lie in one new folder, gone at its end."""
    # pytest keeps the folders of the last sessions to be looked at; they stay where they were.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    folder = tempfile.mkdtemp(prefix=_PREFIX)
    # pytest-xdist ends its processes without unconfiguring them.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # A database's own user passes through it.
    Path(folder).chmod(0o711)
    os.environ["TMPDIR"], tempfile.tempdir = folder, None


def own() -> Path:
    """The folder of our own temporary files."""
    return Path(tempfile.gettempdir())


def others() -> list[Path]:
    """Those of the other test processes."""
    return [folder for folder in own().parent.glob(f"{_PREFIX}*") if folder != own()]


def claim(name: str) -> str:
    """The name itself; from now on what a worker of this name leaves is ours. Before anything carries it, please."""
    if own().name.startswith(_PREFIX):
        (own() / _CLAIMS).mkdir(exist_ok=True)
        (own() / _CLAIMS / name).touch()
    return name


def is_ours(name: str) -> bool:
    """True when this process has claimed the name."""
    return _claimed(own(), name)


def is_others(name: str) -> bool:
    """True when another process has."""
    return any(_claimed(folder, name) for folder in others())


def _claimed(folder: Path, name: str) -> bool:
    return bool(name) and (folder / _CLAIMS / name).exists()
