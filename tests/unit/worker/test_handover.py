"""What was just stored, kept for the next attempt that reads it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pupload.worker.handover import MOST_FILES, Handover

pytestmark = pytest.mark.unit


@pytest.fixture
def handover() -> Iterator[Handover]:
    """Room for ten bytes."""
    handover = Handover(most_bytes=10)
    yield handover
    handover.close()


def keep(handover: Handover, name: str, content: bytes, folder: Path) -> None:
    path = folder / name
    path.write_bytes(content)
    with path.open("rb") as file:
        handover.keep(name, file.fileno(), len(content))
    path.unlink()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def read(handover: Handover, name: str) -> bytes | None:
    try:
        with handover.opened(name) as fd:
            return os.pread(fd, 100, 0)
    except KeyError:
        return None


def test_a_file_is_there_after_its_name_and_its_first_descriptor_are_gone(handover: Handover, tmp_path: Path) -> None:
    keep(handover, "a", b"content", tmp_path)
    assert read(handover, "a") == b"content"
    assert read(handover, "a") == b"content"


def test_what_was_never_kept_is_not_there(handover: Handover) -> None:
    assert read(handover, "a") is None


def test_the_oldest_make_room(handover: Handover, tmp_path: Path) -> None:
    for name in "abc":
        keep(handover, name, b"1234", tmp_path)
    assert [read(handover, name) for name in "abc"] == [None, b"1234", b"1234"]


def test_what_is_larger_than_all_the_room_is_not_kept(handover: Handover, tmp_path: Path) -> None:
    keep(handover, "a", b"12345678901", tmp_path)
    assert read(handover, "a") is None


def test_the_number_of_descriptors_is_bounded(handover: Handover, tmp_path: Path) -> None:
    before = descriptors()
    for number in range(MOST_FILES + 5):
        keep(handover, str(number), b"", tmp_path)
    assert descriptors() == before + MOST_FILES
    handover.close()
    assert descriptors() == before


def test_the_same_content_is_kept_once(handover: Handover, tmp_path: Path) -> None:
    before = descriptors()
    for _ in range(3):
        keep(handover, "a", b"1234", tmp_path)
    assert descriptors() == before + 1


def test_what_nobody_asked_for_in_time_is_let_go(tmp_path: Path) -> None:
    handover = Handover(kept_s=0.0)
    keep(handover, "a", b"1234", tmp_path)
    handover.drop_old()
    assert read(handover, "a") is None
