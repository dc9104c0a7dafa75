"""Whatever a stranger sends, it is taken or refused with an error of ours; and no length of it takes for ever."""

import contextlib
import io
import json
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import requests
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pupload.client.sse import Frame, frames
from pupload.containers.logs import MAX_LINE_BYTES, LineSplitter, Log, progress_of, readable
from pupload.containers.streams import _frames
from pupload.containers.trees import NotKept, Room, unpack
from pupload.controller.evaluations import read_verdict
from pupload.controller.given import read_data_uri
from pupload.controller.references import Reference, References
from pupload.controller.routes.uploads import PartNumbers, UploadWish
from pupload.controller.secrets import SecretBox
from pupload.controller.tools import ToolAnswers
from pupload.document import Document
from pupload.errors import CallerError, PuploadError
from pupload.flow.argv import split
from pupload.flow.load import FlowDocuments, PostedRun, load_documents, load_request, read_json, read_yaml
from pupload.flow.mime import normal
from pupload.flow.nodedef import NodeDef
from pupload.flow.plan import Edge
from pupload.flow.request import ReplayRequest, StepRequest
from pupload.flow.session import SessionRequest
from pupload.flow.sniff import HEAD_BYTES, sniff
from pupload.log import redact
from pupload.protocol import Beat, Claim, Finish, Hello, Lines, Sign
from pupload.run.state import Artifact, RunID
from pupload.units import parse_duration, parse_size
from pupload.web.addresses import Allowed
from pupload.web.urls import check_url
from tests.support.described import EXAMPLES

TRIED = settings(
    max_examples=EXAMPLES * 10 or 60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
READ = (FlowDocuments, PostedRun, StepRequest, ReplayRequest, NodeDef, SessionRequest)
HELD = (ToolAnswers, UploadWish, PartNumbers, Hello, Claim, Beat, Sign, Lines, Finish)
"""Documents that are read without a look for depth and length first: their members bound themselves."""
MEMBERS = sorted({name for kind in (*READ, *HELD) for name in kind.members().values()})
SCALAR = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from(["512mb", "1h30m", "${in}", "${PARAM.x}", "\0", "\ud800", "", "a/b", "run_1", "9" * 400]),
)  # fmt: skip
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(MEMBERS), st.text(max_size=8)), inner, max_size=5),
    ),
    max_leaves=12,
)
OBJECT = st.dictionaries(st.sampled_from(MEMBERS), VALUE, max_size=6)
BYTES = st.binary(max_size=400)


@TRIED
@given(OBJECT, st.booleans())
def test_any_document_is_a_flow_or_refused(body: dict[str, Any], lenient: bool) -> None:
    with contextlib.suppress(CallerError):
        load_documents(body, lenient=lenient)


@TRIED
@given(st.sampled_from(READ), OBJECT)
def test_any_object_is_a_request_or_refused(kind: Any, body: dict[str, Any]) -> None:
    with contextlib.suppress(CallerError):
        load_request(body, kind)


@TRIED
@given(st.sampled_from(HELD), OBJECT)
def test_any_object_is_a_protocol_document_or_refused(kind: type[Document], body: dict[str, Any]) -> None:
    with contextlib.suppress(ValueError):
        kind.model_validate(body).wire()


@TRIED
@given(BYTES)
def test_any_bytes_are_json_or_refused(body: bytes) -> None:
    with contextlib.suppress(CallerError):
        read_json(body)


YAML_PIECE = st.sampled_from(
    ["- ", "a: ", "? ", "[", "]", "{", "}", "!!int ", "!!float ", "!!binary ", "!!timestamp ", "!!set ", "!!omap ",
     "!!pairs ", "!!python/name:os.system ", "&a ", "*a", "<<: ", "1:1", ":1" * 200, "0x", "0b", "0o7", "1_0", ".inf",
     ".nan", "1e999", "2001-13-45", "2001-01-01T99:99:99Z", "~", "'", '"', "|\n ", ">\n ", "\n", "  ", "%YAML 9\n---\n",
     "=", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "\0", "\u2028"]
)  # fmt: skip


@TRIED
@given(st.one_of(BYTES, st.lists(YAML_PIECE, max_size=12).map(lambda pieces: "".join(pieces).encode())))
def test_any_bytes_are_yaml_or_refused(body: bytes) -> None:
    with contextlib.suppress(CallerError):
        load_documents(read_yaml(body), lenient=False)


@TRIED
@given(st.one_of(st.text(max_size=60), st.text("0123456789.kmgtbhsd ", max_size=40)))
def test_any_text_is_a_size_and_a_duration_or_refused(text: str) -> None:
    for read in (parse_size, parse_duration):
        with contextlib.suppress(ValueError):
            read(text)


URL_PIECE = st.sampled_from(
    ["http", "https", "ftp", "://", ":", "/", "//", "@", "?", "#", "[", "]", "[::1]", "[::ffff:127.0.0.1]", "127.0.0.1",
     "0x7f.1", "2130706433", "localhost", "example.com", ".", "..", "%00", "%2e", "\\", ":80", ":99999", ":-1",
     "a" * 70, "\u3002", "\u0131", "\u00df", "xn--", "\t", "user:pw@", "&a=b"]
)  # fmt: skip


@TRIED
@given(st.one_of(st.lists(URL_PIECE, max_size=10).map("".join), st.text(max_size=60)))
def test_any_text_is_a_url_that_may_be_asked_or_refused(text: str) -> None:
    try:
        url = check_url(text, Allowed())
    except CallerError:
        return
    assert url.scheme == "https"
    assert url.port in {80, 443}


@TRIED
@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(st.sampled_from(["data:", ";", ",", "base64", "a/b", "charset=x", "%", "%zz", "="]), max_size=9).map(
            "".join
        ),
    )
)
def test_any_text_is_a_data_uri_or_refused(text: str) -> None:
    with contextlib.suppress(CallerError):
        read_data_uri(text)


@TRIED
@given(st.text(max_size=80))
def test_any_text_is_a_command_and_a_type_or_refused(text: str) -> None:
    normal(text)
    with contextlib.suppress(CallerError, ValueError):
        split(text)


@TRIED
@given(BYTES)
def test_any_verdict_is_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(CallerError):
        read_verdict(content)


ROOT = RunID("run_" + "0" * 28)


def references() -> References:
    return References(SecretBox(Fernet.generate_key()))


@TRIED
@given(st.data())
def test_a_reference_that_was_changed_anywhere_is_refused(data: st.DataObject) -> None:
    ours = references()
    artifact = Artifact(Edge("out"), "default", "key", 1, "text/plain", "0" * 64, origin=ROOT)
    signed = ours.sign(Reference(ROOT, "d", artifact))
    place = data.draw(st.integers(0, len(signed) - 1))
    changed = signed[:place] + data.draw(st.text(max_size=3)) + signed[place + 1 :]
    with contextlib.suppress(PuploadError):
        assert ours.read(changed, ROOT) == Reference(ROOT, "d", artifact)


@TRIED
@given(st.text(max_size=100))
def test_no_text_is_a_reference_of_ours(text: str) -> None:
    with pytest.raises(PuploadError):
        references().read(text, ROOT)


@TRIED
@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2, 3, 255]), BYTES), max_size=6), st.integers(1, 60), st.integers(0, 8)
)
def test_output_is_the_same_however_its_frames_are_cut(written: list[tuple[int, bytes]], piece: int, cut: int) -> None:
    wire = b"".join(bytes([number, 0, 0, 0]) + len(part).to_bytes(4, "big") + part for number, part in written)
    whole = {1: b"", 2: b""}
    for number, part in written:
        whole[2 if number == 2 else 1] += part
    told = {"stdout": b"", "stderr": b""}
    for stream, part in _frames(cast("requests.Response", _Answer(_Raw(wire, piece)))):
        told[stream] += part
    assert told == {"stdout": whole[1], "stderr": whole[2]}
    broken = wire[: len(wire) - cut]
    assert sum(len(p) for _, p in _frames(cast("requests.Response", _Answer(_Raw(broken, piece))))) <= len(broken)


@dataclass
class _Raw:
    wire: bytes
    piece: int
    taken: int = 0

    def read1(self, most: int) -> bytes:
        given, self.wire = self.wire[: self.piece], self.wire[self.piece :]
        self.taken += len(given)
        return given


@dataclass
class _Answer:
    raw: _Raw


@TRIED
@given(
    st.lists(st.one_of(BYTES, st.sampled_from([b"\n", b"\r\n", b"\0", b"x" * 20_000, b"::progress 50%\n"])), max_size=8)
)
def test_log_lines_are_bounded_and_harmless_and_lose_nothing(pieces: list[bytes]) -> None:
    splitter = LineSplitter()
    lines = [line for piece in pieces for line in splitter.feed(piece)] + splitter.rest()
    assert all(len(line) <= MAX_LINE_BYTES and b"\n" not in line for line in lines)
    assert b"".join(lines) == b"".join(pieces).replace(b"\n", b"")
    for line in lines:
        assert not set(readable(line)) & set(map(chr, (*range(9), *range(10, 32), 127)))
        progress_of(readable(line))


@TRIED
@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), BYTES), max_size=8))
def test_a_log_takes_any_bytes(pieces: list[tuple[str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder), live_bytes=100, whole_bytes=300, wake=lambda: None)
        for stream, data in pieces:
            log.feed(stream, data)
        log.end()
        assert all(json.loads(line) for line in log.whole())
        log.close()


@TRIED
@given(st.binary(max_size=600), st.binary(max_size=100), st.sampled_from(
    [b"", b"PK\x03\x04", b"BM", b"RIFF", b"\0\0\0\x18ftyp", b"\xff\xfb", b"<?xml", b"<!DOCTYPE [", b"P6\n#",
     b"{\"", b"OggS\0"]
))  # fmt: skip
def test_any_bytes_have_a_type(content: bytes, tail: bytes, mark: bytes) -> None:
    head = mark + content
    assert "/" in sniff(head, len(head), tail)
    assert "/" in sniff(head, len(head) + 10**6, tail)


async def _pieces(wire: bytes, size: int) -> AsyncIterator[bytes]:
    for place in range(0, len(wire), size):
        yield wire[place : place + size]


LINE = st.sampled_from(
    [b"id: 5", b"id", b"data: {}", b"data", b"data:x", b":ping", b"event: a", b"\xff\xfe", b"retry: x", b"", b"x" * 90]
)


@TRIED
@given(st.lists(LINE, max_size=14), st.integers(1, 40), st.sampled_from([b"\n", b"\r\n"]))
async def test_a_stream_is_the_same_however_it_is_cut(lines: list[bytes], size: int, end: bytes) -> None:
    wire = end.join(lines)
    found: list[Frame] = [frame async for frame in frames(_pieces(wire, size))]
    assert found == [frame async for frame in frames(_pieces(wire, len(wire) or 1))]


NAME = st.sampled_from(
    ["top/a", "top/b/c", "top/../x", "/etc/x", "top", "top//a", "top/\0", "a", "top/" + "d/" * 40, "top/a/a"]
)


@st.composite
def tars(draw: st.DrawFn) -> bytes:
    """A tar with entries of every kind at every place, some of its bytes changed."""
    made = io.BytesIO()
    with tarfile.open(
        fileobj=made, mode="w", format=draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    ) as tar:
        for name in draw(st.lists(NAME, max_size=6)):
            entry = tarfile.TarInfo(name)
            kinds = [
                tarfile.REGTYPE,
                tarfile.DIRTYPE,
                tarfile.SYMTYPE,
                tarfile.LNKTYPE,
                tarfile.FIFOTYPE,
                tarfile.CHRTYPE,
            ]
            entry.type, entry.linkname = draw(st.sampled_from(kinds)), "/etc/passwd"
            content = draw(st.binary(max_size=40)) if entry.type == tarfile.REGTYPE else b""
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    wire = bytearray(made.getvalue())
    for place, value in draw(st.lists(st.tuples(st.integers(0, 2047), st.integers(0, 255)), max_size=4)):
        wire[place % len(wire)] = value
    return bytes(wire[: draw(st.integers(0, len(wire)))])


@TRIED
@given(tars())
def test_any_archive_stays_in_its_place_and_room_or_is_refused(wire: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "in" / "target"
        target.mkdir(parents=True)
        with contextlib.suppress(NotKept, OSError):
            unpack(io.BytesIO(wire), target, Room(60, 4), under="top/")
        assert [path for path in Path(folder).rglob("*") if target not in (path, *path.parents)] == [target.parent]
        found = list(target.rglob("*"))
        assert len(found) <= 4
        assert all((path.is_file() or path.is_dir()) and not path.is_symlink() for path in found)
        assert sum(path.stat().st_size for path in found if path.is_file()) <= 60


LONG = 400_000
LONG_TEXTS: tuple[tuple[Callable[[str], object], str], ...] = (
    (parse_duration, "1" * LONG),
    (parse_duration, "1m" * LONG + "x"),
    (parse_size, "1" + " " * LONG + "x"),
    (redact, "https://" * LONG),
    (redact, "http://a?" * LONG),
    (redact, "http://a?" + "X-Am" * LONG),
    (normal, "a/" + ";" * LONG),
    (read_data_uri, "data:a/b" + ";a" * LONG),
    (lambda text: sniff(text.encode()[:HEAD_BYTES], LONG), "<!doctype [" * LONG),
    (lambda text: sniff(text.encode()[:HEAD_BYTES], LONG), '["' + "\\" * LONG),
    (lambda text: load_documents({"Flow": {text: 1}}, lenient=False), "x" * 60_000),
    (lambda text: load_documents({"Flow": {"Nodes": [{f"{text}{n}": 0} for n in range(20_000)]}}, lenient=False), "x"),
)  # fmt: skip


@pytest.mark.parametrize(("read", "text"), LONG_TEXTS, ids=range(len(LONG_TEXTS)))
def test_work_grows_no_faster_than_what_is_sent(read: Callable[[str], object], text: str) -> None:
    # Where it grew with the square of the length, the test's own timeout would end it.
    with contextlib.suppress(ValueError, CallerError):
        read(text)


def test_names_in_a_zip_that_overlap_are_not_kept_whole() -> None:
    entry = b"PK\x03\x04" + b"\0" * 22 + b"\xff\xff" + b"\0\0"
    head = entry * (HEAD_BYTES // len(entry))
    assert sniff(head, len(head), head) == "application/zip"
