"""A store by whose clock what we sign is of another time: the clocks are named, and no key is blamed."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from pupload.errors import StoreUnavailable
from pupload.stores.s3 import S3Store
from tests.support.s3_servers import S3Server

pytestmark = pytest.mark.integration

TOLD = "its clock and ours differ by too much; set the clocks"


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_refusal_that_our_clock_explains_names_the_clocks(rclone: S3Server, hours: int) -> None:
    store = S3Store(rclone.new_bucket())
    try:
        with time_machine.travel(datetime.now(UTC) + timedelta(hours=hours), tick=True):
            with pytest.raises(StoreUnavailable, match=TOLD):
                await store.check()
            with pytest.raises(StoreUnavailable, match=TOLD):
                await store.put("a", b"abc", "")
        await store.check()
    finally:
        await store.close()


@pytest.mark.parametrize("minutes", [-10, 10])
async def test_ten_minutes_are_borne(rclone: S3Server, minutes: int) -> None:
    store = S3Store(rclone.new_bucket())
    try:
        with time_machine.travel(datetime.now(UTC) + timedelta(minutes=minutes), tick=True):
            await store.put("a", b"abc", "")
            assert await store.get("a", 3) == b"abc"
    finally:
        await store.close()
