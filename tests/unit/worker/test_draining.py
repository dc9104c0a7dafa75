"""A worker that is asked to end, by itself."""

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from pupload.tiers import Capacity
from pupload.worker import serving
from pupload.worker.capacity import Ledger
from pupload.worker.serving import Worker
from pupload.worker.shop import Shop


class _Mute:
    """A controller that takes every call and answers none."""

    async def beat(self, _beat: object) -> None:
        await asyncio.Event().wait()


async def test_a_controller_that_does_not_answer_keeps_no_worker_from_ending_in_good_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "_LAST_CLAIM_S", 0.01)
    shop = cast("Shop", SimpleNamespace(instance="one", control=_Mute()))
    await Worker(shop, Ledger(Capacity(1.0, 1, 1)))._tell_draining()
