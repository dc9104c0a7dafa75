"""Webhooks, from the event to the receiver: written with it, signed, tried until they arrive."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from pupload.config import ControllerConfig
from pupload.controller import delivery
from pupload.controller.keys import add_key
from pupload.controller.signing import secret_of, signing_secrets
from pupload.stores.base import Store
from tests.support.controller import REFERENCE, ControllerUnderTest, a_controller
from tests.support.until import until_found
from tests.support.web_server import Reply, Seen, WebServer, a_web_server, endless, held, redirect

pytestmark = pytest.mark.integration

OLD, NEW = "whsec_b2xkIHNlY3JldCBvZiB0d2VudHktZm91cg==", "whsec_bmV3IHNlY3JldCBvZiB0d2VudHktZm91cg=="
QUICK = {"url_allow": ("localhost",), "webhook_delay_s": 0.02, "webhook_secret": f"{NEW} {OLD}"}


@pytest.fixture
def receiver() -> Iterator[WebServer]:
    with a_web_server() as server:
        yield server


@pytest.fixture
async def controller(
    database_dsn: str, store: Store, tmp_path: Path, notifications: bool
) -> AsyncIterator[ControllerUnderTest]:
    async with a_controller(database_dsn, store, tmp_path, notifications=notifications, **QUICK) as running:
        yield running


def url_of(receiver: WebServer, *answers: Any, query: str = "") -> str:
    return receiver.on("/hook", *answers).replace("127.0.0.1", "localhost") + query


async def a_run(controller: ControllerUnderTest, url: str, *events: str, status: int = 202) -> Any:
    wish = {**REFERENCE, "CallbackURL": url, **({"CallbackEvents": list(events)} if events else {})}
    return await controller.post("/api/v1/runs", wish, expect=status)


async def asked(receiver: WebServer, times: int = 1) -> list[Seen]:
    return await asyncio.to_thread(receiver.await_asked, "/hook", times)


async def settled(controller: ControllerUnderTest, run_id: str) -> list[Any]:
    """The deliveries of the run, once none is pending."""

    async def told() -> list[Any]:
        found = list((await controller.get(f"/api/v1/runs/{run_id}/webhooks"))["Webhooks"])
        return [] if any(each["Status"] == "pending" for each in found) else found

    return await until_found(told)


async def test_the_end_of_a_run_is_told_signed_and_without_urls(
    controller: ControllerUnderTest, receiver: WebServer
) -> None:
    run = await a_run(controller, url_of(receiver, Reply(204)))
    worker = await controller.worker()
    async with controller.http.put(f"{controller.url}/api/v1/runs/{run['ID']}/inputs/input-image", data=b"abc") as put:
        assert put.status == 204
    (assignment,) = await worker.claim()
    await worker.finish(assignment.ref, outputs=[await worker.upload_output(assignment, b"result", "text/plain")])
    (seen,) = await asked(receiver)
    for secret in (OLD, NEW):
        body = Webhook(secret).verify(seen.body, dict(seen.headers))
    (end,) = [event for event in await all_events(controller, run["ID"]) if event["Type"] == "run_completed"]
    assert {name: body[name] for name in end} == end
    assert (body["Run"]["ID"], body["Run"]["Status"], body["Run"]["Error"]) == (run["ID"], "COMPLETE", {})
    assert body["Run"]["Artifacts"]["output-image"]["Size"] == 6
    assert "http" not in seen.body.decode()
    assert (seen.headers["content-type"], seen.method) == ("application/json", "POST")
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(seen.body.replace(b"COMPLETE", b"ERROR"), dict(seen.headers))


async def test_the_receivers_of_one_account_cannot_sign_for_another_s(
    controller: ControllerUnderTest, receiver: WebServer
) -> None:
    async with controller.running.parts.service.database.connection() as connection:
        key, account = await add_key(connection, "mine")
    headers = {"X-API-Key": key}
    await until_found(lambda: _asks_for_keys(controller))
    wish = {**REFERENCE, "CallbackURL": url_of(receiver, Reply())}
    run = await controller.post("/api/v1/runs", wish, expect=202, headers=headers)
    await controller.post(f"/api/v1/runs/{run['ID']}/cancel", headers=headers)
    (seen,) = await asked(receiver)
    for secret in (OLD, NEW):
        assert Webhook(secret_of(secret, account)).verify(seen.body, dict(seen.headers))["RunID"] == run["ID"]
        for foreign in (secret, secret_of(secret, "acc_other")):
            with pytest.raises(WebhookVerificationError):
                Webhook(foreign).verify(seen.body, dict(seen.headers))


async def _asks_for_keys(controller: ControllerUnderTest) -> bool:
    async with controller.http.get(f"{controller.url}/api/v1/runs") as response:
        return response.status == 401


async def all_events(controller: ControllerUnderTest, run_id: str) -> list[Any]:
    async with controller.http.get(f"{controller.url}/api/v1/runs/{run_id}/events") as response:
        lines = (await response.text()).splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


async def test_a_failing_receiver_is_tried_again_under_the_same_id(
    controller: ControllerUnderTest, receiver: WebServer
) -> None:
    run = await a_run(
        controller, url_of(receiver, Reply(500), redirect("/elsewhere"), Reply(200), query="?key=private")
    )
    await controller.post(f"/api/v1/runs/{run['ID']}/cancel")
    tries = await asked(receiver, 3)
    assert len({seen.headers["webhook-id"] for seen in tries}) == 1
    (told,) = await settled(controller, run["ID"])
    assert (told["ID"], told["Type"], told["Status"]) == (tries[0].headers["webhook-id"], "run_cancelled", "delivered")
    assert [each["Status"] for each in told["Tries"]] == [500, 302, 200]
    assert [bool(each["Error"]) for each in told["Tries"]] == [True, True, False]
    assert told["URL"] == url_of(receiver, Reply(200))
    assert receiver.asked("/elsewhere") == []
    assert tries[0].path == "/hook?key=private"


async def test_only_the_events_that_were_asked_for_are_told(
    controller: ControllerUnderTest, receiver: WebServer
) -> None:
    run = await a_run(controller, url_of(receiver, Reply()), "waiting_uploads", "run_started", "node_queued")
    await controller.post(f"/api/v1/runs/{run['ID']}/cancel")
    told = await settled(controller, run["ID"])
    assert [(each["Type"], each["Seq"]) for each in told] == [("run_started", 1), ("waiting_uploads", 2)]
    assert {json.loads(seen.body)["Seq"] for seen in await asked(receiver, 2)} == {1, 2}


async def test_a_run_that_nobody_asked_about_has_no_deliveries(controller: ControllerUnderTest) -> None:
    run = await controller.post("/api/v1/flow/test", REFERENCE)
    await controller.post(f"/api/v1/runs/{run['ID']}/cancel")
    assert await controller.get(f"/api/v1/runs/{run['ID']}/webhooks") == {"Webhooks": []}
    await controller.get("/api/v1/runs/run_none/webhooks", expect=404)


async def test_a_receiver_that_wants_no_more_is_left_alone_until_somebody_redelivers(
    controller: ControllerUnderTest, receiver: WebServer
) -> None:
    run = await a_run(controller, url_of(receiver, Reply(410), Reply(200)))
    await controller.post(f"/api/v1/runs/{run['ID']}/cancel")
    (told,) = await settled(controller, run["ID"])
    assert (told["Status"], len(told["Tries"])) == ("failed", 1)
    for times in (2, 3):
        await controller.post(f"/api/v1/webhooks/{told['ID']}/redeliver", expect=202)
        await asked(receiver, times)
        (told,) = await settled(controller, run["ID"])
        assert (told["Status"], len(told["Tries"])) == ("delivered", times)
    assert len({seen.headers["webhook-id"] for seen in receiver.asked("/hook")}) == 1
    await controller.post("/api/v1/webhooks/msg_none/redeliver", expect=404)


async def test_a_delivery_is_given_up_when_its_time_is_over(
    controller: ControllerUnderTest, receiver: WebServer
) -> None:
    run = await a_run(controller, url_of(receiver, Reply(503, headers={"Retry-After": "100000"})))
    parts = controller.running.parts
    async with parts.service.database.connection() as connection:
        await controller.post(f"/api/v1/runs/{run['ID']}/cancel")
        await asked(receiver)
        # Retry-After was heard: the next try is hours away.
        far = "SELECT count(*) FROM webhooks WHERE tries = 1 AND next_at > now() + interval '3 hours'"
        await until_found(lambda: connection.fetchval(far))
        await connection.execute(
            "UPDATE webhooks SET next_at = now(), until = now() + $1::interval", timedelta(hours=1)
        )
    (told,) = await settled(controller, run["ID"])
    assert (told["Status"], [each["Status"] for each in told["Tries"]]) == ("failed", [503, 503])


async def test_a_body_without_end_and_a_receiver_that_hangs_hold_up_nobody(
    controller: ControllerUnderTest, receiver: WebServer
) -> None:
    release = threading.Event()
    hanging = receiver.on("/hangs", held(release, Reply())).replace("127.0.0.1", "localhost")
    held_up = [await a_run(controller, hanging) for _ in range(5)]
    run = await a_run(controller, url_of(receiver, endless()))
    for each in (*held_up, run):
        await controller.post(f"/api/v1/runs/{each['ID']}/cancel")
    (told,) = await settled(controller, run["ID"])
    assert told["Status"] == "delivered"
    assert (await controller.get(f"/api/v1/runs/{held_up[0]['ID']}/webhooks"))["Webhooks"][0]["Status"] == "pending"
    release.set()


async def test_receivers_of_one_account_that_all_hang_hold_up_no_other_account(
    controller: ControllerUnderTest, receiver: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_AT_ONCE", 4)
    release = threading.Event()
    hanging = receiver.on("/hangs", held(release, Reply())).replace("127.0.0.1", "localhost")
    async with controller.running.parts.service.database.connection() as connection:
        mine, theirs = [(await add_key(connection, name))[0] for name in ("mine", "theirs")]
    await until_found(lambda: _asks_for_keys(controller))
    hung = [await _ended(controller, hanging, mine) for _ in range(6)]
    await asyncio.to_thread(receiver.await_asked, "/hangs", 2)
    heard = [await _ended(controller, url_of(receiver, Reply()), theirs) for _ in range(6)]
    assert {json.loads(seen.body)["RunID"] for seen in await asked(receiver, 6)} == set(heard)
    assert len(receiver.asked("/hangs")) == 2
    release.set()
    told = await asyncio.to_thread(receiver.await_asked, "/hangs", 6)
    assert {json.loads(seen.body)["RunID"] for seen in told} == set(hung)


async def _ended(controller: ControllerUnderTest, url: str, key: str) -> str:
    """A run of this key's that is over, as the URL is to be told."""
    wish, headers = {**REFERENCE, "CallbackURL": url}, {"X-API-Key": key}
    run = await controller.post("/api/v1/runs", wish, expect=202, headers=headers)
    await controller.post(f"/api/v1/runs/{run['ID']}/cancel", headers=headers)
    return str(run["ID"])


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"CallbackURL": "http://127.0.0.1:1/hook"}, "URI_NOT_ALLOWED"),
    ({"CallbackURL": "https://10.0.0.1/hook"}, "URI_NOT_ALLOWED"),
    ({"CallbackURL": "https://[::ffff:169.254.169.254]/hook"}, "URI_NOT_ALLOWED"),
    ({"CallbackURL": "ftp://example.com/hook"}, "URI_NOT_ALLOWED"),
    ({"CallbackURL": "nowhere"}, "URI_NOT_ALLOWED"),
    ({"CallbackURL": "https://example.com/", "CallbackEvents": ["run_won"]}, "CALLBACK_INVALID"),
    ({"CallbackURL": "https://example.com/", "CallbackEvents": ["node_log"]}, "CALLBACK_INVALID"),
    ({"CallbackEvents": ["run_failed"]}, "CALLBACK_INVALID"),
]


async def test_what_cannot_be_told_is_refused_before_there_is_a_run(controller: ControllerUnderTest) -> None:
    answers = [await controller.post("/api/v1/runs", {**REFERENCE, **wish}, expect=422) for wish, _ in REFUSED]
    assert [answer["Error"]["Code"] for answer in answers] == [code for _, code in REFUSED]
    assert (await controller.get("/api/v1/runs"))["Runs"] == []


async def test_a_name_that_leads_inside_is_refused_at_the_connection(
    database_dsn: str, store: Store, tmp_path: Path, receiver: WebServer
) -> None:
    async with a_controller(database_dsn, store, tmp_path, webhook_delay_s=0.02) as controller:
        # Nothing tells from the name alone where it leads.
        run = await a_run(controller, "https://localhost/hook")
        await controller.post(f"/api/v1/runs/{run['ID']}/cancel")
        tries = await until_found(lambda: first_tries(controller, run["ID"]))
    assert (tries[0]["Status"], "not of the public internet" in tries[0]["Error"]) == (None, True)


async def first_tries(controller: ControllerUnderTest, run_id: str) -> list[Any]:
    return list((await controller.get(f"/api/v1/runs/{run_id}/webhooks"))["Webhooks"][0]["Tries"])


async def test_what_a_controller_claimed_and_did_not_tell_is_told_by_another(
    database_dsn: str, store: Store, tmp_path: Path, receiver: WebServer
) -> None:
    async with a_controller(database_dsn, store, tmp_path, **QUICK) as controller:
        release = threading.Event()
        run = await a_run(controller, url_of(receiver, held(release, Reply()), Reply()))
        await controller.post(f"/api/v1/runs/{run['ID']}/cancel")
        await asked(receiver)
    async with a_controller(database_dsn, store, tmp_path, **QUICK) as other:
        async with other.running.parts.service.database.connection() as connection:
            await connection.execute("UPDATE webhooks SET next_at = now()")
        (told,) = await settled(other, run["ID"])
    release.set()
    assert told["Status"] == "delivered"
    assert len({seen.headers["webhook-id"] for seen in receiver.asked("/hook")}) == 1


async def test_deliveries_go_with_their_run(controller: ControllerUnderTest, receiver: WebServer) -> None:
    run = await a_run(controller, url_of(receiver, Reply()))
    await controller.post(f"/api/v1/runs/{run['ID']}/cancel")
    await settled(controller, run["ID"])
    async with controller.http.delete(f"{controller.url}/api/v1/runs/{run['ID']}") as response:
        assert response.status == 204
    async with controller.running.parts.service.database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM webhooks") == 0
        assert await connection.fetchval("SELECT count(*) FROM webhook_tries") == 0


def test_without_a_setting_there_is_one_secret_and_it_stays(tmp_path: Path) -> None:
    config = ControllerConfig(data_dir=tmp_path)
    (secret,) = signing_secrets(config)
    assert signing_secrets(config) == [secret]
    assert (tmp_path / "webhook.secret").stat().st_mode & 0o777 == 0o600
