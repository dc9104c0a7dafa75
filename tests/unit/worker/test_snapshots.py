"""The beginnings of text files: cut at a character, bounded in number and size."""

from pathlib import Path

import pytest

from pupload.protocol import InputFound
from pupload.worker.snapshots import MOST_BYTES, MOST_FILES, of_inputs
from pupload.worker.staging import Staged

pytestmark = pytest.mark.unit


def staged(folder: Path, name: str, content: bytes, content_type: str = "text/plain") -> Staged:
    path = folder / name
    path.write_bytes(content)
    found = InputFound(edge=f"edge-{name}", size_bytes=len(content), sha256="", content_type=content_type)
    return Staged(name, path, found)


def test_a_short_text_is_whole(tmp_path: Path) -> None:
    (snapshot,) = of_inputs([staged(tmp_path, "a", b"hello")], 16)
    assert (snapshot.side, snapshot.port, snapshot.edge) == ("input", "a", "edge-a")
    assert (snapshot.text, snapshot.size_bytes, snapshot.truncated) == ("hello", 5, False)


def test_a_long_text_is_cut_between_characters(tmp_path: Path) -> None:
    (snapshot,) = of_inputs([staged(tmp_path, "a", ("x" + "\u20ac" * 10).encode())], 6)
    assert (snapshot.text, snapshot.truncated) == ("x\u20ac", True)


def test_what_is_no_text_is_left_out(tmp_path: Path) -> None:
    assert of_inputs([staged(tmp_path, "a", b"\x89PNG", "image/png")], 16) == []


def test_bytes_that_are_no_text_after_all_can_still_be_stored(tmp_path: Path) -> None:
    (snapshot,) = of_inputs([staged(tmp_path, "a", b"a\xff\0b")], 16)
    assert snapshot.text == "a\ufffd\ufffdb"


def test_many_and_large_files_stay_within_bounds(tmp_path: Path) -> None:
    many = [staged(tmp_path, f"f{n}", b"x") for n in range(MOST_FILES + 5)]
    assert len(of_inputs(many, 16)) == MOST_FILES
    large = [staged(tmp_path, f"g{n}", b"x" * (MOST_BYTES // 2 - 2)) for n in range(3)]
    assert len(of_inputs(large, MOST_BYTES)) == 2
