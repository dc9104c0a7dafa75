"""What a running program has written, looked at while it runs: no quota holds it back."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path

MAX_ENTRIES = 100_000
LOOK_S = 2.0


def beyond(written: Iterable[Path], limit_bytes: int, max_entries: int = MAX_ENTRIES) -> str:
    """What is too much in the folders `written`, all together; "" while they are within the limits.

    Units: bytes as they take room on the disk, so that holes in a file count nothing.
    """
    size, entries, folders = 0, 0, [str(folder) for folder in written]
    while folders:
        try:
            with os.scandir(folders.pop()) as found:
                for entry in found:
                    entries += 1
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    if size > limit_bytes:
                        return f"more than {limit_bytes} bytes"
                    if entries > max_entries:
                        return f"more than {max_entries} files"
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return "folders in folders, deeper than a path can say"
            # The program may remove what is being looked at.
    return ""
