"""A file's type by its content alone, never by its name. PURE: it looks at bytes that others have read.

Text is told apart first, so that words which look like a signature ("BM hello", "MZ", "II*") stay text; what is not
text is looked up in `signatures.py`, and the few families that share one mark are told apart by their structure.
It is our own small table because it must be memory-safe, quick to import, and silent when in doubt: puremagic calls
every ZIP a DOCX, "BM hello" a bitmap and "MZ is a town" a program, and has no type for ELF or M4A.
"""

import codecs
import json
import re

from pupload.flow import mime
from pupload.flow.signatures import (
    BRANDS,
    GENERIC_IMAGE_BRANDS,
    IFF_FORMS,
    MOVIE_ATOMS,
    RIFF_FORMS,
    SIGNATURES,
    ZIP_MARKS,
    ZIP_TYPES,
)

HEAD_BYTES = 64 * 1024
"""As much of the beginning as `sniff` wants to see."""
TAIL_BYTES = 64 * 1024
"""As much of the end as `sniff` wants to see; a ZIP lists its members there."""

JSON = "application/json"
XML = "application/xml"
ZIP = "application/zip"

_CONTROL = re.compile(r"[\x00-\x07\x0b\x0e-\x1a\x1c-\x1f\x7f]")
_BEGINS_LIKE_JSON = re.compile(
    r"""\{\s*"(?:[^"\\]|\\.)*"\s*:|\[\s*[\[{]|\[\s*(?:"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null)\s*,"""
)
_NETPBM = re.compile(rb"P[1-6]\r?\n(?:#[^\n]*\n)*\d+\s+\d+\s")
_NETPBM_BINARY = re.compile(rb"P[456]\s+(?:#[^\n]*\n)*\d+\s+\d+\s")
_ELEMENT = re.compile(r"<(?:[A-Za-z_][\w.-]*:)?([A-Za-z_][\w.-]*)")
_ZIP_NAME_BYTES = 64
"""As much of a member's name as any mark has: names that overlap must not add up to more than the file."""
_ZIP_MARK = b"PK\x03\x04"
_ZIP_NAMES = re.compile(rb"PK\x03\x04.{22}(..)..|PK\x01\x02.{24}(..).{16}", re.DOTALL)


def sniff(head: bytes, size: int, tail: bytes = b"") -> str:
    """The MIME type of a file of `size` bytes that begins with `head` and ends with `tail`.

    Shape: `application/x-empty` for no bytes, `text/plain` for text that says no more of itself,
    `application/octet-stream` for what is not known. Give `HEAD_BYTES` and, for office documents, `TAIL_BYTES`.
    """
    if size == 0 or not head:
        return mime.EMPTY
    if _NETPBM.match(head):
        return "image/x-portable-anymap"
    text = _decoded(head, whole=size <= len(head))
    if text is not None:
        return _text_type(text, whole=size <= len(head))
    if _is_one_byte_text(head):
        return mime.TEXT
    return _binary_type(head, tail) or mime.UNKNOWN


def sniff_head(head: bytes, size: int) -> str:
    """As `sniff`, of the beginning alone; "" where the end has a word in it."""
    return "" if head.startswith(_ZIP_MARK) else sniff(head, size)


def _decoded(head: bytes, *, whole: bool) -> str | None:
    """`head` as text; None when it is none, or in an encoding that bytes do not tell."""
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head, final=whole)
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else text.removeprefix("\ufeff")


_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


_ASCII = bytes(range(128))


def _is_one_byte_text(head: bytes) -> bool:
    """True for text of the Latin kind: no control characters, and mostly ASCII."""
    if _CONTROL.search(head.decode("latin-1")):
        return False
    return len(head.translate(None, delete=_ASCII)) < 0.4 * len(head)


def _text_type(text: str, *, whole: bool) -> str:
    body = text.lstrip()
    for mark, found in (
        ("%PDF-", "application/pdf"),
        ("%!PS", "application/postscript"),
        ("{\\rtf", "application/rtf"),
    ):
        if body.startswith(mark):
            return found
    if body.startswith("<"):
        return _markup_type(body)
    if body.startswith(("{", "[")) and _is_json(body, whole=whole):
        return JSON
    return mime.TEXT


def _is_json(body: str, *, whole: bool) -> bool:
    if not whole:
        return _BEGINS_LIKE_JSON.match(body) is not None
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def _markup_type(body: str) -> str:
    is_xml, is_html, root = _prolog(body)
    if root == "svg":
        return "image/svg+xml"
    if is_html or root == "html":
        return "application/xhtml+xml" if is_xml else "text/html"
    return XML if is_xml else mime.TEXT


def _prolog(body: str) -> tuple[bool, bool, str]:
    """Whether `body` is declared as XML, as HTML, and the name of its first element in lower case."""
    place, is_xml, is_html = 0, body.startswith("<?xml"), False
    while True:
        place += len(body[place : place + 4096]) - len(body[place : place + 4096].lstrip())
        if body.startswith("<?", place):
            end = body.find("?>", place) + 2
        elif body.startswith("<!--", place):
            end = body.find("-->", place) + 3
        elif body[place : place + 9].lower() == "<!doctype":
            is_html |= body[place + 9 : place + 32].lstrip().lower().startswith("html")
            end = _doctype_end(body, place)
        else:
            element = _ELEMENT.match(body, place)
            return is_xml, is_html, element[1].lower() if element else ""
        if end <= place:
            return is_xml, is_html, ""
        place = end


def _doctype_end(body: str, place: int) -> int:
    close, subset = body.find(">", place), body.find("[", place)
    if -1 < subset < close:
        close = body.find("]>", subset) + 1
    return close + 1


def _binary_type(head: bytes, tail: bytes) -> str:
    if head.startswith(_ZIP_MARK):
        return _zip_type(head, tail)
    if _NETPBM_BINARY.match(head):
        return "image/x-portable-anymap"
    for family in (_riff_type, _media_type, _matroska_type, _ogg_type, _bitmap_type):
        found = family(head)
        if found:
            return found
    known = next((kind for at, mark, kind in SIGNATURES if head.startswith(mark, at)), "")
    return known or _stream_type(head)


def _zip_type(head: bytes, tail: bytes) -> str:
    """Which kind of ZIP, by what its first member says or by the names of its members."""
    said = head[38 : 38 + 64] if head[30:38] == b"mimetype" else b""
    for kind in ZIP_TYPES:
        if said.startswith(kind.encode()):
            return kind
    names = _zip_names(head) | _zip_names(tail)
    return next((kind for mark, kind in ZIP_MARKS if any(name.startswith(mark) for name in names)), ZIP)


def _zip_names(part: bytes) -> set[bytes]:
    names = set()
    for entry in _ZIP_NAMES.finditer(part):
        length = min(int.from_bytes(entry[1] or entry[2], "little"), _ZIP_NAME_BYTES)
        names.add(part[entry.end() : entry.end() + length])
    return names


def _riff_type(head: bytes) -> str:
    if head.startswith(b"RIFF"):
        return RIFF_FORMS.get(head[8:12], "")
    return IFF_FORMS.get(head[8:12], "") if head.startswith(b"FORM") else ""


def _media_type(head: bytes) -> str:
    """Of the ISO base media family: MP4, MOV, HEIC, AVIF …"""
    if head[4:8] in MOVIE_ATOMS:
        return "video/quicktime"
    if head[4:8] != b"ftyp":
        return ""
    brand, box_end = head[8:12], min(int.from_bytes(head[:4], "big"), 256)
    if brand in GENERIC_IMAGE_BRANDS:
        compatible = (head[place : place + 4] for place in range(16, box_end, 4))
        return next((BRANDS[other] for other in compatible if other in BRANDS), "image/heic")
    if brand.startswith(b"3g"):
        return "video/3gpp"
    return BRANDS.get(brand, "video/mp4")


def _matroska_type(head: bytes) -> str:
    if not head.startswith(b"\x1aE\xdf\xa3"):
        return ""
    return "video/webm" if b"webm" in head[:64] else "video/x-matroska"


def _ogg_type(head: bytes) -> str:
    if not head.startswith(b"OggS\0"):
        return ""
    return "video/ogg" if b"\x80theora" in head[:512] else "audio/ogg"


def _bitmap_type(head: bytes) -> str:
    """A bitmap's mark is only two letters; its header must make sense too."""
    header_size = int.from_bytes(head[14:18], "little")
    sensible = len(head) >= 26 and head[6:10] == b"\0\0\0\0" and header_size in (12, 16, 40, 52, 56, 64, 108, 124)
    return "image/bmp" if head.startswith(b"BM") and sensible else ""


def _stream_type(head: bytes) -> str:
    """Of streams that have no mark but repeat a frame: two frames in a row are no chance."""
    if len(head) > 376 and head[0] == head[188] == head[376] == 0x47:
        return "video/mp2t"
    if len(head) > 7 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        length = int.from_bytes(head[3:6], "big") >> 5 & 0x1FFF
        return "audio/aac" if length > 7 and _same_sync(head, length) else ""
    length = _mp3_frame_length(head)
    return "audio/mpeg" if length and _same_sync(head, length) else ""


def _same_sync(head: bytes, length: int) -> bool:
    return head[length : length + 2] == head[:2]


_MP3_KBITS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MP3_KBITS_LOW = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MP3_RATES = (44100, 48000, 32000)


def _mp3_frame_length(head: bytes) -> int:
    """Bytes of the MPEG layer III frame that `head` begins with; 0 when it does not.

    Source: ISO/IEC 11172-3, 13818-3.
    """
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return 0
    version, bitrate, rate, padding = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or bitrate in (0, 15) or rate == 3:
        return 0
    newest = version == 3
    kbits = (_MP3_KBITS if newest else _MP3_KBITS_LOW)[bitrate]
    hertz = _MP3_RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    return (144 if newest else 72) * kbits * 1000 // hertz + padding
