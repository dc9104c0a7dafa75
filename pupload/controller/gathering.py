"""Doing together what many ask for at about the same time, so that a hundred of them cost few round trips.

Nobody waits for company: who asks while nothing is under way is served at once, and whoever asks meanwhile has the next
turn, together with all others that do.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from pupload.db.pool import Connection, Database
from pupload.errors import DatabaseUnavailable

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 32
"""More in one turn would cost little less each, and keep everybody else from their turn for longer."""

Work = Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]]
"""What is to be done, each with a result or an error of its own."""


class Gathering(Generic[T, R]):
    """Turns of one kind: `together` does several at once, and quickly or not at all.

    Where it fails, each is done by itself, by `apart`.
    """

    def __init__(self, together: Work[T, R], apart: Work[T, R], most: int = AT_ONCE) -> None:
        self._work, self._work_apart, self._most = together, apart, most
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._turns: asyncio.Task[None] | None = None
        self._apart: set[asyncio.Task[None]] = set()

    async def ask(self, wish: T) -> R:
        """The result; the work is done even if whoever asked is cancelled.

        Errors: what the work answers, or raises.
        """
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((wish, result))
        if self._turns is None:
            self._turns = asyncio.create_task(self._take_turns())
        return await result

    async def _take_turns(self) -> None:
        try:
            while self._waiting:
                turn = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                await self._together(turn)
        finally:
            self._turns = None

    async def _together(self, turn: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            found = await self._work([wish for wish, _ in turn])
        except DatabaseUnavailable as error:
            # It would be no better by itself, and take as long again.
            found = [error] * len(turn)
        except Exception:  # noqa: BLE001 - whose fault it is shows when each is done by itself
            for wish, result in turn:
                self._do_apart(wish, result)
            return
        except BaseException as error:
            for _, result in turn:
                _tell(result, error)
            raise
        for (_, result), one in zip(turn, found, strict=True):
            _tell(result, one)

    def _do_apart(self, wish: T, result: asyncio.Future[R]) -> None:
        task = asyncio.create_task(self._patiently(wish, result))
        self._apart.add(task)
        task.add_done_callback(self._apart.discard)

    async def _patiently(self, wish: T, result: asyncio.Future[R]) -> None:
        try:
            (one,) = await self._work_apart([wish])
        except BaseException as error:  # noqa: BLE001 - it is told to whoever asked
            _tell(result, error)
        else:
            _tell(result, one)


def in_transactions(
    database: Database,
    work: Callable[[Connection, Sequence[T]], Awaitable[Sequence[R | Exception]]],
    most: int = AT_ONCE,
) -> Gathering[T, R]:
    """Several in one transaction, which waits for nobody; apart, in transactions as patient as any."""
    return Gathering(
        lambda wishes: database.quickly(lambda connection: work(connection, wishes)),
        lambda wishes: database.transact(lambda connection: work(connection, wishes)),
        most,
    )


def _tell(result: asyncio.Future[R], one: R | BaseException) -> None:
    if result.done():
        return
    if isinstance(one, BaseException):
        result.set_exception(one)
    else:
        result.set_result(one)
