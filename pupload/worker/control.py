"""The worker's client of its controller."""

import asyncio
import io
import random
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import aiohttp
from pydantic import ValidationError

from pupload.document import Document
from pupload.errors import ControllerUnavailable, Defect, Forbidden, LostLease, NotFound, Unauthorized
from pupload.protocol import (
    Assignment,
    Beat,
    BeatAnswer,
    Claim,
    Claimed,
    Finish,
    Finished,
    Hello,
    Lines,
    Pin,
    Pinned,
    Sign,
    Signed,
    Welcome,
)

PATH = "api/v1/worker/"
CALL_S = 15.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
_IN_ONE_GO = 1024 * 1024

D = TypeVar("D", bound=Document)


async def pauses(first_s: float = FIRST_PAUSE_S, longest_s: float = LONGEST_PAUSE_S) -> AsyncIterator[int]:
    """0, 1, 2 …, with a growing pause before each but the first; full jitter keeps workers from marching in step."""
    attempt = 0
    while True:
        yield attempt
        await asyncio.sleep(min(longest_s, first_s * 2.0 ** min(attempt, 20)) * (0.5 + random.random() / 2))  # noqa: S311
        attempt += 1


class Addresses:
    """Where controllers listen, each ending with a slash: one is spoken to until it does not answer, then the next.

    Any thread may ask and tell.
    """

    def __init__(self, urls: str) -> None:
        self._urls = [url.rstrip("/") + "/" for url in urls.split()]
        self._turn = 0

    @property
    def now(self) -> str:
        """The one to speak to."""
        return self._urls[self._turn % len(self._urls)]

    def leave(self, url: str) -> None:
        """That one did not answer; when others have noticed already, nothing changes."""
        if self.now == url:
            self._turn += 1


class Control:
    """The controllers, spoken to over kept connections with the worker's token. `urls` are parted by blanks."""

    def __init__(self, urls: str, token: str) -> None:
        self.addresses = Addresses(urls)
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}"},
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def hello(self, hello: Hello) -> Welcome:
        """Introduce this instance; asked until the controller answers."""
        async for _ in pauses():
            try:
                return await self._ask("hello", hello, Welcome)
            except ControllerUnavailable:
                continue
        raise Defect("pauses never end")

    async def claim(self, claim: Claim) -> list[Assignment]:
        """Work, or nothing after `claim.wait_s`."""
        claimed = await self._ask("claim", claim, Claimed, claim.wait_s + CALL_S)
        return claimed.assignments

    async def beat(self, beat: Beat) -> BeatAnswer:
        """One sign of life; the steady ones come from a thread of their own."""
        return await self._ask("beat", beat, BeatAnswer, beat.wait_s + CALL_S)

    async def sign(self, sign: Sign) -> Signed:
        """URLs for a phase that begins now; asked until the controller answers."""
        async for _ in pauses():
            try:
                return await self._ask("sign", sign, Signed)
            except ControllerUnavailable:
                continue
        raise Defect("pauses never end")

    async def pin(self, pin: Pin) -> str:
        """The exact image that all of the run uses; asked until the controller answers."""
        async for _ in pauses():
            try:
                return (await self._ask("image", pin, Pinned)).exact
            except ControllerUnavailable:
                continue
        raise Defect("pauses never end")

    async def lines(self, lines: Lines) -> None:
        """Log lines for those who watch."""
        await self._post("logs", lines, CALL_S)

    async def finish(self, finish: Finish, give_up: Callable[[], bool]) -> list[Assignment]:
        """The next work; asked until the controller answers, or `give_up` after an ask that failed.

        Errors: LostLease, also for a finish that was accepted unheard.
        """
        async for _ in pauses():
            try:
                return (await self._ask("finish", finish, Finished)).assignments
            except ControllerUnavailable as error:
                if give_up():
                    raise LostLease("the controller could not be told of the end in time") from error
        raise Defect("pauses never end")

    async def _ask(self, verb: str, document: Document, answer: type[D], within_s: float = CALL_S) -> D:
        body = await self._post(verb, document, within_s)
        try:
            return answer.model_validate_json(body)
        except ValidationError as error:
            raise ControllerUnavailable(f"the controller's answer to {verb} is not readable: {error}") from error

    async def _post(self, verb: str, document: Document, within_s: float) -> bytes:
        body = document.model_dump_json(by_alias=True).encode()
        base = self.addresses.now
        try:
            return await self._post_to(base, verb, body, within_s)
        except ControllerUnavailable:
            self.addresses.leave(base)
            raise

    async def _post_to(self, base: str, verb: str, body: bytes, within_s: float) -> bytes:
        headers = {"Content-Type": "application/json"}
        try:
            async with (
                asyncio.timeout(within_s),
                self._session.post(base + PATH + verb, data=_payload(body), headers=headers) as response,
            ):
                said = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ControllerUnavailable(f"the controller did not answer to {verb}: {error!r}") from error
        _check(verb, response.status, said)
        return said


def _payload(body: bytes) -> bytes | io.BytesIO:
    # The library writes bytes in one go, and warns of that where they are many.
    return body if len(body) <= _IN_ONE_GO else io.BytesIO(body)


def _check(verb: str, status: int, said: bytes) -> None:
    if status < 300:
        return
    text = said[:300].decode("utf-8", "replace")
    match status:
        case 401:
            raise Unauthorized("the controller does not know this worker's token; make one with pup worker-token add")
        case 403:
            raise Forbidden(f"the controller forbids {verb}: {text}")
        case 404:
            raise NotFound(f"the controller does not know {verb}: {text}")
        case 409:
            raise LostLease(f"{verb}: {text}")
        case 429 | 500 | 502 | 503 | 504:
            raise ControllerUnavailable(f"the controller answered {status} to {verb}: {text}")
        case _:
            raise Defect(f"the controller refuses {verb} with {status}: {text}")
