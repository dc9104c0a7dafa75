"""How a file is named that a client saves."""

from urllib.parse import quote


def attachment(name: str) -> str:
    """The Content-Disposition under which browsers save a file as `name`.

    Source: RFC 6266, RFC 8187.

    >>> attachment('café "x".png')
    'attachment; filename="caf_ _x_.png"; filename*=UTF-8\\'\\'caf%C3%A9%20%22x%22.png'
    """
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
