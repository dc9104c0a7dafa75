"""What the scripts ask of a server and of its results, with the standard library alone.

python scripts/probe.py ready URL SECONDS [PID]    exit code 0 once /readyz says so; 1 when time or PID ends
python scripts/probe.py size FILE                  width and height that a JPEG file tells of itself
"""

import os
import struct
import sys
import time
import urllib.request
from pathlib import Path


def ready(url: str, seconds: float, pid: int | None = None) -> bool:
    """True once the server at `url` says that it is ready; False when it has not within `seconds`, or `pid` is gone."""
    deadline = time.monotonic() + seconds
    while not _answers(f"{url}/readyz"):
        if time.monotonic() >= deadline or (pid is not None and not _lives(pid)):
            return False
        time.sleep(0.02)
    return True


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def jpeg_size(content: bytes) -> tuple[int, int]:
    """Width and height as the picture's own frame header says.

    Errors: ValueError when it is no JPEG.
    Source: ITU-T T.81, B.1.1 and B.2.2.
    """
    at = 2
    while content[:2] == b"\xff\xd8" and content[at : at + 1] == b"\xff":
        marker, length = struct.unpack(">xBH", content[at : at + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            return width, height
        at += 2 + length
    raise ValueError("not a JPEG picture")


def main(arguments: list[str]) -> int:
    match arguments:
        case ["ready", url, seconds, *pid]:
            return 0 if ready(url, float(seconds), int(pid[0]) if pid else None) else 1
        case ["size", picture]:
            width, height = jpeg_size(Path(picture).read_bytes())
            print(f"{width} x {height} pixels")
            return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
