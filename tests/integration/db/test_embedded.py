"""The embedded PostgreSQL as a guest on a machine: what it opens, and what it refuses."""

import os
import tempfile
from pathlib import Path

import pytest

from pupload.db.embedded import embedded_postgres
from pupload.errors import InvalidConfig

pytestmark = pytest.mark.integration


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")
def test_the_folders_above_may_be_passed_and_not_listed() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as closed:
        folder = Path(closed) / "data" / "postgres"
        folder.parent.mkdir(mode=0o700)
        with embedded_postgres(folder):
            assert [oct(each.stat().st_mode & 0o777) for each in (Path(closed), folder.parent)] == ["0o711", "0o711"]


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(InvalidConfig, match="choose a shorter data_dir"),
        embedded_postgres(tmp_path / ("x" * 100) / "postgres"),
    ):
        pass
