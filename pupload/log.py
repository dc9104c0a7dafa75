"""Logging: one line a record to standard error, fields as `key=value`; no secret, no signed URL."""

import logging
import re
import sys

_URL = re.compile(r"https?://[^\s\"']+", re.IGNORECASE)
_SIGNATURE = re.compile("X-Amz|Signature", re.IGNORECASE)


class _Redacting(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


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
