"""What a worker claims: all that is free, and nothing twice, for of two claims that offered the same both would be
answered.

One claim is held by the controller until there is work. The end of each attempt carries another, for what it has freed.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Callable

from pupload.errors import ControllerUnavailable
from pupload.failpoints import reach
from pupload.protocol import Assignment, Claim
from pupload.tiers import Capacity
from pupload.worker.capacity import Ledger, Reservation, free_after
from pupload.worker.shop import Shop

WAIT_S = 15.0
_MORE_S = 0.05
"""What becomes free is offered after so long, if it was not taken by then together with others that came free."""
_HELD = "the claim that is held"
_MORE = "what has become free"

Accept = Callable[[list[Assignment]], None]

log = logging.getLogger(__name__)


class Claims:
    """The claims of one worker that are under way."""

    def __init__(self, shop: Shop, ledger: Ledger) -> None:
        self._shop = shop
        self._ledger = ledger
        self._offers: dict[str, Capacity] = {}
        self._changed = asyncio.Event()
        self.fence_s = WAIT_S
        """An answer that takes longer is not worth having: what it gives may be somebody else's by then."""

    def free(self, reservation: Reservation) -> None:
        """Somebody needs this place no more."""
        self._ledger.release(reservation)
        self._changed.set()

    def with_end(self, name: str) -> Claim | None:
        """The claim that goes with the end of the attempt of this name, until it is withdrawn; None for none."""
        return self._made(name, 0.0) if self._is_any_left() else None

    def withdraw(self, who: str) -> None:
        """The claim was answered, or never will be."""
        if self._offers.pop(who, None) is not None:
            self._changed.set()

    async def until_sensible(self) -> None:
        """Return when a claim can be held for all that is free.

        An end that is being reported has claimed all of it, and its answer comes at once. To claim beside that would be
        for the rest alone, and as long as the claim is held.
        """
        while self._offers or not self._is_any_left():
            self._changed.clear()
            await self._changed.wait()

    async def hold(self, accept: Accept) -> None:
        """Have one claim held until there is work, or more to offer than it says; `accept` gets what is given.

        Errors: ControllerUnavailable; TimeoutError; NotFound; LostLease.
        """
        try:
            assignments = await self._held(min(WAIT_S, self.fence_s * 0.75), accept)
        finally:
            self.withdraw(_HELD)
        accept(assignments)

    async def _held(self, wait_s: float, accept: Accept) -> list[Assignment]:
        asking = asyncio.ensure_future(self._ask(self._made(_HELD, wait_s)))
        growing = asyncio.ensure_future(self._grown())
        try:
            await asyncio.wait({asking, growing}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                await self._recall(accept)
            return await asking
        finally:
            growing.cancel()
            asking.cancel()
            await asyncio.wait({asking, growing})

    async def _grown(self) -> None:
        """Return when something is free for a while that nobody has offered."""
        while True:
            self._changed.clear()
            while len(self._offers) > 1 or not self._is_any_left():
                await self._changed.wait()
                self._changed.clear()
            await asyncio.sleep(_MORE_S)
            if len(self._offers) == 1 and self._is_any_left():
                return

    async def _recall(self, accept: Accept) -> None:
        """Offer what has become free, and have the claim that is held answered, which offers less than there is."""
        try:
            accept(await self._ask(self._made(_MORE, 0.0, recalls=True)))
        except (ControllerUnavailable, TimeoutError) as error:
            log.info("what has become free is offered with the next claim: %s", error)
        finally:
            self.withdraw(_MORE)

    async def _ask(self, claim: Claim) -> list[Assignment]:
        """What the controller gives, in time: later its leases may be over, and the controller takes them back."""
        asked = time.monotonic()
        async with asyncio.timeout(self.fence_s):
            assignments = await self._shop.control.claim(claim)
            if assignments:
                await reach("claim.heard")
        if time.monotonic() - asked < self.fence_s:
            return assignments
        # We were frozen over the answer: no timer went off meanwhile.
        log.warning("an answer came too late, %d attempts dropped", len(assignments))
        return []

    def _made(self, who: str, wait_s: float, *, recalls: bool = False) -> Claim:
        """A claim for all that is offered to nobody yet; it stays offered until `who` withdraws it."""
        free = self._offers[who] = self._left()
        # What was found by a tag is no digest that somebody has named, so a worker that wants these tells nothing.
        images = {} if self._shop.config.require_digest else self._shop.images.means()
        return Claim(
            instance=self._shop.instance,
            free=free,
            most=max(1, int(free.cpu)),
            wait_s=wait_s,
            recalls=recalls,
            images=images,
        )

    def _is_any_left(self) -> bool:
        return self._left().cpu >= 1

    def _left(self) -> Capacity:
        """What is free and in no claim under way."""
        return functools.reduce(free_after, self._offers.values(), self._ledger.free)
