"""Places at which a test may break the program: each is there once, and costs nothing where none is asked for."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pupload
from pupload import failpoints
from pupload.errors import InvalidConfig
from pupload.failpoints import POINTS, Struck, arm, reach, reach_now
from tests.acceptance.failpoints import test_controller, test_worker

ROOT = Path(pupload.__file__).parent
DOCUMENT = ROOT.parent / "docs/reliability.md"
ACTIONS = {"kill", "stop", "raise", "hang"}
TRIED_ELSEWHERE = {"image.removing"}
"""Where no run is under way."""
REACHED = re.compile(r"\breach(?:_now)?\((.*?)\)")


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


def test_every_place_is_reached_once_in_the_code_and_no_other_is() -> None:
    sources = [path.read_text() for path in ROOT.rglob("*.py") if path.name != "failpoints.py"]
    assert sorted(place for source in sources for place in REACHED.findall(source)) == sorted(
        f'"{name}"' for name in POINTS
    )


def test_the_documentation_has_every_place_as_it_is() -> None:
    told = re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| (.*) \|$", DOCUMENT.read_text(), re.MULTILINE)
    assert dict(told) == POINTS


def test_every_place_is_tried_by_every_action() -> None:
    tried = {(trial.point, trial.action) for module in (test_controller, test_worker) for trial in module.TRIALS}
    assert tried == {(name, action) for name in POINTS if name not in TRIED_ELSEWHERE for action in ACTIONS}


async def test_nothing_happens_where_nothing_is_armed() -> None:
    await reach("claim.heard")
    reach_now("beat.sending")
    arm("claim.heard:raise")
    await reach("finish.heard")


async def test_a_place_strikes_once_at_its_time() -> None:
    arm("claim.heard:raise:2, finish.heard:raise")
    await reach("claim.heard")
    with pytest.raises(Struck, match=r"claim\.heard"):
        await reach("claim.heard")
    await reach("claim.heard")


async def test_a_place_that_hangs_can_be_cancelled() -> None:
    arm("claim.heard:hang")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await reach("claim.heard")


async def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    wish = tmp_path / "points"
    arm(f"@{wish}")
    await reach("claim.heard")
    for _ in range(2):
        (tmp_path / "new").write_text("claim.heard:raise")
        (tmp_path / "new").rename(wish)
        with pytest.raises(Struck):
            await reach("claim.heard")
        wish.unlink()
        await reach("claim.heard")


@pytest.mark.parametrize("wish", ["claim.herd:kill", "claim.heard", "claim.heard:burn", "claim.heard:kill:x",
                                  "claim.heard:sleep", "claim.heard:kill(3)"])  # fmt: skip
def test_what_is_no_place_or_action_stops_the_start_with_the_list(wish: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, wish)
    with pytest.raises(InvalidConfig) as refused:
        failpoints.arm_by_environment()
    assert all(name in refused.value.message for name in POINTS)
