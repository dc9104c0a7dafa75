"""MIME types: which are known, which overlap, whether bytes found are bytes allowed. PURE.

Types are compared in lower case and without parameters. `major/*` and `*/*` are wildcards.
Source: contract.md 4.
"""

import mimetypes
import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

from pupload.flow.signatures import REVEALED

ANY = "*/*"
TEXT = "text/plain"
EMPTY = "application/x-empty"
UNKNOWN = "application/octet-stream"

_MAJORS = frozenset(
    {"application", "audio", "font", "haptics", "image", "message", "model", "multipart", "text", "video"}
)
_TOKEN = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")

# The module's own table, not the machine's files: an extension must not depend on where a node runs.
_TABLE = mimetypes.MimeTypes(filenames=())

_EXTENSIONS = {
    "application/gzip": ".gz",
    "application/json": ".json",
    "application/octet-stream": ".bin",
    "application/vnd.apple.mpegurl": ".m3u8",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.oasis.opendocument.presentation": ".odp",
    "application/vnd.oasis.opendocument.spreadsheet": ".ods",
    "application/vnd.oasis.opendocument.text": ".odt",
    "application/epub+zip": ".epub",
    "application/x-7z-compressed": ".7z",
    "application/x-executable": "",
    "application/x-ndjson": ".ndjson",
    "application/x-xz": ".xz",
    "application/xml": ".xml",
    "application/yaml": ".yaml",
    "application/x-yaml": ".yaml",
    "application/zstd": ".zst",
    "audio/aac": ".aac",
    "audio/flac": ".flac",
    "audio/mp4": ".m4a",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/wav": ".wav",
    "audio/x-wav": ".wav",
    "image/avif": ".avif",
    "image/heic": ".heic",
    "image/heif": ".heif",
    "image/jpeg": ".jpg",
    "image/svg+xml": ".svg",
    "image/tiff": ".tiff",
    "image/webp": ".webp",
    "image/x-icon": ".ico",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/markdown": ".md",
    "text/plain": ".txt",
    "text/xml": ".xml",
    "text/yaml": ".yaml",
    "video/mp4": ".mp4",
    "video/mpeg": ".mpg",
    "video/ogg": ".ogv",
    "video/quicktime": ".mov",
    "video/webm": ".webm",
    "video/x-matroska": ".mkv",
    "video/matroska": ".mkv",
}

_BY_EXTENSION = {extension: mime for mime, extension in reversed(_EXTENSIONS.items()) if extension}

# Spellings of one type; the first of each row is the one that sniffing gives.
_SAME = (
    ("application/gzip", "application/x-gzip"),
    ("application/x-7z-compressed", "application/7z"),
    ("application/x-tar", "application/tar"),
    ("application/xml", "text/xml"),
    ("application/zip", "application/x-zip-compressed"),
    ("application/zstd", "application/x-zstd"),
    ("audio/flac", "audio/x-flac"),
    ("audio/mpeg", "audio/mp3", "audio/x-mp3"),
    ("audio/mp4", "audio/x-m4a", "audio/m4a"),
    ("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"),
    ("image/bmp", "image/x-ms-bmp", "image/x-bmp"),
    ("image/heic", "image/heif"),
    ("image/jpeg", "image/jpg", "image/pjpeg"),
    ("image/tiff", "image/tif"),
    ("image/x-icon", "image/vnd.microsoft.icon"),
    ("video/x-matroska", "video/matroska"),
)
_CANONICAL = {spelling: row[0] for row in _SAME for spelling in row}

# fmt: off
_TEXT_APPLICATIONS = frozenset(
    "application/" + minor
    for minor in (
        "csv", "ecmascript", "graphql", "javascript", "json", "json5", "jsonl", "ndjson", "rtf", "sql",
        "toml", "typescript", "x-csh", "x-httpd-php", "x-javascript", "x-json", "x-latex", "x-ndjson",
        "x-perl", "x-php", "x-python", "x-ruby", "x-sh", "x-shellscript", "x-sql", "x-subrip", "x-tcl",
        "x-tex", "x-toml", "x-yaml", "xml", "yaml",
    )
)
# fmt: on


@lru_cache(maxsize=1024)
def normal(mime: str) -> str:
    """`mime` in lower case, without parameters, and in its usual spelling where it has several.

    >>> normal("Text/Plain; charset=utf-8"), normal("image/jpg")
    ('text/plain', 'image/jpeg')
    """
    bare = mime.partition(";")[0].strip().lower()
    return _CANONICAL.get(bare, bare)


def is_known(mime: str) -> bool:
    """True when `mime` is a type or a wildcard that the database has, or whose major type is registered.

    >>> is_known("image/*"), is_known("application/x-mine"), is_known("picture/png"), is_known("image")
    (True, True, False, False)
    """
    major, slash, minor = mime.partition(";")[0].strip().lower().partition("/")
    if not slash or (major == "*" and minor != "*"):
        return False
    return major in _MAJORS | {"*"} and (minor == "*" or _TOKEN.fullmatch(minor) is not None)


def is_concrete(mime: str) -> bool:
    """True for a type that is no wildcard."""
    return "*" not in mime


def overlap(one: Iterable[str], other: Iterable[str]) -> bool:
    """True when some type is in both sets, wildcards counted in either direction."""
    mine, theirs = {normal(mime) for mime in one}, {normal(mime) for mime in other}
    return any(_covered(mime, theirs) for mime in mine) or any(_covered(mime, mine) for mime in theirs)


def intersection(one: Sequence[str], other: Sequence[str]) -> tuple[str, ...]:
    """The types that are in both sets, of two that meet the narrower.

    >>> intersection(["image/*", "text/plain"], ["image/png", "*/*"])
    ('image/*', 'text/plain', 'image/png')
    """
    mine, theirs = [normal(mime) for mime in one], [normal(mime) for mime in other]
    in_theirs, in_mine = frozenset(theirs), frozenset(mine)
    both = [mime for mime in mine if _covered(mime, in_theirs)] + [mime for mime in theirs if _covered(mime, in_mine)]
    return tuple(dict.fromkeys(both))


def _covered(mime: str, by: Collection[str]) -> bool:
    """True when `by`, a set, has `mime` or a wildcard for it."""
    return mime in by or ANY in by or f"{mime.partition('/')[0]}/*" in by


def _meet(one: str, other: str) -> bool:
    if one == other or ANY in (one, other):
        return True
    (major, _, minor), (other_major, _, other_minor) = one.partition("/"), other.partition("/")
    return major == other_major and "*" in (minor, other_minor)


def is_text(mime: str) -> bool:
    """True for types whose files are text that people can read, as far as bytes can tell."""
    bare = normal(mime)
    return bare.startswith("text/") or bare.endswith(("+json", "+xml", "+yaml")) or bare in _TEXT_APPLICATIONS


def matches(found: str, allowed: Collection[str]) -> bool:
    """True when bytes sniffed as `found` may be what one of `allowed` says.

    - Text tells little of its type. Any text found (plain, JSON, XML, HTML, SVG) satisfies `text/plain` and `text/*`;
      plain text satisfies every type of text, as CSV, Markdown or a script look no different; JSON satisfies the
      types written in JSON, and XML those written in XML.
    - A container satisfies what is made of it, where content cannot tell more: a DOCX is a ZIP, MP4 may be all sound.
    - Bytes that nothing is known of satisfy a type that content never reveals: it is taken on trust.
    - An image, an archive or a program never satisfies a type of text, nor the other way round.
    """
    bare = normal(found)
    kinds = (bare, *_WIDER.get(bare, ()))
    return any(_satisfies(kind, normal(wanted)) for kind in kinds for wanted in allowed)


def _satisfies(found: str, wanted: str) -> bool:
    if _meet(found, wanted):
        return True
    if is_text(found):
        return wanted in (TEXT, "text/*") or (is_text(wanted) and _may_be_written_in(found, wanted))
    return found in _OPEN and is_concrete(wanted) and not is_text(wanted) and wanted not in REVEALED


def _may_be_written_in(found: str, wanted: str) -> bool:
    if found == TEXT:
        return True
    return any(word in wanted for mark, words in _FAMILIES if mark in found for word in words)


_FAMILIES = (("json", ("json", "yaml", "javascript")), ("xml", ("xml",)), ("html", ("html",)))
_OPEN = frozenset({UNKNOWN, "application/zip", "application/gzip", "application/x-ole-storage", "image/tiff"})
"""What says nothing of the type that is made of it: a raw photograph is a TIFF, an old document an OLE storage."""

_OFFICE = (
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "application/vnd.oasis.opendocument.text",
    "application/vnd.oasis.opendocument.spreadsheet",
    "application/vnd.oasis.opendocument.presentation",
    "application/epub+zip",
    "application/java-archive",
)
_WIDER: dict[str, tuple[str, ...]] = dict.fromkeys(_OFFICE, ("application/zip",)) | {
    "video/webm": ("video/x-matroska", "audio/webm"),
    "video/mp4": ("video/quicktime", "audio/mp4", "application/mp4"),
    "video/quicktime": ("video/mp4",),
    "audio/mp4": ("video/mp4",),
    "audio/ogg": ("application/ogg",),
    "video/ogg": ("application/ogg",),
    "image/x-portable-anymap": ("image/x-portable-bitmap", "image/x-portable-graymap", "image/x-portable-pixmap"),
    "application/x-executable": ("application/x-sharedlib", "application/x-pie-executable", "application/x-elf"),
}


def extension_for(mime: str) -> str:
    """The usual file extension of a type, with its dot; "" for wildcards and what is not known.

    >>> extension_for("image/jpeg"), extension_for("text/plain"), extension_for("image/*")
    ('.jpg', '.txt', '')
    """
    bare = normal(mime)
    known = _EXTENSIONS.get(bare)
    return known if known is not None else _TABLE.guess_extension(bare) or ""


def type_of_name(name: str) -> str:
    """The type that a file's name tells by its extension; "" where it tells none.

    >>> type_of_name("photo.JPG"), type_of_name("notes"), type_of_name("page.webp")
    ('image/jpeg', '', 'image/webp')
    """
    stem, dot, extension = name.rpartition(".")
    if not (stem and dot):
        return ""
    known = _BY_EXTENSION.get(f".{extension.lower()}")
    return known or normal(_TABLE.guess_type(f"x.{extension.lower()}")[0] or "")


def extension_of(types: Collection[str]) -> str:
    """The extension of a set of types: that of its only type, "" when it has several or a wildcard."""
    distinct = {normal(mime) for mime in types}
    return extension_for(distinct.pop()) if len(distinct) == 1 else ""
