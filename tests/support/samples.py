"""The beginnings of real files of many types, small and made here, by name and the type that they are."""

import gzip
import io
import json
import lzma
import random
import struct
import tarfile
import zipfile

_PAD = b"\0" * 64
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
ODT = "application/vnd.oasis.opendocument.text"
TEXT = "text/plain"
UNKNOWN = "application/octet-stream"


def a_zip(*members: str, says: str = "") -> bytes:
    """A ZIP with these members; `says` is what its first member `mimetype` holds."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        if says:
            archive.writestr(zipfile.ZipInfo("mimetype"), says)
        for member in members:
            archive.writestr(member, "content " * 9)
    return buffer.getvalue()


def a_tar() -> bytes:
    """A TAR with one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("a.txt")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    return buffer.getvalue()


def a_bitmap() -> bytes:
    """A bitmap's two headers."""
    return b"BM" + struct.pack("<IHHI", 1000, 0, 0, 54) + struct.pack("<I", 40) + _PAD


def an_mp4(brand: bytes, *compatible: bytes) -> bytes:
    """The first box of a file of the MP4 family."""
    names = b"".join(compatible)
    return (16 + len(names)).to_bytes(4, "big") + b"ftyp" + brand + b"\0\0\2\0" + names + _PAD


def an_mp3() -> bytes:
    """Three frames of MPEG layer III at 128 kbit/s and 44,100 Hz, without tags."""
    return (b"\xff\xfb\x90\x64" + b"\0" * 413) * 3


def an_adts() -> bytes:
    """Two frames of AAC, 64 bytes each."""
    return (b"\xff\xf1\x50\x80\x08\x1f\xfc" + b"\1" * 57) * 2


def _matroska(kind: bytes) -> bytes:
    return b"\x1aE\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\xf2\x81\4B\xf3\x81\x08B\x82\x84" + kind + _PAD


SAMPLES: dict[str, tuple[bytes, str]] = {
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF\0" + _PAD, "image/jpeg"),
    "jpeg of a camera": (b"\xff\xd8\xff\xe1\0\x10Exif\0\0" + _PAD, "image/jpeg"),
    "jpeg without either": (b"\xff\xd8\xff\xdb\0C\0" + _PAD, "image/jpeg"),
    "png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + _PAD, "image/png"),
    "gif": (b"GIF89a\1\0\1\0\x80" + _PAD, "image/gif"),
    "webp": (b"RIFF\x24\0\0\0WEBPVP8 " + _PAD, "image/webp"),
    "tiff": (b"II*\0\x08\0\0\0" + _PAD, "image/tiff"),
    "tiff, big end first": (b"MM\0*\0\0\0\x08" + _PAD, "image/tiff"),
    "bmp": (a_bitmap(), "image/bmp"),
    "svg": (b'<?xml version="1.0"?>\n<!-- made -->\n<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml"),
    "svg with a doctype": (b'<!DOCTYPE svg PUBLIC "x" "y" [<!ENTITY a "b">]>\n<svg/>', "image/svg+xml"),
    "avif": (an_mp4(b"avif", b"avif", b"mif1"), "image/avif"),
    "avif that begins generic": (an_mp4(b"mif1", b"mif1", b"avif"), "image/avif"),
    "heic": (an_mp4(b"heic", b"mif1", b"heic"), "image/heic"),
    "pdf": (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj" + _PAD, "application/pdf"),
    "pdf, all ASCII": (b"%PDF-1.4\n1 0 obj\n<< >>\nendobj\n", "application/pdf"),
    "mp4": (an_mp4(b"isom", b"isom", b"avc1"), "video/mp4"),
    "mov": (an_mp4(b"qt  ", b"qt  "), "video/quicktime"),
    "mov, old": (b"\0\0\0\x08wide\0\0\1\0mdat" + _PAD, "video/quicktime"),
    "m4a": (an_mp4(b"M4A ", b"isom"), "audio/mp4"),
    "webm": (_matroska(b"webm"), "video/webm"),
    "mkv": (_matroska(b"matroska"), "video/x-matroska"),
    "mp3 with tags": (b"ID3\3\0\0\0\0\0\x21" + _PAD, "audio/mpeg"),
    "mp3 without tags": (an_mp3(), "audio/mpeg"),
    "aac": (an_adts(), "audio/aac"),
    "wav": (b"RIFF\x24\0\0\0WAVEfmt " + _PAD, "audio/wav"),
    "flac": (b"fLaC\0\0\0\x22" + _PAD, "audio/flac"),
    "ogg": (b"OggS\0\2" + b"\0" * 20 + b"\1vorbis" + _PAD, "audio/ogg"),
    "ogg with pictures": (b"OggS\0\2" + b"\0" * 22 + b"\x80theora" + _PAD, "video/ogg"),
    "avi": (b"RIFF\x24\0\0\0AVI LIST" + _PAD, "video/x-msvideo"),
    "transport stream": ((b"\x47" + b"\0" * 187) * 3, "video/mp2t"),
    "zip": (a_zip("a.txt"), "application/zip"),
    "docx": (a_zip("[Content_Types].xml", "_rels/.rels", "word/document.xml"), DOCX),
    "xlsx": (a_zip("[Content_Types].xml", "xl/workbook.xml"), XLSX),
    "pptx": (a_zip("[Content_Types].xml", "ppt/presentation.xml"), PPTX),
    "epub": (a_zip("META-INF/container.xml", says="application/epub+zip"), "application/epub+zip"),
    "odt": (a_zip("content.xml", says=ODT), ODT),
    "gzip": (gzip.compress(b"abc"), "application/gzip"),
    "tar": (a_tar(), "application/x-tar"),
    "xz": (lzma.compress(b"abc"), "application/x-xz"),
    "zstd": (b"\x28\xb5\x2f\xfd\4\0" + _PAD, "application/zstd"),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\4" + _PAD, "application/x-7z-compressed"),
    "elf": (b"\x7fELF\2\1\1\0" + _PAD, "application/x-executable"),
    "windows program": (b"MZ\x90\0\3\0\0\0\4\0\0\0\xff\xff" + _PAD, "application/vnd.microsoft.portable-executable"),
    "picture of numbers": (b"P6\n1 1\n255\n\0\0\0", "image/x-portable-anymap"),
    "html": (b"<!DOCTYPE html>\n<html><body>hi</body></html>", "text/html"),
    "html without a doctype": (b"\n<HTML lang=en><body>hi</body></HTML>", "text/html"),
    "xml": (b'<?xml version="1.0"?><note/>', "application/xml"),
    "json": (b'{"a": 1, "b": [1, 2]}', "application/json"),
    "json list": (b"[1, 2, 3]\n", "application/json"),
    "long json": (json.dumps({"a": ["b" * 100] * 1000}).encode(), "application/json"),
    "csv": (b"a,b,c\n1,2,3\n", TEXT),
    "text": (b"Hello world, this is text.\n", TEXT),
    "text in UTF-8": ("žluťoučký kůň\n".encode(), TEXT),
    "text in UTF-8, marked": ("kůň".encode("utf-8-sig"), TEXT),
    "text in UTF-16": ("hello".encode("utf-16"), TEXT),
    "text in Latin-1": ("MZ et Zoé sont allés au café".encode("latin-1"), TEXT),
    "short text": (b"hi", TEXT),
    "shell script": (b"#!/bin/sh\necho hi\n", TEXT),
    "coloured text": (b"\x1b[31mred\x1b[0m\n", TEXT),
    "text like a bitmap": (b"BM hello", TEXT),
    "text like a program": (b"MZ is a town", TEXT),
    "text like a TIFF": (b"II* and so on", TEXT),
    "text like a GIF": (b"GIF89a is a format", TEXT),
    "text like an MP3": (b"ID3 tags are old", TEXT),
    "text like a ZIP": (b"PK is short for Phil Katz", TEXT),
    "text like a picture of numbers": (b"P6 has 10 20 rooms", TEXT),
    "text like JSON": (b"[1] see the note {x}", TEXT),
    "text like XML": (b"<- an arrow", TEXT),
    "empty": (b"", "application/x-empty"),
    "noise": (random.Random(1).randbytes(4096), UNKNOWN),
    "short noise": (b"\x9c\x01\x00\xfe", UNKNOWN),
    "one frame sync by chance": (b"\xff\xfb\x90\x64" + random.Random(2).randbytes(500), UNKNOWN),
}
