"""What killed processes have left in the folder of an embedded PostgreSQL: files that its library believes."""

import json
from pathlib import Path

import psutil  # type: ignore[import-untyped]

_ORPHAN_S = 10.0


def forget_the_dead(folder: Path) -> None:
    """Take out of the folder's files what was killed: a server, which the library would take for running because its
    number is a zombie's or another program's by now, and users of the server, for whose sake it would never stop it.
    """
    pid_file, users_file = folder / "postmaster.pid", folder / ".handle_pids.json"
    if pid_file.exists() and not serves(_first_number(pid_file), folder):
        _await_orphans(folder)
        for left in (_socket_lock(pid_file), pid_file):
            left.unlink(missing_ok=True)
    if users_file.exists():
        users_file.write_text(json.dumps([pid for pid in _numbers(users_file) if _lives(pid)]))


def _await_orphans(folder: Path) -> None:
    """Processes of a killed server end by themselves, soon; a new server beside them would destroy the database."""
    orphans = [process for process in psutil.process_iter() if serves(process.pid, folder)]
    _, stubborn = psutil.wait_procs(orphans, timeout=_ORPHAN_S)
    for process in stubborn:
        process.kill()
    psutil.wait_procs(stubborn, timeout=_ORPHAN_S)


def serves(pid: int, folder: Path) -> bool:
    """True when this is a live process of a server over the folder."""
    try:
        process = psutil.Process(pid)
        # A server works in its folder; so do its processes.
        return (
            process.status() != psutil.STATUS_ZOMBIE and "postgres" in process.name() and process.cwd() == str(folder)
        )
    except psutil.Error:
        return False


def _lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _socket_lock(pid_file: Path) -> Path:
    """The lock beside the server's socket. Source: PostgreSQL, miscinit.c: pid, folder, time, port, socket's folder."""
    lines = [*pid_file.read_text().splitlines(), *[""] * 5]
    return Path(lines[4] or pid_file.parent) / f".s.PGSQL.{lines[3] or 5432}.lock"


def _first_number(path: Path) -> int:
    first = path.read_text().partition("\n")[0].strip()
    return int(first) if first.isdecimal() else 0


def _numbers(path: Path) -> list[int]:
    try:
        return [int(number) for number in json.loads(path.read_text() or "[]")]
    except (ValueError, TypeError):
        return []
