"""Who gets which of the attempts that wait: the oldest goes first, to whoever has room for it, one after the other."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pupload.db.pool import Connection
from pupload.queue import QueuedAttempt, due_tiers, take
from pupload.tiers import Capacity, Tier, fits, reserve


@dataclass(frozen=True, slots=True)
class Room:
    """What a worker has left for attempts, and how many it takes at most."""

    free: Capacity
    most: int

    def has(self, tier: Tier) -> bool:
        """True when an attempt of the tier fits."""
        return self.most > 0 and fits(tier, self.free)

    def less(self, tier: Tier) -> "Room":
        """What is left beside an attempt of the tier."""
        return Room(reserve(tier, self.free), self.most - 1)


async def pick(
    connection: Connection, tiers: Mapping[str, Tier], rooms: Sequence[Room], at_once: int
) -> list[tuple[int, QueuedAttempt]]:
    """Up to `at_once` attempts out of the queue, the oldest first, each with the place in `rooms` that gets it."""
    rooms, tiers = list(rooms), dict(tiers)
    picked: list[tuple[int, QueuedAttempt]] = []
    while fitting := _fitting(tiers, rooms):
        most = min(sum(room.most for room in rooms), at_once - len(picked))
        due = await due_tiers(connection, fitting, most)
        allotted = allot([tiers[name] for name in due], rooms)
        wanted = Counter(tier.name for tier, _ in allotted)
        found = {name: deque(await take(connection, name, count)) for name, count in wanted.items()}
        # The others of a tier that has fewer by now are being taken by somebody else.
        contested = [name for name, count in wanted.items() if len(found[name]) < count]
        for tier, place in allotted:
            if found[tier.name]:
                picked.append((place, found[tier.name].popleft()))
                rooms[place] = rooms[place].less(tier)
        for name in contested:
            del tiers[name]
        if len(picked) == at_once or (len(due) < most and not contested):
            break
    return picked


def _fitting(tiers: Mapping[str, Tier], rooms: Sequence[Room]) -> list[str]:
    """The tiers that somebody has room for; of a thousand workers most have the same."""
    kinds = {Room(room.free, 1) for room in rooms if room.most}
    return [name for name, tier in tiers.items() if any(room.has(tier) for room in kinds)]


def allot(waiting: Sequence[Tier], rooms: Sequence[Room]) -> list[tuple[Tier, int]]:
    """Each of the waiting attempts' tiers that fits, with the place in `rooms` that gets it. PURE.

    >>> from pupload.tiers import TIERS
    >>> small = TIERS["c-small"]
    >>> one, two = (Room(Capacity(small.cpu, 2**40, 2**40), most=5) for _ in range(2))
    >>> [place for _, place in allot([small, small], [one, two])]
    [0, 1]
    """
    left, order = list(rooms), deque(range(len(rooms)))
    allotted = []
    for tier in waiting:
        place = next((each for each in order if left[each].has(tier)), None)
        if place is not None:
            left[place] = left[place].less(tier)
            order.remove(place)
            order.append(place)
            allotted.append((tier, place))
    return allotted
