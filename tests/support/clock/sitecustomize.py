"""Loaded by Python at its start where this folder is on its path: the wall clock of the process is wrong.

By how many seconds says the file that the variable names, which is read again and again. Spans stay right.
"""

import os
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import time_machine

_FILE = Path(os.environ["PUP_TESTS_CLOCK"])
_LOOK_S = 0.02
_set = threading.Event()


def _follow() -> None:
    wrong, shown = ExitStack(), ""
    while True:
        wished = _FILE.read_text()
        if wished != shown:
            wrong.close()
            traveller = time_machine.travel(time.time() + float(wished), tick=True)
            traveller.start()
            wrong.callback(traveller.stop)
            shown = wished
            _set.set()
        time.sleep(_LOOK_S)


threading.Thread(target=_follow, daemon=True).start()
_set.wait()
