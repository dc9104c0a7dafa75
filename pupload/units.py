"""Durations and sizes as people write them. PURE."""

import re
from datetime import timedelta

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?b?|b)?", re.IGNORECASE)
_SIZE_POWERS = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_LARGEST_BYTES = 2**63
_LONGEST_S = 10 * 365 * 86400


def parse_duration(text: str) -> timedelta:
    """The duration that `text` says: `90s`, `15m`, `1h30m`, `1.5h`, `250ms`, `2d`.

    Errors: ValueError for anything else, and for what is not above zero or beyond ten years.

    >>> parse_duration("1h30m").total_seconds()
    5400.0
    """
    compact = text.strip().replace(" ", "").lower()
    # Matched as a whole first: to look for parts in a row of digits takes the square of its length.
    if not _DURATION.fullmatch(compact):
        raise ValueError(f"{text!r} is not a duration; write it like 90s, 15m or 1h30m")
    seconds = sum(float(n) * _DURATION_UNITS[unit] for n, unit in _DURATION_PART.findall(compact))
    if not 0 < seconds <= _LONGEST_S:
        raise ValueError(f"{text!r} is not a positive duration of at most ten years")
    return timedelta(seconds=seconds)


def parse_size(text: str) -> int:
    """Bytes that `text` says: `512mb`, `2gb`, `1tb`, `64k`, `1000`.

    Units: powers of 1024 whatever the spelling, as Docker counts memory.
    Errors: ValueError for anything else.

    >>> parse_size("512mb")
    536870912
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write it like 512mb, 2gb or a number of bytes")
    number, unit = match.groups()
    size_bytes = float(number) * 1024 ** _SIZE_POWERS[(unit or "").lower()[:1]]
    if size_bytes >= _LARGEST_BYTES:
        raise ValueError(f"a size of {text[:20]!r} is beyond anything that can be stored")
    return int(size_bytes)


def format_size(size_bytes: int) -> str:
    """`size_bytes` in its largest unit: `1.5gb`.

    >>> format_size(1536 * 1024**2)
    '1.5gb'
    """
    value = float(size_bytes)
    for unit in ("b", "kb", "mb", "gb"):
        if value < 1024:
            return f"{value:.4g}{unit}"
        value /= 1024
    return f"{value:.4g}tb"
