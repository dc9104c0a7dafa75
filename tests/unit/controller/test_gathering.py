"""What many ask for at about the same time is done together, and what is in the way of one is in its way only."""

import asyncio
from collections.abc import Sequence

import pytest

from pupload.controller.gathering import Gathering
from pupload.errors import DatabaseUnavailable


class Bench:
    """Doubles numbers; a turn waits for `gate`, and some numbers are not to its liking."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.turns: list[list[int]] = []
        self.apart: list[int] = []
        self.broken: Exception | None = None
        self.gathering = Gathering[int, int](self._together, self._alone)

    async def _together(self, wishes: Sequence[int]) -> list[int | Exception]:
        self.turns.append(list(wishes))
        await self.gate.wait()
        if self.broken is not None:
            raise self.broken
        return [KeyError(wish) if wish < 0 else 2 * wish for wish in wishes]

    async def _alone(self, wishes: Sequence[int]) -> list[int | Exception]:
        self.apart += wishes
        return [ValueError(wish) if wish == 3 else 2 * wish for wish in wishes]

    async def asked(self, *wishes: int) -> list[int | BaseException]:
        """The answers to these wishes, asked at once, once the first turn may go on."""
        asking = [asyncio.create_task(self.gathering.ask(wish)) for wish in wishes]
        while not self.turns:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)
        self.gate.set()
        return await asyncio.gather(*asking, return_exceptions=True)


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_who_asks_while_a_turn_is_under_way_has_the_next_one_together(bench: Bench) -> None:
    first = asyncio.create_task(bench.gathering.ask(1))
    await asyncio.sleep(0)
    assert await bench.asked(2, 4, 5) == [4, 8, 10]
    assert await first == 2
    assert bench.turns == [[1], [2, 4, 5]]


async def test_nobody_waits_for_company(bench: Bench) -> None:
    bench.gate.set()
    assert [await bench.gathering.ask(each) for each in (1, 2)] == [2, 4]
    assert bench.turns == [[1], [2]]


async def test_an_error_of_one_is_told_to_that_one(bench: Bench) -> None:
    good, bad = await bench.asked(1, -1)
    assert good == 2
    assert isinstance(bad, KeyError)
    assert bench.apart == []


async def test_where_a_turn_fails_each_is_done_by_itself(bench: Bench) -> None:
    bench.broken = RuntimeError("one of them")
    good, bad, other = await bench.asked(2, 3, 4)
    assert (good, other) == (4, 8)
    assert isinstance(bad, ValueError)


async def test_a_database_that_is_away_is_told_to_all_at_once(bench: Bench) -> None:
    bench.broken = DatabaseUnavailable("gone")
    answers = await bench.asked(1, 2)
    assert [type(answer) for answer in answers] == [DatabaseUnavailable] * 2
    assert bench.apart == []


async def test_what_was_asked_is_done_though_nobody_waits_for_it(bench: Bench) -> None:
    asking = asyncio.create_task(bench.gathering.ask(1))
    await asyncio.sleep(0)
    asking.cancel()
    assert await bench.asked(2) == [4]
    assert sorted(wish for turn in bench.turns for wish in turn) == [1, 2]
