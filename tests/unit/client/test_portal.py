"""The loop behind blocking callers: begun late, ended early, interrupted, forked, forgotten."""

import asyncio
import gc
import multiprocessing
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pupload.client.errors import ServerUnreachable
from pupload.client.portal import Portal
from pupload.errors import Defect

ENDED: list[str] = []


async def note_the_end() -> None:
    ENDED.append("end")


async def same(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def numbers(closed: list[str]) -> AsyncIterator[int]:
    try:
        for number in range(3):
            yield number
    finally:
        closed.append("closed")


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "pupload-client"]


@pytest.fixture
def portal() -> Iterator[Portal]:
    ENDED.clear()
    made = Portal(note_the_end)
    yield made
    made.close()
    assert threads() == []


def test_the_thread_begins_with_the_first_call_and_ends_with_the_last_word(portal: Portal) -> None:
    assert threads() == []
    assert portal.call(same(7)) == 7
    assert threads() == ["pupload-client"]
    portal.close()
    assert (threads(), ENDED) == ([], ["end"])


def test_a_closed_portal_can_be_used_again(portal: Portal) -> None:
    portal.call(same(1))
    portal.close()
    assert portal.call(same(2)) == 2


def test_errors_come_through(portal: Portal) -> None:
    async def fails() -> None:
        raise LookupError("x")

    with pytest.raises(LookupError, match="x"):
        portal.call(fails())


def test_many_threads_may_call_at_once(portal: Portal) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda number: portal.call(same(number)), range(100))) == list(range(100))
    assert len(threads()) == 1


def test_an_interrupted_call_is_cancelled_before_it_raises(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    waiting = threading.Event()

    async def waits() -> None:
        try:
            waiting.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            said.append("cancelled")
            raise

    wait = threading.Event.wait

    def interrupted(self: threading.Event, timeout: float | None = None) -> bool:
        if timeout is None and threading.current_thread() is threading.main_thread():
            wait(waiting)
            raise KeyboardInterrupt
        return wait(self, timeout)

    portal.call(same(1))
    monkeypatch.setattr(threading.Event, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        portal.call(waits())
    assert said == ["cancelled"]


def test_who_waits_while_another_thread_closes_is_told(portal: Portal) -> None:
    begun = threading.Event()

    async def waits() -> None:
        begun.set()
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: portal.call(waits()))
        begun.wait()
        portal.close()
        with pytest.raises(ServerUnreachable, match="was closed"):
            waiting.result()


def test_the_loops_own_thread_cannot_wait_for_itself(portal: Portal) -> None:
    async def calls() -> int:
        return portal.call(same(1))

    with pytest.raises(Defect, match="use AsyncClient"):
        portal.call(calls())


def test_iteration_is_asked_for_item_by_item_and_closed_when_left(portal: Portal) -> None:
    closed: list[str] = []
    assert list(portal.iterate(numbers(closed))) == [0, 1, 2]
    left = portal.iterate(numbers(closed))
    assert next(left) == 0
    assert closed == ["closed"]
    del left
    gc.collect()
    assert closed == ["closed", "closed"]


def test_what_is_iterated_is_closed_with_the_portal(portal: Portal) -> None:
    closed: list[str] = []
    left = portal.iterate(numbers(closed))
    next(left)
    portal.close()
    assert closed == ["closed"]
    del left
    assert threads() == []


def test_a_forgotten_portal_ends_its_thread() -> None:
    ENDED.clear()
    portal = Portal(note_the_end)
    portal.call(same(1))
    del portal
    gc.collect()
    assert (threads(), ENDED) == ([], ["end"])


def _in_the_child(portal: Portal) -> None:
    sys.exit(0 if portal.call(same(5)) == 5 else 1)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_a_loop_of_its_own(portal: Portal) -> None:
    portal.call(same(1))
    child = multiprocessing.get_context("fork").Process(target=_in_the_child, args=(portal,))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert portal.call(same(2)) == 2


def test_a_program_that_closes_nothing_ends_without_a_word() -> None:
    program = """
import asyncio
from pupload.client import Client
async def for_ever():
    while True:
        yield 1
client = Client("http://127.0.0.1:1")
async def session(): client._client._transport.session()
client._portal.call(session())
iterated = client._portal.iterate(for_ever())
next(iterated)
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
