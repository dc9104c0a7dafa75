"""A controller and a store in one server: they speak the real protocol, remember everything, and fail on order."""

import asyncio
import hashlib
import itertools
import os
from base64 import b64encode
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiohttp import web

from pupload.document import Document
from pupload.flow.digest import Digest
from pupload.flow.plan import Reason
from pupload.protocol import (
    Assignment,
    AttemptRef,
    Beat,
    BeatAnswer,
    Claim,
    Claimed,
    Finish,
    Finished,
    Hello,
    InputSpec,
    KeptFolder,
    Line,
    Lines,
    ObjectRef,
    OutputSpec,
    Pin,
    Pinned,
    PutWish,
    Sign,
    Signed,
    SignedGet,
    SignedPut,
    StopOrder,
    Welcome,
)
from pupload.tiers import Capacity, Tier, fits, reserve

D = TypeVar("D", bound=Document)
MB = 1024**2


class FakeStore:
    """Objects by key. `faults` are statuses to answer first, or what else is to go wrong.

    "cut" closes in mid-body, "flip" changes a bit, "short" claims to be whole and is not, "drip" comes byte by byte,
    "reset" closes before an answer, "unheard" stores and answers 500.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.tokens: set[str] = set()
        self.faults: deque[int | str] = deque()
        self.asked: list[str] = []
        self.cryptic = False
        """Its ETags are no MD5s, as of a store that encrypts."""
        self._numbers = itertools.count(1)

    def signed(self, key: str) -> str:
        """The path of `key` with a token that is good until `expire_all`."""
        token = f"t{next(self._numbers)}"
        self.tokens.add(token)
        return f"/store/{key}?X-Amz-Signature={token}"

    def expire_all(self) -> None:
        self.tokens.clear()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        key = request.match_info["key"]
        self.asked.append(f"{request.method} {key}")
        if request.query.get("X-Amz-Signature") not in self.tokens:
            return web.Response(status=403, text="Request has expired")
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, int):
            return web.Response(status=fault, text="a fault on order")
        if fault == "reset" and request.transport:
            request.transport.abort()
        return await (self._put(request, key, fault) if request.method == "PUT" else self._get(request, key, fault))

    async def _put(self, request: web.Request, key: str, fault: str | None) -> web.Response:
        if fault == "cut" and request.transport:
            await request.content.readany()
            request.transport.abort()
        body = await request.read()
        if request.headers.get("Content-Length") != str(len(body)):
            return web.Response(status=411, text="exact length wanted")
        if fault == "flip":
            body = bytes([body[0] ^ 1]) + body[1:]
        md5 = b64encode(hashlib.md5(body).digest()).decode()
        if request.headers.get("Content-MD5", md5) != md5:
            return web.Response(status=400, text="BadDigest")
        self.objects[key] = body
        told = '"encrypted"' if self.cryptic else etag(body)
        return web.Response(status=500 if fault == "unheard" else 200, headers={"ETag": told})

    async def _get(self, request: web.Request, key: str, fault: str | None) -> web.StreamResponse:
        if key not in self.objects:
            return web.Response(status=404, text="NoSuchKey")
        body = self.objects[key]
        if fault == "flip":
            body = bytes([body[0] ^ 1]) + body[1:]
        if fault == "short":
            body = body[: len(body) // 2]
        response = web.StreamResponse(headers={"ETag": etag(self.objects[key]), "Content-Length": str(len(body))})
        await response.prepare(request)
        for at in range(20 if fault == "drip" else 0):
            await response.write(body[at : at + 1])
            await asyncio.sleep(0.05)
        body = body[20:] if fault == "drip" else body
        await response.write(body[: len(body) // 2] if fault == "cut" else body)
        if fault == "cut" and request.transport:
            request.transport.abort()
        return response


def etag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


class FakeController:
    """Gives the offered assignments to whoever they fit, and keeps what it is told."""

    def __init__(self) -> None:
        self.store = FakeStore()
        self.hellos: list[Hello] = []
        self.claims: list[Claim] = []
        self.beats: list[Beat] = []
        self.lines: list[Line] = []
        self.progress: list[float] = []
        self.posts = 0
        self.finishes: list[Finish] = []
        self._recalled = 0
        self.ponders_s = 0.0
        """How long an end is thought over before there is an answer."""
        self.welcome = Welcome(worker_id="w1", beat_s=0.5, fence_s=3.0, lease_s=6.0)
        self.deaf = False
        self.lost: set[str] = set()
        self.unheard: dict[str, int] = {}
        """By verb, how many answers are lost on their way after all was done as asked."""
        self.heard: list[Lines] = []
        self.faults: dict[str, deque[int]] = {}
        self.log_puts: list[SignedPut] = []
        self.pinned: dict[tuple[str, str], str] = {}
        """Exact images by run and by the name that means them there."""
        self._offers: deque[Assignment] = deque()
        self._forced: list[Assignment] = []
        self._stops: list[StopOrder] = []
        self._news = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> "FakeController":
        app = web.Application(client_max_size=256 * MB)
        for verb in ("hello", "claim", "beat", "image", "sign", "logs", "finish"):
            app.router.add_post(f"/api/v1/worker/{verb}", self._handler(verb))
        app.router.add_route("*", "/store/{key:.+}", self.store.answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def _handler(self, verb: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        kinds: dict[str, type[Document]] = {
            "hello": Hello,
            "claim": Claim,
            "beat": Beat,
            "image": Pin,
            "sign": Sign,
            "logs": Lines,
            "finish": Finish,
        }
        answers: dict[str, Callable[[Any], Awaitable[Document | None]]] = {
            "hello": self._hello,
            "claim": self._claim,
            "beat": self._beat,
            "image": self._pin,
            "sign": self._sign,
            "logs": self._logs,
            "finish": self._finish,
        }

        async def handle(request: web.Request) -> web.Response:
            if request.headers.get("Authorization") != "Bearer token":
                return web.Response(status=401)
            if self.deaf:
                return web.Response(status=503)
            if self.faults.get(verb):
                return web.Response(status=self.faults[verb].popleft())
            asked = kinds[verb].model_validate_json(await request.read())
            ref = getattr(asked, "ref", None)
            if ref is not None and ref.run_id in self.lost:
                return web.Response(status=409, text="LOST_LEASE")
            answer = await answers[verb](asked)
            if self.unheard.get(verb):
                self.unheard[verb] -= 1
                return web.Response(status=503)
            if answer is None:
                return web.Response(status=204)
            return web.Response(text=answer.model_dump_json(by_alias=True), content_type="application/json")

        return handle

    async def offer(self, *assignments: Assignment) -> None:
        """Queue work."""
        async with self._news:
            self._offers.extend(assignments)
            self._news.notify_all()

    def force(self, assignment: Assignment) -> None:
        """Give this one with the next work, whether it fits or not."""
        self._forced.append(assignment)

    async def stop(self, ref: AttemptRef, reason: Reason = Reason.CANCELLED) -> None:
        """Have the attempt stopped by the next beat's answer."""
        async with self._news:
            self._stops.append(StopOrder(ref=ref, reason=reason))
            self._news.notify_all()

    async def lose(self, ref: AttemptRef) -> None:
        """Take the lease away."""
        async with self._news:
            self.lost.add(ref.run_id)
            self._news.notify_all()

    async def until(self, true: Callable[[], bool], within_s: float = 30.0) -> None:
        """Return once `true` holds; looked at after each thing that is told."""
        async with asyncio.timeout(within_s), self._news:
            await self._news.wait_for(true)

    async def finish_of(self, assignment: Assignment, within_s: float = 30.0) -> Finish:
        """How the attempt ended."""
        await self.until(lambda: any(f.ref == assignment.ref for f in self.finishes), within_s)
        return next(f for f in self.finishes if f.ref == assignment.ref)

    def text(self, finish: Finish) -> list[str]:
        """All log lines of a run with one attempt, posted or come with the finish."""
        return [line.text for line in [*self.lines, *finish.lines]]

    async def _hello(self, hello: Hello) -> Welcome:
        await self._tell(self.hellos, hello)
        return self.welcome

    async def _claim(self, claim: Claim) -> Claimed:
        await self._tell(self.claims, claim)
        number = len(self.claims)
        if claim.recalls:
            async with self._news:
                self._recalled = number
                self._news.notify_all()
        try:
            async with asyncio.timeout(claim.wait_s), self._news:
                await self._news.wait_for(
                    lambda: self._draining() or bool(self._fitting(claim.free)) or number < self._recalled
                )
                return Claimed(assignments=self._take(claim))
        except TimeoutError:
            return Claimed()

    def _draining(self) -> bool:
        return bool(self.beats) and self.beats[-1].draining

    def _fitting(self, free: Capacity) -> list[Assignment]:
        taken = []
        for offer in self._offers:
            if fits(offer.tier, free):
                taken.append(offer)
                free = reserve(offer.tier, free)
        return taken

    def _take(self, claim: Claim) -> list[Assignment]:
        taken = [] if self._draining() else self._fitting(claim.free)[: claim.most]
        for assignment in taken:
            self._offers.remove(assignment)
        forced, self._forced = self._forced if taken else [], [] if taken else self._forced
        return taken + forced

    async def _beat(self, beat: Beat) -> BeatAnswer:
        await self._tell(self.beats, beat)
        try:
            async with asyncio.timeout(beat.wait_s), self._news:
                await self._news.wait_for(lambda: bool(self._news_for(beat)))
        except TimeoutError:
            pass
        return self._news_for(beat) or BeatAnswer()

    def _news_for(self, beat: Beat) -> BeatAnswer | None:
        stops = [order for order in self._stops if order.ref in beat.attempts]
        lost = [ref for ref in beat.attempts if ref.run_id in self.lost]
        return BeatAnswer(stop=stops, lost=lost) if stops or lost else None

    async def _pin(self, pin: Pin) -> Pinned:
        return Pinned(exact=self.pinned.setdefault((pin.ref.run_id, pin.image), pin.exact))

    async def _sign(self, sign: Sign) -> Signed:
        prefix = f"{sign.ref.run_id}/{sign.ref.node_id}/{sign.ref.attempt}"
        log = self._put_url(f"{prefix}/log", sign.log) if sign.log else None
        if log:
            self.log_puts.append(log)
        return Signed(
            gets=[SignedGet(edge=edge, url=self.url + self.store.signed(f"in/{edge}")) for edge in sign.gets],
            puts=[self._put_url(f"{prefix}/{wish.edge}", wish) for wish in sign.puts],
            log=log,
            folders=[self._put_url(f"{prefix}/folders/{wish.edge}", wish) for wish in sign.folders],
        )

    def _put_url(self, key: str, wish: PutWish) -> SignedPut:
        headers = ({"Content-MD5": wish.md5} if wish.md5 else {}) | {"Content-Type": wish.content_type}
        return SignedPut(edge=wish.edge, url=self.url + self.store.signed(key), headers=headers, key=key)

    async def _logs(self, lines: Lines) -> None:
        async with self._news:
            self.posts += 1
            self.heard.append(lines)
            self.lines += lines.lines
            if lines.progress is not None:
                self.progress.append(lines.progress)
            self._news.notify_all()

    async def _finish(self, finish: Finish) -> Finished:
        await self._tell(self.finishes, finish)
        await asyncio.sleep(self.ponders_s)
        return Finished(assignments=self._take(finish.next) if finish.next else [])

    async def _tell(self, book: list[D], told: D) -> None:
        async with self._news:
            book.append(told)
            self._news.notify_all()

    def folder(self, name: str, tar: bytes | None = None, **more: object) -> KeptFolder:
        """A kept folder; one that begins with something has it in the store under its name."""
        ref = None
        if tar is not None:
            self.store.objects[f"folders/{name}"] = tar
            url = self.url + self.store.signed(f"folders/{name}")
            ref = ObjectRef(url=url, size_bytes=len(tar), sha256=hashlib.sha256(tar).hexdigest(), etag=etag(tar))
        told = {"name": name, "content": ref, "max_size_bytes": MB, "max_entries": 100}
        return KeptFolder.model_validate(told | more)

    def input(
        self, port: str, content: bytes, *, checked: bool = True, said: str | None = None, **more: object
    ) -> InputSpec:
        """An input whose object lies in the store under the edge `<port>`. `said` is its type, as somebody noted it."""
        key, digest = f"in/{port}", Digest()
        digest.take(content)
        self.store.objects[key] = content
        ref = ObjectRef(
            url=self.url + self.store.signed(key),
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest() if checked else "",
            etag=etag(content),
            content_type=(digest.content_type() if said is None else said) if checked else "",
        )
        return InputSpec.model_validate(
            {"port": port, "edge": port, "types": ["*/*"], "required": True, "content": ref} | more
        )


def an_output(port: str = "out", **more: object) -> OutputSpec:
    """A required output of any type."""
    told = {"port": port, "edge": port, "types": ["*/*"], "required": True, "max_size_bytes": 512 * MB}
    return OutputSpec.model_validate(told | more)


_numbers = itertools.count(1)


def an_assignment(*argv: str, memory_bytes: int = 256 * MB, **more: object) -> Assignment:
    """One attempt of `argv` in the busybox image; `sh` scripts come as `*shell("…")`."""
    number = next(_numbers)
    ref = AttemptRef(run_id=f"run_test{os.getpid()}x{number:04d}", node_id="node-1", attempt=1, lease=f"lease{number}")
    told: dict[str, object] = {
        "ref": ref,
        "flow_name": "flow",
        "uses": "test/tool",
        "image": "pupload/busybox:latest",
        "argv": list(argv) or None,
        "env": {},
        "flags": {},
        "flag_names": [],
        "inputs": [],
        "outputs": [],
        "tier": Tier("t-test", 1, memory_bytes, 16 * MB),
        "timeout_s": 30.0,
    }
    return Assignment.model_validate(told | more)


def shell(script: str) -> tuple[str, ...]:
    """The command that runs `script`."""
    return ("sh", "-c", script)
