"""Folders in folders, for what must not mind how many."""

import os
from pathlib import Path


def nested(folder: Path, depth: int) -> None:
    """Folders in folders, deeper than the longest path."""
    inner = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=inner)
        outer, inner = inner, os.open("d", os.O_RDONLY, dir_fd=inner)
        os.close(outer)
    os.close(os.open("file", os.O_CREAT, dir_fd=inner))
    os.close(inner)
