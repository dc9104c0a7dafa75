"""Random faults on a whole system under load, by a seed; then all is mended, and everything must hold.

    python scripts/soak.py [MINUTES] [--seed N] [--pace X] [--rolling] [--report FILE] [--logs FOLDER]

Ten minutes of seed 1 unless told.
With --rolling nothing is struck: controllers and workers are restarted in turn, as in a deployment.
"""

import argparse
import signal
import sys
import time
from pathlib import Path

from tests.support.soak.campaign import Wish, rolling, soak
from tests.support.soak.ground import CLIENTS
from tests.support.soak.report import markdown


def main() -> int:
    """0 when everything held."""
    parser = argparse.ArgumentParser(prog="scripts/soak")
    parser.add_argument("minutes", nargs="?", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pace", type=float, default=1.0, help="how much quicker than usual faults follow each other")
    parser.add_argument("--rolling", action="store_true")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--logs", type=Path)
    given, began = parser.parse_args(), time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:7.1f}] {text}", flush=True)

    # All that was made is removed on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    campaign = rolling if given.rolling else soak
    outcome = campaign(Wish(given.minutes, given.seed, pace=given.pace, logs=given.logs), CLIENTS, say)
    report = markdown(outcome)
    if given.report:
        given.report.write_text(report)
    print(report)
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())
