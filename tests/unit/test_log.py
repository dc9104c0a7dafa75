"""Records of the log are lines, whatever is in them."""

import logging
import sys

from pupload.log import _Redacting


def formatted(record: logging.LogRecord) -> str:
    return _Redacting("%(levelname)s %(message)s").format(record)


def record(message: str, *given: object, **more: object) -> logging.LogRecord:
    return logging.LogRecord("a", logging.INFO, "a.py", 1, message, given, None, **more)  # type: ignore[arg-type]


def test_no_text_can_look_like_another_record() -> None:
    forged = "x\n2026 ERROR forged\r\x1b[2J\u2028\x85\ud800"
    assert formatted(record("no run %s", forged)) == ("INFO no run x\\n2026 ERROR forged\\r\\x1b[2J\\u2028\\x85\\ud800")


def test_what_an_exception_says_is_set_in() -> None:
    made = record("failed")
    try:
        int("a\n2026 ERROR forged\x1b[31m")
    except ValueError:
        made.exc_info = sys.exc_info()
    first, *rest = formatted(made).split("\n")
    assert first == "INFO failed"
    assert all(line.startswith("  ") for line in rest)
    assert "2026 ERROR forged" in rest[-1]
