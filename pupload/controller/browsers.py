"""Pages of strangers, while no keys are in use: a browser on this machine reaches what only this machine reaches.

A page may send requests to any server of the machine that shows it, and one whose own name is made to lead here reads
the answers too. What a browser says of itself tells them from callers: the name that it asked for, and whose page asks.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from pupload.errors import Forbidden

_OURS = ("localhost", "internal", "local", "test")
"""Last parts of names that nobody on the internet can have. Source: RFC 6761, RFC 6762."""


def refuse_pages(headers: Mapping[str, str], public_url: str | None) -> None:
    """Return for a caller that is no page of somebody else's.

    Errors: Forbidden.
    """
    asked, page = headers.get("Host", ""), headers.get("Origin")
    ours = _host_of(public_url or "")
    if page is not None and not _is_here(_host_of(page), ours):
        raise _foreign(f"a page of {page[:200]!r} may not call this server")
    if asked and not _is_here(_host_of(f"//{asked}"), ours):
        raise _foreign(f"this server is not known by the name {asked[:200]!r}")


def _foreign(why: str) -> Forbidden:
    return Forbidden(
        f"{why} while it wants no keys: make one with `pup key create NAME`, or set PUPLOAD_PUBLIC_URL to its address",
        code="FOREIGN_PAGE",
    )


def _host_of(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_here(host: str, ours: str) -> bool:
    """True for an address, and for a name that no stranger can let lead here.

    >>> [_is_here(host, "pup.example.com") for host in ("127.0.0.1", "::1", "localhost", "box", "pup.example.com")]
    [True, True, True, True, True]
    >>> [_is_here(host, "") for host in ("pup.example.com", "localhost.example.com", "")]
    [False, False, False]
    """
    if "." not in host or host == ours or host.rpartition(".")[2] in _OURS:
        return host != ""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
