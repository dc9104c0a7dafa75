"""Outputs as a program left them, on a plain directory: what the engine is not needed for."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from pupload.flow.plan import Reason
from pupload.worker.failure import NodeFailure
from pupload.worker.outputs import opened
from pupload.worker.source import Shortened
from pupload.worker.workdir import WorkDir, lacking, make_work_dir
from tests.support.fake_controller import MB, an_output

pytestmark = pytest.mark.unit


@pytest.fixture
def place(tmp_path: Path) -> WorkDir:
    return make_work_dir(tmp_path, "attempt", (os.geteuid(), os.getegid()))


def refusal(place: WorkDir, **more: Any) -> NodeFailure:
    with pytest.raises(NodeFailure) as caught, opened(place, [an_output("out", **more)]):
        pass
    return caught.value


def test_an_output_comes_hashed_and_open(place: WorkDir) -> None:
    (place.outputs / "out.txt").write_text("hello\n")
    with opened(place, [an_output("out", extension=".txt")]) as outputs:
        (output,) = outputs
        assert output.source.size_bytes == 6
        assert output.source.sums is not None
        assert output.source.sums.sha256 == "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
        assert (output.wish().md5, output.content_type) == ("sZRqySSS0jR8YjW00mERhA==", "text/plain")


async def test_large_content_is_read_again_from_the_same_descriptor(place: WorkDir) -> None:
    content = os.urandom(2 * MB + 17)
    (place.outputs / "out").write_bytes(content)
    with opened(place, [an_output("out")]) as (output,):
        (place.outputs / "out").unlink()
        (place.outputs / "out").symlink_to("/etc/passwd")
        assert b"".join(output.source.pieces()) == content


async def test_a_file_that_became_shorter_stops_the_upload(place: WorkDir) -> None:
    (place.outputs / "out").write_bytes(os.urandom(3 * MB))
    with opened(place, [an_output("out")]) as (output,):
        os.truncate(place.outputs / "out", MB)
        with pytest.raises(Shortened, match="ended at"):
            list(output.source.pieces())


def test_a_socket_is_refused_without_being_opened(place: WorkDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.outputs)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("out")
        assert "a socket or a device" in refusal(place).message


def test_a_link_in_place_of_the_directory_is_not_followed(place: WorkDir, tmp_path: Path) -> None:
    place.outputs.rmdir()
    place.outputs.symlink_to(tmp_path)
    (tmp_path / "out").write_text("secret")
    with pytest.raises(OSError, match="Not a directory"), opened(place, [an_output("out")]):
        pass


def test_a_sparse_file_is_refused_and_a_written_one_is_not(place: WorkDir) -> None:
    with (place.outputs / "out").open("wb") as file:
        file.truncate(64 * MB)
    failure = refusal(place)
    assert (failure.reason, failure.final) == (Reason.POLICY, True)
    assert "sparse" in failure.message
    (place.outputs / "out").write_bytes(b"x" * 17 * MB)
    with opened(place, [an_output("out")]) as (output,):
        assert output.source.size_bytes == 17 * MB


def test_every_descriptor_is_closed_again(place: WorkDir) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    (place.outputs / "a").write_text("x")
    with pytest.raises(NodeFailure), opened(place, [an_output("a"), an_output("missing")]):
        pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_full_disk_is_known_before_anything_is_written(tmp_path: Path) -> None:
    assert lacking(tmp_path, 0) == ""
    assert "are needed" in lacking(tmp_path, 1 << 60)


def test_a_directory_left_by_an_older_try_of_that_name_is_replaced(tmp_path: Path) -> None:
    owner = (os.geteuid(), os.getegid())
    (make_work_dir(tmp_path, "a", owner).outputs / "old").write_text("x")
    assert list(make_work_dir(tmp_path, "a", owner).outputs.iterdir()) == []


async def test_a_file_that_grows_is_uploaded_as_it_was_checked(place: WorkDir) -> None:
    (place.outputs / "out").write_bytes(b"x" * 2 * MB)
    with opened(place, [an_output("out")]) as (output,):
        with (place.outputs / "out").open("ab") as file:
            file.write(b"secret")
        assert b"".join(output.source.pieces()) == b"x" * 2 * MB
