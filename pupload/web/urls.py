"""A URL that a user gave, judged before anything is asked of anybody."""

import re

from yarl import URL

from pupload.errors import InvalidRequest
from pupload.web.addresses import Allowed, address_allowed

MAX_URL = 2048
_PORTS = frozenset({80, 443})
_FREE_PORTS = 1024
_PLAIN = re.compile(r"[!-\[\]-~]+")
_HOST = re.compile(r"[A-Za-z0-9_.-]{1,254}")
_ENDS_IN_NUMBER = re.compile(r"(?:[^:]*\.)?(?:\d+|0[xX][0-9a-fA-F]*)\.?")
_CANONICAL_4 = re.compile(r"(?:0|[1-9]\d{0,2})(?:\.(?:0|[1-9]\d{0,2})){3}")


def check_url(text: str, allowed: Allowed) -> URL:
    """The URL, which may be asked for as far as it can be told without its name's address.

    `https` on port 80 or 443; what is `allowed` by name or address also by `http` and on its own port. It is not
    encoded again: a presigned URL is only good as it is.
    Errors: InvalidRequest `URI_NOT_ALLOWED`.
    """
    if len(text) > MAX_URL:
        raise refused(f"a URL has at most {MAX_URL} characters, this one {len(text)}")
    url = _parsed(text)
    host, port = _host_of(url), url.port or 0
    named = allowed.has_name(host, port) or allowed.has_address(host, port)
    if url.scheme != "https" and not (named and url.scheme == "http"):
        raise refused(f"{shown(url)}: give an https URL")
    if port not in _PORTS and not named:
        raise refused(f"{shown(url)}: port {port} is not allowed, only 80 and 443")
    if _is_literal(host):
        check_address(host, host, port, allowed)
    return url


def check_address(host: str, address: str, port: int, allowed: Allowed) -> None:
    """Return when a connection to this address may be made for this host.

    Errors: InvalidRequest `URI_NOT_ALLOWED`.
    """
    if not (address_allowed(address) or allowed.has_address(address, port) or allowed.has_name(plain(host), port)):
        raise refused(f"{host} leads to an address that is not of the public internet")


def check_store(host: str, address: str, port: int, allowed: Allowed) -> None:
    """As `check_address`, for a store that a flow names: also on a port above the system's own, as MinIO has.

    Errors: InvalidRequest `URI_NOT_ALLOWED`.
    """
    check_address(host, address, port, allowed)
    named = allowed.has_name(plain(host), port) or allowed.has_address(address, port)
    if port not in _PORTS and port < _FREE_PORTS and not named:
        raise refused(f"{host}: port {port} is no store's; use 80, 443, or one from {_FREE_PORTS} on")


def plain(host: str) -> str:
    """`host` as two spellings of it are equal."""
    return host.lower().rstrip(".")


def shown(url: URL) -> str:
    """What of the URL may be told: no user, no query."""
    return str(url.with_user(None).with_query(None).with_fragment(None)) if url.absolute else url.raw_path


def refused(why: str) -> InvalidRequest:
    """The error of a URL that is not asked for."""
    return InvalidRequest(why, code="URI_NOT_ALLOWED")


def _parsed(text: str) -> URL:
    if any(character.isspace() or not character.isprintable() or character == "\\" for character in text):
        raise refused("a URL has no blanks, control characters or backslashes")
    try:
        url = URL(text, encoded=_PLAIN.fullmatch(text) is not None)
        if not url.absolute or not url.raw_host:
            raise refused("give a whole URL, as https://example.com/file.png")
        if url.raw_user is not None or url.raw_password is not None:
            raise refused(f"{url.scheme}://{url.raw_host}: a URL here has no user or password")
        _ = url.port  # parsed when first asked for
    except (ValueError, IndexError) as error:
        # The parser knows nothing of some odd places of brackets.
        raise refused("that is no URL; give one as https://example.com/file.png") from error
    return url


def _host_of(url: URL) -> str:
    """The host, in lower case. Every spelling of an address but the usual one is refused: they only ever hide."""
    host = plain(url.raw_host or "")
    odd = _ENDS_IN_NUMBER.fullmatch(url.raw_host or "") and not _CANONICAL_4.fullmatch(url.raw_host or "")
    if odd or not (_HOST.fullmatch(host) or (":" in host and "%" not in host)):
        raise refused(f"{host!r} is no usual way to write a host")
    return host


def _is_literal(host: str) -> bool:
    return ":" in host or _CANONICAL_4.fullmatch(host) is not None
