"""What a server that is stopped and started again knows of its runs."""

from pathlib import Path

import pytest

from tests.acceptance.conftest import SETTINGS
from tests.acceptance.test_tools import asking, resumed, started, waiting
from tests.support.shell_steps import a_request, a_source
from tests.support.system import a_system
from tests.support.visitor import Visitor

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]


def test_what_has_ended_and_what_waits_for_its_client_is_there_after_a_restart(place: Path, busybox: str) -> None:
    with a_system(place / "data", SETTINGS) as system, Visitor(system.url) as visitor:
        ended = visitor.complete(a_request(a_source("made", 'echo said; printf made > "$OUTPUT_OUT"')))
        events = visitor.events(ended["ID"])
        paused = waiting(visitor, started(visitor, asking()))
        system.stop()
        system.start()
        assert visitor.status(ended["ID"]) == ended
        assert visitor.events(ended["ID"]) == events
        assert visitor.artifact(ended["ID"], "out") == b"made"
        resumed(visitor, paused, "rain")
        assert visitor.ended(paused["ID"])["Status"] == "COMPLETE"
        assert b"rain" in visitor.artifact(paused["ID"], "out")
