"""Logging: one line a record to standard error, fields as `key=value`; no secret, no signed URL, and nothing that looks
like another record, whatever strangers send."""

import logging
import re
import sys
from typing import Any

_URL = re.compile(r"https?://[^\s\"']+", re.IGNORECASE)
_SIGNATURE = re.compile("X-Amz|Signature", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class _Redacting(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's own
        return on_one_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the library's own
        # Set in: what an exception says may be a stranger's words too.
        return "\n".join(f"  {on_one_line(line)}" for line in super().formatException(ei).splitlines())


def on_one_line(text: str) -> str:
    """`text` with what ends a line, or moves a terminal, written out.

    >>> on_one_line("no run 'a\\n2026 ERROR \\x1b[31m'")
    "no run 'a\\\\n2026 ERROR \\\\x1b[31m'"
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def redact(text: str) -> str:
    """`text` with the query of every signed URL taken away.

    >>> redact("GET http://s/b/k?X-Amz-Signature=abc failed")
    'GET http://s/b/k?[signed] failed'
    """
    # In two steps, each of which looks at every character once: a message may hold whatever a stranger sent.
    return _URL.sub(_unsigned, text)


def _unsigned(url: re.Match[str]) -> str:
    place, question, query = url[0].partition("?")
    return f"{place}?[signed]" if question and _SIGNATURE.search(query) else url[0]


def start_logging(level: int = logging.INFO) -> None:
    """Send the records of this program to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Redacting("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("botocore", "boto3", "urllib3", "docker", "aiohttp.access", "watchfiles"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Whoever needs the database says that it is away; its pool would add a traceback each time.
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)
    # More transfers at once than connections are kept is no fault.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
