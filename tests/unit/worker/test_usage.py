"""What a program writes is counted as it takes room, and no more of it is looked at than needed."""

from pathlib import Path

import pytest

from pupload.containers.janitor import remove_tree
from pupload.worker.usage import beyond
from tests.support.nests import nested

pytestmark = pytest.mark.unit

MB = 1024**2


def test_within_the_limits_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * MB)
    assert beyond([tmp_path], 2 * MB) == ""


def test_bytes_are_counted_in_every_folder(tmp_path: Path) -> None:
    for name in ("a", "b/c"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_bytes(b"x" * MB)
    assert beyond([tmp_path], MB) == "more than 1048576 bytes"


def test_the_limit_is_for_all_folders_together(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x" * MB)
    assert beyond([tmp_path / "a"], MB + 4096) == ""
    assert beyond([tmp_path / "a", tmp_path / "b"], MB + 4096) == "more than 1052672 bytes"


def test_holes_count_nothing(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert beyond([tmp_path], MB) == ""


def test_many_files_are_too_much_too(tmp_path: Path) -> None:
    for n in range(20):
        (tmp_path / str(n)).touch()
    assert beyond([tmp_path], MB, max_entries=10) == "more than 10 files"


def test_a_folder_that_is_gone_or_closed_is_passed_over(tmp_path: Path) -> None:
    assert beyond([tmp_path / "gone"], MB) == ""


def test_folders_deeper_than_a_path_can_say_are_too_much(tmp_path: Path) -> None:
    nested(tmp_path, 3000)
    try:
        assert beyond([tmp_path], 1024 * MB) == "folders in folders, deeper than a path can say"
    finally:
        remove_tree(tmp_path)
