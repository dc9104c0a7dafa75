"""Keys and balances, as a program meets them."""

from collections.abc import Iterator

import pytest

from pupload.client import Client, InsufficientCredits, NotAuthorized
from tests.acceptance.conftest import SETTINGS, a_running_system
from tests.acceptance.test_keys_and_credits import PRICES, account_of, pup
from tests.support.shell_steps import a_request, a_source, a_step
from tests.support.system import System

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def priced_system(busybox: str) -> Iterator[System]:
    """A running system with prices."""
    with a_running_system(SETTINGS | PRICES) as system:
        yield system


def test_a_key_opens_the_door_and_its_balance_closes_it(priced_system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    key = pup(priced_system.data, "key", "create", "program").strip()
    with Client(priced_system.url) as stranger, pytest.raises(NotAuthorized) as raised:
        stranger.runs()
    assert raised.value.request_id
    monkeypatch.setenv("PUPLOAD_API_KEY", key)
    monkeypatch.setenv("PUPLOAD_URL", priced_system.url)
    with Client() as payer:
        assert payer.account().balance is None
        assert payer.run(a_request(a_step()), {"in": "x"}).status == "COMPLETE"
        long = a_request(a_source("long", "sleep 60", Tier="tiny"))
        ended = payer.run(long, budget=1.5)
        assert (ended.status, ended.error and ended.error.code) == ("ERROR", "BUDGET_EXHAUSTED")
        pup(priced_system.data, "account", "credit", account_of(priced_system.data, "program"), "0")
        with pytest.raises(InsufficientCredits):
            payer.run(a_request(a_step()), {"in": "x"})
