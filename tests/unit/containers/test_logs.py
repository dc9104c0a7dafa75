"""Output into lines: cut right whatever the pieces, harmless whatever the bytes, bounded whatever the amount."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pupload.containers.logs import MAX_LINE_BYTES, LineSplitter, Log, progress_of, readable

pytestmark = pytest.mark.unit


def cut(pieces: list[bytes]) -> list[bytes]:
    splitter = LineSplitter()
    return [line for piece in pieces for line in splitter.feed(piece)] + splitter.rest()


@given(st.lists(st.binary(max_size=50) | st.just(b"\n") | st.just(b"x" * 9000), max_size=12))
def test_lines_do_not_depend_on_the_pieces_they_come_in(pieces: list[bytes]) -> None:
    assert cut(pieces) == cut([b"".join(pieces)])


@given(st.binary(max_size=3 * MAX_LINE_BYTES))
def test_nothing_is_lost_and_no_line_is_too_long(data: bytes) -> None:
    lines = cut([data])
    assert b"".join(lines) == data.replace(b"\n", b"")
    assert all(len(line) <= MAX_LINE_BYTES for line in lines)


def test_a_line_of_exactly_the_longest_length_is_one_line() -> None:
    assert cut([b"x" * MAX_LINE_BYTES, b"\ny\n"]) == [b"x" * MAX_LINE_BYTES, b"y"]


@given(st.binary(max_size=200))
def test_text_has_no_control_characters_whatever_the_bytes(data: bytes) -> None:
    text = readable(data)
    assert all(char == "\t" or char.isprintable() or not char.isascii() for char in text)
    assert "\x00" not in text
    text.encode()


@pytest.mark.parametrize(
    ("text", "percent"),
    [
        ("::progress 37%", 37.0), ("::progress 12.5%", 12.5), ("::progress 3/4", 75.0), ("::progress 250%", 100.0),
        ("::progress 0/0", None), ("::progress", None), ("progress 3%", None), ("::progress 3 %  ", 3.0),
        ("::progress -1%", None), ("see ::progress 3%", None), ("::progress 1.5/3", 50.0),
    ],
)  # fmt: skip
def test_progress_is_read_from_its_own_lines_only(text: str, percent: float | None) -> None:
    assert progress_of(text) == percent


def a_log(folder: Path, *, live: int = 10_000, whole: int = 100_000) -> Log:
    return Log(folder, live_bytes=live, whole_bytes=whole, wake=lambda: None)


def texts(log: Log) -> list[str]:
    return [line.text for line in log.take(1 << 30, 1 << 30)[0]]


def test_progress_lines_are_no_part_of_the_log(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.feed("stdout", b"a\n::progress 10%\n::progress 20%\nb\n")
    lines, progress = log.take(10, 1 << 30)
    assert ([line.text for line in lines], progress) == (["a", "b"], 20.0)
    assert log.take(10, 1 << 30) == ([], None)
    log.close()


def test_a_batch_ends_with_the_line_that_goes_beyond_its_bytes(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.feed("stdout", "äö\nü\nß\n".encode())
    assert [[line.text for line in log.take(10, 6)[0]] for _ in range(3)] == [["äö", "ü"], ["ß"], []]
    log.close()


def test_what_is_shown_live_is_counted_in_bytes(tmp_path: Path) -> None:
    log = a_log(tmp_path, live=100)
    log.feed("stdout", ("🙂" * 30 + "\nafter\n").encode())
    assert "after" not in texts(log)
    log.close()


def test_streams_do_not_mix_within_a_line(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.feed("stdout", b"to ")
    log.feed("stderr", b"oh ")
    log.feed("stdout", b"be\n")
    log.feed("stderr", b"no")
    log.end()
    lines, _ = log.take(10, 1 << 30)
    assert [(line.stream, line.text) for line in lines] == [("stdout", "to be"), ("stderr", "oh no")]
    assert log.last_error == "oh no"
    log.close()


def test_beyond_the_live_limit_only_the_last_lines_are_kept_for_the_end(tmp_path: Path) -> None:
    log = a_log(tmp_path, live=100)
    log.feed("stdout", b"".join(b"line %d\n" % n for n in range(1000)))
    assert log.beyond_live
    shown = texts(log)
    assert shown[0] == "line 0"
    assert shown[-1].startswith("more output than is shown live")
    assert [line.text for line in log.tail()] == [f"line {n}" for n in range(800, 1000)]
    assert len(log.whole().read().splitlines()) == 1000
    log.close()


def test_beyond_the_whole_limit_the_rest_is_dropped_and_that_is_said_once(tmp_path: Path) -> None:
    log = a_log(tmp_path, whole=300)
    log.feed("stdout", b"0123456789\n" * 100)
    log.feed("stdout", b"0123456789\n" * 100)
    *kept, said = texts(log)
    assert said == "the log has reached 300b; the rest is dropped"
    assert set(kept) == {"0123456789"}
    # A line takes about 90 bytes as it is kept, and the last one may be the one too many.
    assert len(kept) in range(3, 6)
    log.close()
