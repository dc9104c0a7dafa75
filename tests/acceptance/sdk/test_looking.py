"""Sessions, evaluations, traces, webhooks and nested flows from Python."""

from pathlib import Path

import pytest

from pupload.client import BadSignature, Client, EvalsWish, UnknownThing, verify_webhook
from tests.acceptance.sdk.conftest import published
from tests.acceptance.test_evaluations import COUNT, LENGTH
from tests.acceptance.test_nested_flows import calling
from tests.acceptance.test_sessions import COUNTER
from tests.support.shell_steps import a_request, a_source, a_step
from tests.support.system import System
from tests.support.visitor import Visitor
from tests.support.web_server import Reply, WebServer

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]


def test_runs_of_a_session_share_what_they_leave(client: Client) -> None:
    session = client.sessions.create({"user": "Ada"})
    counts = [client.run(COUNTER, session_id=session.id).values["out"] for _ in range(2)]
    assert [str(count).strip() for count in counts] == ["1", "2"]
    seen = client.sessions.get(session.id)
    assert (len(seen.runs), seen.variables) == (2, {"user": "Ada"})
    assert session.id in {each.id for each in client.sessions.list(limit=500).sessions}
    client.sessions.delete(session.id)
    with pytest.raises(UnknownThing):
        client.sessions.get(session.id)


def test_a_run_is_judged(client: Client) -> None:
    client.put_flow(
        "eval-length", a_request(a_step("length", COUNT, reads={"text": "text"}, writes={"verdict": "v"}), Name="")
    )
    client.put_flow("sdk-judged", a_request(a_step(), Name="", Evals=[LENGTH]))
    result = client.run("sdk-judged", {"in": "hello"}, evals=EvalsWish(run_mode="block"))
    assert [(each.name, each.verdict and each.verdict.score) for each in result.evals] == [("length", 5)]
    assert client.evals(result.id) == result.evals


def test_a_trace_tells_of_each_attempt(client: Client) -> None:
    request = a_request(a_step(script='test "$PUP_ATTEMPT" = 2 && cat "$INPUT_IN" > "$OUTPUT_OUT"'))
    run = client.run(request, {"in": "seen"}, trace=True)
    trace = client.trace(run.id, attempt="all")
    assert [(each.attempt, each.outcome) for each in trace.attempts] == [(1, "failed"), (2, "succeeded")]
    (last,) = client.trace(run.id).attempts
    assert last.context is not None
    assert [text.text for text in last.context.inputs] == ["seen"]


def test_a_webhook_is_told_and_known_to_be_ours(client: Client, system: System, strangers: WebServer) -> None:
    url = strangers.on("/sdk-told", Reply(200))
    run = client.run(a_request(a_source("made", "exit 0", writes={})), callback_url=url)
    (seen,) = strangers.await_asked("/sdk-told", 1)
    secret = (Path(system.data) / "webhook.secret").read_text()
    told = verify_webhook(seen.headers, seen.body, secret)
    assert (told.type, told.run_id, told.run.status) == ("run_completed", run.id, "COMPLETE")
    with pytest.raises(BadSignature):
        verify_webhook(seen.headers, seen.body + b" ", secret)
    Visitor.eventually(lambda: client.webhooks.log(run.id)[0].status == "delivered")
    client.webhooks.redeliver(client.webhooks.log(run.id)[0].id)
    assert strangers.await_asked("/sdk-told", 2)


def test_a_flow_runs_as_a_node_of_another(client: Client) -> None:
    published(client, "sdk-inner", a_step())
    client.put_flow("sdk-outer", calling("sdk-inner"))
    top = client.run("sdk-outer", {"in": "hello"}).raise_for_status()
    child = client.get_run(top.run.node_state["call"].child_run_id)
    assert (top.values, child.parent_run_id, child.root_run_id) == ({"out": "hello"}, top.id, top.id)


def test_the_server_tells_of_itself(client: Client) -> None:
    assert client.ready()
    assert client.account().balance is None
    assert any(worker.live for worker in client.workers())
    assert "c-nano" in {tier.name for tier in client.tiers()}
