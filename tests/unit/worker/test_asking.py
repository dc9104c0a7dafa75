"""What a program may have left where it was to write its question; it may be an attempt on the host."""

import os
from pathlib import Path

import pytest

from pupload.flow.plan import Reason
from pupload.protocol import ToolSheet
from pupload.worker.failure import NodeFailure
from pupload.worker.tools import CALLS, MAX_CALLS_BYTES, RESULTS, TOOLS, _read, lay_out
from pupload.worker.workdir import WorkDir, make_work_dir

pytestmark = pytest.mark.unit


@pytest.fixture
def place(tmp_path: Path) -> WorkDir:
    place = make_work_dir(tmp_path, "attempt", (os.geteuid(), os.getegid()))
    lay_out(place, ToolSheet(tools="{}", results=None, exit_code=85))
    return place


def refusal(place: WorkDir) -> str:
    with pytest.raises(NodeFailure) as caught:
        _read(place, 85)
    assert (caught.value.reason, caught.value.final, caught.value.exit_code) == (Reason.POLICY, True, 85)
    return caught.value.message


def test_a_program_finds_what_is_on_offer_and_an_empty_file_to_ask_in(place: WorkDir) -> None:
    assert (place.root / TOOLS).read_text() == "{}"
    assert not (place.root / RESULTS).exists()
    assert (place.asked / CALLS).read_bytes() == b""


def test_what_it_wrote_is_read_as_it_is(place: WorkDir) -> None:
    (place.asked / CALLS).write_text('[{"id": "ä"}]')
    assert _read(place, 85) == '[{"id": "ä"}]'


def test_what_is_no_plain_file_is_refused(place: WorkDir) -> None:
    calls = place.asked / CALLS
    calls.unlink()
    assert "is not there" in refusal(place)
    calls.symlink_to("/etc/passwd")
    assert "a symbolic link" in refusal(place)
    calls.unlink()
    os.mkfifo(calls)
    assert "a named pipe" in refusal(place)
    calls.unlink()
    calls.mkdir()
    assert "a directory" in refusal(place)
    calls.rmdir()
    calls.write_text("[]")
    os.link(calls, place.asked / "again")
    assert "several hard links" in refusal(place)


def test_what_is_too_large_or_no_text_is_refused(place: WorkDir) -> None:
    calls = place.asked / CALLS
    calls.write_bytes(b"x" * (MAX_CALLS_BYTES + 1))
    assert "beyond the limit of 256" in refusal(place)
    calls.write_bytes(b"\xff\xfe")
    assert "is not UTF-8" in refusal(place)
