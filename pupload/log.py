"""Logging: one line a record to standard error, fields as `key=value`; no secret, no signed URL."""

import logging
import re
import sys

_SIGNED = re.compile(r"(https?://[^\s?\"']+)\?[^\s\"']*(?:X-Amz|Signature)[^\s\"']*", re.IGNORECASE)


class _Redacting(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def redact(text: str) -> str:
    """`text` with the query of every signed URL taken away.

    >>> redact("GET http://s/b/k?X-Amz-Signature=abc failed")
    'GET http://s/b/k?[signed] failed'
    """
    return _SIGNED.sub(r"\1?[signed]", text)


def start_logging(level: int = logging.INFO) -> None:
    """Send the records of this program to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Redacting("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("botocore", "boto3", "urllib3", "docker", "aiohttp.access", "watchfiles"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
