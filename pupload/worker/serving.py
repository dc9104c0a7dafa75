"""A worker at its work: it claims attempts, runs them, obeys its beats, and lets go in good order."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from pupload.containers import janitor
from pupload.containers.docker import Refused
from pupload.errors import Conflict, ControllerUnavailable, EngineUnavailable, LostLease, NotFound
from pupload.failpoints import reach
from pupload.protocol import Assignment, AttemptRef, Beat, BeatAnswer, Claim, Finish, Hello, Outcome, Welcome
from pupload.worker.attempt import run_attempt
from pupload.worker.beat import Beats
from pupload.worker.capacity import Ledger, Reservation
from pupload.worker.claiming import Claims
from pupload.worker.control import pauses
from pupload.worker.egress import ensure_walled
from pupload.worker.failure import NodeFailure
from pupload.worker.hold import Hold
from pupload.worker.shop import Shop, attempt_name

_LAST_CLAIM_S = 1.0
_LOOK_S = 0.5
_HURRY_S = 30.0
WEDGED_S = 120.0
"""An event loop that has stood still for so long looks after nothing any more: its attempts are better lost."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    """An attempt of ours and our grip on it."""

    ref: AttemptRef
    hold: Hold


class Worker:
    """Claims attempts and runs them. Made by `open_worker`; `serve` returns once it was drained."""

    def __init__(self, shop: Shop, ledger: Ledger) -> None:
        self._shop = shop
        self._ledger = ledger
        self._held: dict[str, Held] = {}
        self._names: set[str] = set()
        self._runs: set[asyncio.Task[None]] = set()
        self._claims = Claims(shop, ledger)
        self._draining = asyncio.Event()
        self._hurrying = asyncio.Event()
        self._gone: Conflict | None = None
        self._turned = time.monotonic()

    def drain(self) -> None:
        """Take no more work; running attempts may end. A second call releases them at once."""
        if self._draining.is_set():
            self._hurrying.set()
        self._draining.set()

    async def serve(self) -> None:
        """Run until drained.

        Errors: Conflict when another instance has taken this worker's name.
        """
        await self._sweep()
        welcome = await self._greet()
        if welcome is None:
            return
        log.info("worker %s serves %s", self._shop.config.worker_name, self._ledger.offered)
        await reach("worker.greeted")
        self._claims.fence_s = welcome.fence_s
        beating = asyncio.create_task(self._keep_beating(welcome))
        keeper = asyncio.create_task(self._keep_clean())
        try:
            await self._claim_until_drained()
            await self._let_finish()
        finally:
            keeper.cancel()
            await self._let_go()
            await self._sweep()
            beating.cancel()
        if self._gone:
            raise self._gone

    async def _greet(self) -> Welcome | None:
        """The controller's welcome; None when the worker is to end before one comes."""
        greeting = asyncio.ensure_future(self._shop.control.hello(self._hello()))
        draining = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait({greeting, draining}, return_when=asyncio.FIRST_COMPLETED)
            return greeting.result() if greeting.done() else None
        finally:
            greeting.cancel()
            draining.cancel()
            await asyncio.wait({greeting, draining})

    def _hello(self) -> Hello:
        engine, shop = self._shop.engine.info, self._shop
        return Hello(
            name=shop.config.worker_name,
            instance=shop.instance,
            version=version("pupload"),
            capacity=self._ledger.offered,
            engine=engine.version,
            architecture=engine.architecture,
        )

    async def _keep_beating(self, welcome: Welcome) -> None:
        """Beat, for ever. Each of thread and loop looks after the other: a thread that hangs, in looking up a name as
        it may be, can neither beat nor fence.
        """
        loop, beats = asyncio.get_running_loop(), self._start_beats(welcome)
        try:
            while True:
                await asyncio.sleep(_LOOK_S)
                if beats.hang():
                    log.error("the beats hang: ending all attempts, and beginning to beat anew")
                    self._fence(loop)
                    beats.end()
                    beats = self._start_beats(welcome)
        finally:
            beats.end()

    def _start_beats(self, welcome: Welcome) -> Beats:
        loop, shop = asyncio.get_running_loop(), self._shop
        self._turned = time.monotonic()
        beats = Beats(
            shop.control.addresses,
            shop.config.worker_token.get_secret_value(),
            welcome,
            snapshot=lambda: self._sign_of_life(loop),
            tell=lambda answer: _on(loop, self._obey, answer),
            fence=lambda: self._fence(loop),
        )
        beats.start()
        return beats

    def _sign_of_life(self, loop: asyncio.AbstractEventLoop) -> Beat | None:
        """Asked on the thread of the beats; None while the event loop is not to be trusted with a lease."""
        _on(loop, self._turn)
        return self._beat() if time.monotonic() - self._turned < WEDGED_S else None

    def _turn(self) -> None:
        self._turned = time.monotonic()

    def _fence(self, loop: asyncio.AbstractEventLoop) -> None:
        """On the thread of the beats: the loop is told first, and the containers die whether or not it listens."""
        _on(loop, self._lose_all)
        threading.Thread(target=self._shop.engine.kill_all, args=(list(self._held),), name="fence", daemon=True).start()

    def _beat(self) -> Beat:
        # Called on the thread of the beats; list() of a dict's values is one step for the interpreter.
        held = [each.ref for each in list(self._held.values())]
        return Beat(
            instance=self._shop.instance,
            attempts=held,
            free=self._ledger.free,
            draining=self._draining.is_set(),
        )

    def _obey(self, answer: BeatAnswer) -> None:
        for order in answer.stop:
            if held := self._find(order.ref):
                held.hold.stop(order.reason)
        for ref in answer.lost:
            if held := self._find(ref):
                held.hold.lose()

    def _find(self, ref: AttemptRef) -> Held | None:
        held = self._held.get(attempt_name(ref))
        return held if held and held.ref == ref else None

    def _lose_all(self) -> None:
        for held in self._held.values():
            held.hold.lose()

    async def _claim_until_drained(self) -> None:
        draining = asyncio.ensure_future(self._draining.wait())
        claims = asyncio.ensure_future(self._claim_on())
        try:
            await asyncio.wait({draining, claims}, return_when=asyncio.FIRST_COMPLETED)
            if not claims.done():
                # An answer under way may hold work, which is given back then instead of lost.
                await self._tell_draining()
                await asyncio.wait({claims}, timeout=_LAST_CLAIM_S)
        finally:
            draining.cancel()
            claims.cancel()
            await asyncio.wait({draining, claims})
        if not claims.cancelled():
            claims.result()

    async def _tell_draining(self) -> None:
        beat = self._beat().model_copy(update={"wait_s": 0.0})
        # Nor must a controller that is slow or away keep this worker from letting its attempts end.
        with contextlib.suppress(ControllerUnavailable, LostLease, NotFound, TimeoutError):
            async with asyncio.timeout(_LAST_CLAIM_S):
                await self._shop.control.beat(beat)

    async def _claim_on(self) -> None:
        faults = pauses()
        while not self._draining.is_set() and self._gone is None:
            try:
                await self._claims.until_sensible()
                await self._claims.hold(self._accept)
                faults = pauses()
            except ControllerUnavailable as error:
                log.warning("no work: %s", error)
                await anext(faults)
            except TimeoutError:
                log.warning("no work: an answer did not come in time; what it held is given back by its lease")
            except NotFound:
                log.warning("the controller does not know this worker any more; saying hello again")
                self._lose_all()
                await self._shop.control.hello(self._hello())
            except LostLease as error:
                self._lose_all()
                self._gone = Conflict(f"another worker goes by the name {self._shop.config.worker_name}: {error}")

    def _accept(self, assignments: list[Assignment]) -> None:
        for assignment in assignments:
            name = attempt_name(assignment.ref)
            # After a release the same number comes again, maybe while its first try is still being cleaned up.
            welcome = not self._draining.is_set() and name not in self._names
            reservation = self._ledger.reserve(assignment.tier) if welcome else None
            if reservation:
                self._names.add(name)
                self._begin(name, self._run(name, assignment, reservation))
            else:
                self._begin(name, self._give_back(assignment))

    def _begin(self, name: str, run: Coroutine[Any, Any, None]) -> None:
        self._runs.add(started := asyncio.create_task(run, name=name))
        started.add_done_callback(self._runs.discard)

    async def _run(self, name: str, assignment: Assignment, reservation: Reservation) -> None:
        held = self._held[name] = Held(assignment.ref, Hold())
        place = contextlib.ExitStack()
        place.callback(self._claims.free, reservation)

        def freed() -> Claim | None:
            place.close()
            return None if self._draining.is_set() else self._claims.with_end(name)

        def ended(following: list[Assignment]) -> None:
            self._held.pop(name, None)
            self._claims.withdraw(name)
            self._accept(following)

        try:
            await run_attempt(self._shop, assignment, held.hold, reservation.device, freed=freed, ended=ended)
        except Exception:
            log.exception("attempt %s ended by a fault of this program", name)
        finally:
            place.close()
            self._claims.withdraw(name)
            self._held.pop(name, None)
            self._names.discard(name)

    async def _give_back(self, assignment: Assignment) -> None:
        finish = Finish(ref=assignment.ref, outcome=Outcome.RELEASED, message="the worker has no room for it")
        with contextlib.suppress(LostLease):
            await self._shop.control.finish(finish, give_up=self._hurrying.is_set)

    async def _let_finish(self) -> None:
        """Give running attempts their time, then release the rest."""
        if self._runs:
            hurry = asyncio.create_task(self._hurrying.wait())
            all_over = asyncio.create_task(asyncio.wait(set(self._runs)))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._shop.config.drain_s):
                    await reach("worker.draining")
                    await asyncio.wait({hurry, all_over}, return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
            all_over.cancel()
        for held in self._held.values():
            held.hold.release()

    async def _let_go(self) -> None:
        """Whatever still runs is ended and cleaned up."""
        for held in self._held.values():
            held.hold.release()
        if self._runs:
            await asyncio.wait(set(self._runs), timeout=_HURRY_S)
        for run in set(self._runs):
            run.cancel()
        await asyncio.gather(*self._runs, return_exceptions=True)

    async def _keep_clean(self) -> None:
        while True:
            await asyncio.sleep(self._shop.config.janitor_s)
            self._shop.transfers.handover.drop_old()
            await self._sweep()

    async def _sweep(self) -> None:
        config = self._shop.config
        try:
            await janitor.sweep(self._shop.engine, config.worker_name, config.work_dir, self._names)
            await self._shop.cleaning.look()
            await ensure_walled(self._shop.egress)
        except (EngineUnavailable, Refused, NodeFailure, OSError) as error:
            log.warning("the janitor could not look: %s", error)


def _on(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *given: Any) -> None:
    # The loop is gone when the worker has ended while a beat was under way.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *given)
