"""Webhook wells: a file that somebody else posts."""

import pytest

from tests.support.shell_steps import a_request
from tests.support.system import System
from tests.support.visitor import Visitor

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]


def test_a_file_that_is_posted_starts_the_node(visitor: Visitor, system: System) -> None:
    run = visitor.submit(a_request(DataWells=[{"Edge": "in", "Source": "webhook"}]))
    (waiting,) = run["WaitingURLs"]
    assert (run["Status"], waiting["PutURL"]) == ("WAITING", "")
    url = waiting["PostURL"]
    visitor.ask("POST", f"{url[:-1]}-", status=404, data=b"abc")
    visitor.ask("POST", url, status=204, data=b"abc")
    visitor.ask("POST", url, status=409, data=b"other")
    assert visitor.ended(run["ID"])["Status"] == "COMPLETE"
    assert visitor.artifact(run["ID"], "out") == b"abc"
    assert url.rpartition("/")[2] not in system.log
