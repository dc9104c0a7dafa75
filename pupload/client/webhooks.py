"""Webhooks: what was told of a run, and whether what came is from the server."""

import json
from collections.abc import Mapping

from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook, WebhookVerificationError

from pupload.answers.webhooks import WebhookAnswer, WebhookBody, WebhookList
from pupload.client.errors import BadSignature
from pupload.client.reading import path_of, read
from pupload.client.transport import Call, Transport


class AsyncWebhooks:
    """Calls about deliveries."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def log(self, run_id: str) -> list[WebhookAnswer]:
        """The run's deliveries, each with its tries."""
        return read(WebhookList, await self._transport.json(Call("GET", path_of("runs", run_id, "webhooks")))).webhooks

    async def redeliver(self, webhook_id: str) -> WebhookAnswer:
        """The delivery, which is made again under the same id."""
        call = Call("POST", path_of("webhooks", webhook_id, "redeliver"), repeatable=False)
        return read(WebhookAnswer, await self._transport.json(call))


def verify_webhook(headers: Mapping[str, str], body: bytes | str, secret: str) -> WebhookBody:
    """What the webhook tells, once it is sure that it is from who has `secret` and not older than five minutes.

    `body` is what came, byte by byte; `secret` what `pup webhook-secret` prints: one, or several parted by blanks.
    Errors: BadSignature.
    """
    for each in secret.split():
        try:
            Webhook(each).verify(body, dict(headers), json_parse=False)
        except (WebhookVerificationError, EmptyWebhookSecretError, ValueError):
            # The library answers a header of another shape with whatever it stumbles over; the next secret may be it.
            continue
        return read(WebhookBody, json.loads(body))
    raise BadSignature("the webhook's signature is not good")
