"""One pull: asked of the engine on a thread of its own, followed row by row, ended when nobody wants it any more.

The engine ends a pull whose listener hangs up, once the next bytes come: Docker 20.10 waits for these as long as the
registry keeps the connection, and whoever pulls the same layer meanwhile waits with it.
"""

import asyncio
import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import docker
import requests
from docker.auth import encode_header, get_config_header
from docker.utils import parse_repository_tag

from pupload.containers.docker import CALL_S, Engine, Refused
from pupload.containers.names import read_name
from pupload.errors import EngineUnavailable

SILENCE_S = 120.0
"""A pull that tells nothing for so long is given up; the engine tells many times a second while anything goes on."""

_MB = 10**6


class Fault(Enum):
    """Whose fault it is that an image cannot be had."""

    NAME = "name"
    """The registry knows no such image, or does not give it: another try is answered likewise."""
    IMAGE = "image"
    """Something about this image; another try may help, and is the node's."""
    AWAY = "away"
    """The registry, the way to it, or the engine's disk: any image would have met it."""
    RULE = "rule"
    """The operator's: images may not come from there."""


_SAID = {
    Fault.NAME: (
        "not found", "manifest unknown", "access denied", "unauthorized", "authentication required", "does not exist",
        "invalid reference", "forbidden", "no matching manifest", "no basic auth credentials",
        "requested access", ": denied", "denied: ",
        "http 401", "http 403", "http 404",
    ),
    # A registry's host that nobody knows is more often a slip of the pen than a fault of the net.
    Fault.IMAGE: ("dial tcp: lookup", "no such host"),
    Fault.AWAY: (
        "dial tcp", "connection re", "i/o timeout", "tls handshake", "timeout exceeded", "deadline exceeded", "eof",
        "toomanyrequests", "too many requests", "no space left", "status: 5", "code 5", "http 5", "http 429",
        "bad gateway", "service unavailable", "server error", "broken pipe",
    ),
}  # fmt: skip


def fault_of(said: str) -> Fault:
    """What an engine's word about a pull means; the first of the lists that has a word of it.

    >>> fault_of("manifest unknown"), fault_of("dial tcp 10.0.0.1:443: i/o timeout")
    (<Fault.NAME: 'name'>, <Fault.AWAY: 'away'>)
    """
    lower = said.lower()
    return next((fault for fault, words in _SAID.items() if any(word in lower for word in words)), Fault.IMAGE)


@dataclass(slots=True)
class Pull:
    """A pull of `name` with the credentials that belong to it: those given, else the Docker configuration's."""

    name: str
    login: Mapping[str, str] | None = None
    _layers: dict[str, tuple[int, int]] = field(default_factory=dict)
    _response: requests.Response | None = None
    _ended: bool = False

    @property
    def progress(self) -> str:
        """How far the layers are that are under way; "" while nothing is known."""
        layers = list(self._layers.values())
        if not layers:
            return ""
        return f"{sum(done for done, _ in layers) / _MB:.1f} of {sum(whole for _, whole in layers) / _MB:.1f} MB"

    async def run(self, engine: Engine, deadline_s: float) -> str:
        """What the engine says went wrong; "" when nothing did.

        Errors: EngineUnavailable when the engine, or the pull, is silent for long; TimeoutError after `deadline_s`.
        """
        try:
            async with asyncio.timeout(deadline_s):
                return await engine.call_aside("pull", lambda client: self._asked(client, min(SILENCE_S, deadline_s)))
        except Refused as refused:
            return str(refused)
        finally:
            self._end()

    def _asked(self, client: docker.APIClient, silence_s: float) -> str:
        url = f"{client.base_url}/v{client.api_version}/images/create"
        wishes, headers = _wishes(self.name), self._headers(client)
        response = client.request("POST", url, params=wishes, headers=headers, stream=True, timeout=(CALL_S, silence_s))
        with contextlib.closing(response):
            self._response = response
            if self._ended:
                raise EngineUnavailable("nobody wants the pull any more")
            if response.status_code >= 300:
                raise Refused(response.status_code, _message(response))
            return self._followed(_rows(response))

    def _followed(self, rows: Iterator[Mapping[str, Any]]) -> str:
        for row in rows:
            if "error" in row:
                return str(row["error"])
            detail = row.get("progressDetail") or {}
            if detail.get("total") and row.get("status") == "Downloading":
                self._layers[str(row.get("id"))] = (int(detail.get("current", 0)), int(detail["total"]))
        return ""

    def _headers(self, client: docker.APIClient) -> dict[str, str]:
        name = read_name(self.name)
        if self.login is not None:
            header: bytes | None = encode_header(dict(self.login))
        else:
            header = get_config_header(client, name.registry if name else None)
        return {"X-Registry-Auth": header.decode()} if header else {}

    def _end(self) -> None:
        self._ended = True
        # Wakes the thread that reads; one that has read to the end has no connection any more.
        if self._response is not None:
            with contextlib.suppress(RuntimeError, ValueError, OSError, AttributeError):
                self._response.raw.shutdown()


def _wishes(name: str) -> dict[str, str]:
    repository, tag = parse_repository_tag(name)
    # Without a tag the engine would pull every tag there is.
    return {"fromImage": repository, "tag": tag or "latest"}


def _rows(response: requests.Response) -> Iterator[Mapping[str, Any]]:
    for line in response.iter_lines():
        if line.strip():
            with contextlib.suppress(ValueError):
                yield json.loads(line)


def _message(response: requests.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError):
        return response.text[:500]
