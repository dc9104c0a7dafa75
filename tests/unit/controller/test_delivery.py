"""What a receiver's answer means, and when it is asked again."""

from datetime import UTC, datetime

import pytest

from pupload.config import ControllerConfig
from pupload.controller.delivery import judged, pause_after, wait_asked
from pupload.controller.signing import signing_secrets
from pupload.errors import InvalidConfig
from pupload.web.guarded import Posted

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_success_has_arrived(status: int) -> None:
    outcome = judged(Posted(status), NOW)
    assert (outcome.arrived, outcome.ended) == (True, False)


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 429, 500, 503])
def test_anything_else_is_tried_again(status: int) -> None:
    outcome = judged(Posted(status), NOW)
    assert (outcome.arrived, outcome.ended, outcome.status) == (False, False, status)
    assert str(status) in outcome.error


def test_a_receiver_that_is_gone_is_not_tried_again() -> None:
    outcome = judged(Posted(410), NOW)
    assert (outcome.arrived, outcome.ended) == (False, True)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 60.0),
        ("Fri, 02 Jan 2026 03:00:00 GMT", 0.0),
        ("9" * 400, 999_999_999.0),
        ("", 0.0),
        ("soon", 0.0),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", 0.0),
        ("-5", 0.0),
        ("²", 0.0),
    ],
)
def test_a_receiver_may_say_when_to_ask_again(text: str, seconds: float) -> None:
    assert wait_asked({"retry-AFTER": text}, NOW) == seconds
    assert wait_asked({}, NOW) == 0.0


def test_pauses_grow_to_six_hours_and_are_spread() -> None:
    usual = [pause_after(tries, 5.0, 0.5) for tries in range(1, 60)]
    assert usual == sorted(usual)
    assert (usual[0], usual[-1]) == (5.0, 6 * 3600.0)
    assert [pause_after(1, 100.0, jitter) for jitter in (0.0, 1.0)] == [75.0, 125.0]
    assert 8 <= sum(sum(usual[:tries]) < 86400 for tries in range(60)) <= 14


@pytest.mark.parametrize(
    "secret", ["", " ", "whsec_", "whsec_c2hvcnQ=", "c2VjcmV0IG9mIHR3ZW50eS1mb3VyIGI=", "whsec_%%%%"]
)
def test_a_secret_that_cannot_sign_stops_the_start(secret: str) -> None:
    with pytest.raises(InvalidConfig, match="webhook_secret"):
        signing_secrets(ControllerConfig(webhook_secret=secret))
