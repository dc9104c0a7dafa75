"""Whether a webhook is from who has the secret."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks.webhooks import Webhook

from pupload.client import AsyncClient, BadSignature, verify_webhook
from tests.support.fake_server import FakeServer, gives

SECRET, OTHER = ("whsec_" + base64.b64encode(bytes([n]) * 24).decode() for n in (1, 2))
MOMENT = "2026-01-02T03:04:05Z"
BODY = json.dumps(
    {"Seq": 9, "Type": "run_completed", "RunID": "run_1", "Time": MOMENT, "Data": {}, "Newer": 1,
     "Run": {"ID": "run_1", "FlowName": "f", "Status": "COMPLETE", "CreatedAt": MOMENT}}
).encode()  # fmt: skip


def headers(at: datetime | None = None, secret: str = SECRET) -> dict[str, str]:
    at = at or datetime.now(UTC)
    signature = Webhook(secret).sign("msg_1", at, BODY.decode())
    return {"Webhook-Id": "msg_1", "Webhook-Timestamp": str(int(at.timestamp())), "Webhook-Signature": signature}


@pytest.mark.parametrize("secrets", [SECRET, f"{OTHER} {SECRET}", f"{SECRET}\n"])
def test_what_was_signed_by_one_of_the_secrets_is_read(secrets: str) -> None:
    told = verify_webhook(headers(), BODY, secrets)
    assert (told.type, told.run.status) == ("run_completed", "COMPLETE")
    assert verify_webhook(headers(), BODY.decode(), secrets) == told


@pytest.mark.parametrize(
    ("changed", "body", "secret"),
    [
        ({}, BODY + b" ", SECRET),
        ({}, BODY, OTHER),
        ({}, BODY, ""),
        ({}, BODY, "whsec_!"),
        ({}, b"\xff", SECRET),
        ({"Webhook-Id": "msg_2"}, BODY, SECRET),
        ({"Webhook-Id": ""}, BODY, SECRET),
        ({"Webhook-Signature": "nonsense"}, BODY, SECRET),
    ],
)
def test_what_was_changed_is_refused(changed: dict[str, str], body: bytes, secret: str) -> None:
    with pytest.raises(BadSignature, match="signature is not good"):
        verify_webhook(headers() | changed, body, secret)


def test_what_is_old_is_refused() -> None:
    with pytest.raises(BadSignature):
        verify_webhook(headers(datetime.now(UTC) - timedelta(minutes=6)), BODY, SECRET)


async def test_deliveries_are_looked_at_and_made_again(server: FakeServer, client: AsyncClient) -> None:
    delivery = {
        "ID": "msg_1", "RunID": "run_1", "Seq": 9, "Type": "run_completed", "URL": "https://x", "Status": "failed",
        "CreatedAt": MOMENT, "Tries": [{"At": MOMENT, "Status": None, "Error": "no answer", "DurationMS": 5}],
    }  # fmt: skip
    server.on("GET", "/api/v1/runs/run_1/webhooks", gives({"Webhooks": [delivery]}))
    server.on("POST", "/api/v1/webhooks/msg_1/redeliver", gives(delivery | {"Status": "pending"}, 202))
    [found] = await client.webhooks.log("run_1")
    assert found.tries[0].error == "no answer"
    assert (await client.webhooks.redeliver(found.id)).status == "pending"
