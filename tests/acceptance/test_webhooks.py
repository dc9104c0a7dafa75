"""Webhooks: a receiver that fails twice gets the same delivery a third time, and can tell that it is ours."""

import json

import pytest
from standardwebhooks.webhooks import Webhook

from tests.support.shell_steps import a_request, a_source
from tests.support.system import System
from tests.support.visitor import Visitor
from tests.support.web_server import Reply, WebServer

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]


def test_the_end_of_a_run_is_told_until_it_is_heard(visitor: Visitor, system: System, strangers: WebServer) -> None:
    url = strangers.on("/told", Reply(500), Reply(500), Reply(200))
    request = a_request(a_source("made", 'echo result > "$OUTPUT_OUT"'))
    run = visitor.post("/api/v1/runs", {**request, "CallbackURL": url}, status=202)
    tries = strangers.await_asked("/told", 3)
    assert len({seen.headers["webhook-id"] for seen in tries}) == 1
    secret = (system.data / "webhook.secret").read_text()
    for seen in tries:
        told = Webhook(secret).verify(seen.body, dict(seen.headers))
        assert (told["Type"], told["RunID"], told["Run"]["Status"]) == ("run_completed", run["ID"], "COMPLETE")
        assert told["Run"]["Artifacts"]["out"]["Size"] == len("result\n")
    path = f"/api/v1/runs/{run['ID']}/webhooks"
    visitor.eventually(lambda: visitor.get(path)["Webhooks"][0]["Status"] == "delivered")
    (delivery,) = visitor.get(path)["Webhooks"]
    assert [each["Status"] for each in delivery["Tries"]] == [500, 500, 200]
    visitor.post(f"/api/v1/webhooks/{delivery['ID']}/redeliver", status=202)
    again = strangers.await_asked("/told", 4)[-1]
    assert again.headers["webhook-id"] == delivery["ID"]


def test_a_failed_run_is_told_with_its_error_and_only_what_was_asked_for(
    visitor: Visitor, strangers: WebServer
) -> None:
    url = strangers.on("/told-of-failures", Reply(204))
    request = a_request(a_source("made", "exit 3", MaxAttempts=1))
    wish = {**request, "CallbackURL": url, "CallbackEvents": ["run_failed", "node_started"]}
    run = visitor.post("/api/v1/runs", wish, status=202)
    told = [json.loads(seen.body) for seen in strangers.await_asked("/told-of-failures", 2)]
    assert sorted(each["Type"] for each in told) == ["node_started", "run_failed"]
    failed = next(each["Run"] for each in told if each["Type"] == "run_failed")
    assert (failed["Error"]["Code"], failed["Error"]["NodeID"]) == ("NODE_EXIT", "made")
    assert visitor.run(run["ID"])["Status"] == "ERROR"


def test_a_url_that_leads_inside_is_refused(visitor: Visitor) -> None:
    for url in ("http://127.0.0.1:1/", "https://192.168.1.1/", "https://[::1]/", "not a url"):
        refused = visitor.post("/api/v1/runs", {**a_request(), "CallbackURL": url}, status=422)
        assert refused["Error"]["Code"] == "URI_NOT_ALLOWED"
