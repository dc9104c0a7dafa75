"""Becomes the program of its arguments, which dies with the process that started it, even of SIGKILL.

    python tether.py PARENT_PID PROGRAM ARGUMENT…

It runs alone, between fork and exec: the kernel forgets the wish at a fork and keeps it through an exec. What it
watches is the *thread* that started it. Source: prctl(2), PR_SET_PDEATHSIG.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, program: str, *arguments: str) -> None:
    """Never returns."""
    os.umask(0o077)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit("the parent ended before its program began")
    os.execv(program, [program, *arguments])  # noqa: S606 - there is nothing for a shell to do


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
