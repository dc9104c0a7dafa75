"""Outputs that are hashed only while they go to the store: what is stored is what was hashed, or it is not taken."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pupload.protocol import AttemptRef, OutputFound
from pupload.worker import outputs, source
from pupload.worker.control import Control
from pupload.worker.failure import NodeFailure
from pupload.worker.outputs import Output, opened
from pupload.worker.source import Source
from pupload.worker.staging import Stage, deliver
from pupload.worker.transfer import Transfers
from pupload.worker.workdir import WorkDir, make_work_dir
from tests.support.fake_controller import MB, FakeController, FakeStore, an_output
from tests.support.until import until

pytestmark = pytest.mark.unit

CONTENT = os.urandom(3 * MB + 17)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "HASHED_FIRST_BYTES", MB)


@pytest.fixture
async def controller() -> AsyncIterator[FakeController]:
    async with FakeController() as controller:
        yield controller


@pytest.fixture
def store(controller: FakeController) -> FakeStore:
    return controller.store


@pytest.fixture
async def stage(controller: FakeController) -> AsyncIterator[Stage]:
    control, transfers = Control(controller.url, "token"), Transfers(retry_for_s=5)
    yield Stage(AttemptRef(run_id="run_1", node_id="n", attempt=1, lease="l"), control, transfers, within_s=30)
    await transfers.close()
    await control.close()


@pytest.fixture
def place(tmp_path: Path) -> WorkDir:
    place = make_work_dir(tmp_path, "attempt", (os.geteuid(), os.getegid()))
    (place.outputs / "out").write_bytes(CONTENT)
    return place


async def delivered(stage: Stage, place: WorkDir) -> OutputFound:
    with opened(place, [an_output()]) as found:
        (output,) = await deliver(stage, found)
    return output


def puts(store: FakeStore) -> int:
    return sum(asked.startswith("PUT") for asked in store.asked)


async def test_it_is_sent_once_and_known_by_the_bytes_that_were_sent(
    stage: Stage, place: WorkDir, store: FakeStore
) -> None:
    output = await delivered(stage, place)
    assert (output.sha256, output.size_bytes) == (SHA256, len(CONTENT))
    assert store.objects[output.key] == CONTENT
    assert puts(store) == 1


@pytest.mark.parametrize("fault", ["flip", "cut", "unheard", 500])
async def test_a_store_that_has_other_bytes_or_none_gets_them_again(
    stage: Stage, place: WorkDir, store: FakeStore, fault: str | int
) -> None:
    store.faults.append(fault)
    output = await delivered(stage, place)
    assert output.sha256 == SHA256
    assert store.objects[output.key] == CONTENT
    assert puts(store) == 2


async def test_a_store_whose_etags_prove_nothing_checks_what_it_gets(
    stage: Stage, place: WorkDir, store: FakeStore
) -> None:
    store.cryptic = True
    assert (await delivered(stage, place)).sha256 == SHA256
    assert puts(store) == 2
    store.faults.append("flip")
    output = await delivered(stage, place)
    assert (output.sha256, store.objects[output.key]) == (SHA256, CONTENT)


async def test_a_store_whose_etags_are_known_to_prove_nothing_gets_it_once(
    stage: Stage, place: WorkDir, store: FakeStore
) -> None:
    store.cryptic = True
    await delivered(stage, place)
    before = puts(store)
    assert (await delivered(stage, place)).sha256 == SHA256
    assert puts(store) == before + 1


async def test_one_that_changes_its_kind_while_it_is_sent_is_refused(
    stage: Stage, place: WorkDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_and_change(each: Source) -> str:
        found = look(each)
        with (place.outputs / "out").open("r+b") as file:
            file.write(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")
        return found

    look = Source.look
    monkeypatch.setattr(Source, "look", look_and_change)
    with pytest.raises(NodeFailure, match="was changed while it was stored"):
        await delivered(stage, place)


async def test_bytes_that_change_between_two_tries_are_not_taken_for_those_of_the_first(
    stage: Stage, place: WorkDir, store: FakeStore
) -> None:
    store.faults.append("unheard")
    with opened(place, [an_output()]) as found:
        storing = asyncio.ensure_future(deliver(stage, found))
        await until(lambda: bool(store.objects))
        (place.outputs / "out").write_bytes(CONTENT[::-1])
        with pytest.raises(NodeFailure, match="BadDigest"):
            await storing


async def test_one_that_became_shorter_stops_the_upload(stage: Stage, place: WorkDir, store: FakeStore) -> None:
    with opened(place, [an_output()]) as found:
        os.truncate(place.outputs / "out", MB)
        with pytest.raises(NodeFailure, match="was changed while it was stored"):
            await deliver(stage, found)
    assert not store.objects


async def test_no_more_than_a_few_pieces_are_in_memory_at_a_time(place: WorkDir) -> None:
    with opened(place, [an_output()]) as (output,):
        assert output.source.held == b""
        assert await largest_piece(output) == source.PIECE_BYTES


async def largest_piece(output: Output) -> int:
    return max(len(piece) for piece in output.source.pieces(summing_up=True))
