"""What a program has left is removed, however it was left."""

from pathlib import Path

import pytest

from pupload.containers.janitor import remove_tree
from tests.support.nests import nested

pytestmark = pytest.mark.unit


def test_a_tree_without_permissions_goes(tmp_path: Path) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "a/b/c/file").touch(0o000)
    for closed in ("a/b/c", "a/b", "a"):
        (tmp_path / closed).chmod(0o000)
    remove_tree(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_folders_that_no_path_can_name_go(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    nested(tmp_path / "a", 3000)
    remove_tree(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_what_links_lead_to_stays(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    (tmp_path / "a").mkdir()
    (tmp_path / "a/link").symlink_to(tmp_path / "kept")
    remove_tree(tmp_path / "a")
    remove_tree(tmp_path / "a")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["file"]
