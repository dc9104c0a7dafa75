"""Inputs into the work directory, outputs out of it."""

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from pupload.failpoints import reach
from pupload.flow.digest import Digest
from pupload.flow.mime import extension_for, matches
from pupload.flow.plan import Reason
from pupload.flow.sniff import sniff_head
from pupload.protocol import AttemptRef, InputFound, InputSpec, ObjectRef, OutputFound, PutWish, Sign, Signed, SignedPut
from pupload.worker.control import Control
from pupload.worker.failure import NodeFailure
from pupload.worker.outputs import Output
from pupload.worker.source import PIECE_BYTES, Shortened, Source
from pupload.worker.transfer import TransferFailed, Transfers

AT_ONCE = 8
URL_MARGIN_S = 60.0
LOG_CONTENT_TYPE = "application/x-ndjson"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Staged:
    """An input that lies in the work directory, ready for the container."""

    port: str
    path: Path
    found: InputFound


@dataclass(frozen=True, slots=True)
class Stage:
    """Who moves the files of one attempt, for whom, and within which time."""

    ref: AttemptRef
    control: Control
    transfers: Transfers
    within_s: float

    async def sign(self, wish: Sign) -> Signed:
        """The URLs of `wish`, good for as long as this phase may last."""
        return await self.control.sign(wish.model_copy(update={"expires_s": self.within_s + URL_MARGIN_S}))


class Names:
    """What the files of inputs will be called, by port: known once each has a type, by its head at least."""

    def __init__(self, inputs: Sequence[InputSpec]) -> None:
        contents = {spec.port: spec.content for spec in inputs if spec.content}
        self._unknown = {port for port, content in contents.items() if not (content.sha256 and content.content_type)}
        self._known = {port: _named(port, content.content_type) for port, content in contents.items()}
        self._all = asyncio.Event()
        self._look()

    def learn(self, port: str, content_type: str) -> None:
        """Its head looks like this."""
        if port in self._unknown:
            self._unknown.discard(port)
            self._known[port] = _named(port, content_type)
            self._look()

    def _look(self) -> None:
        if not self._unknown:
            self._all.set()

    def settle(self, staged: Sequence["Staged"]) -> None:
        """All are here."""
        self._known = {each.port: each.path.name for each in staged}
        self._all.set()

    async def known(self) -> dict[str, str]:
        """All of them. An input may yet turn out to be something else, by its end."""
        await self._all.wait()
        return dict(self._known)


def _named(port: str, content_type: str) -> str:
    return f"{port}{extension_for(content_type)}"


async def stage_inputs(stage: Stage, inputs: Sequence[InputSpec], folder: Path, names: Names) -> list[Staged]:
    """Every input that has an object, in `folder`, checked, in the order of `inputs`; `names` learns theirs.

    Errors: NodeFailure.
    """
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(spec: InputSpec, content: ObjectRef) -> Staged:
        async with gate:
            return await _stage_input(stage, spec, content, folder, names)

    staged = await _all_within(stage, "inputs", [one(spec, spec.content) for spec in inputs if spec.content])
    names.settle(staged)
    return staged


async def _stage_input(stage: Stage, spec: InputSpec, content: ObjectRef, folder: Path, names: Names) -> Staged:
    async def renewed() -> str:
        signed = await stage.sign(Sign(ref=stage.ref, gets=[spec.edge]))
        return signed.gets[0].url

    loop = asyncio.get_running_loop()

    def begun(digest: Digest) -> None:
        is_whole = digest.size_bytes >= content.size_bytes
        if likely := digest.content_type() if is_whole else sniff_head(digest.head, content.size_bytes):
            loop.call_soon_threadsafe(names.learn, spec.port, likely)

    arrived = folder / spec.port
    try:
        digest = await stage.transfers.fetch(content, arrived, renewed, begun)
        await reach("input.arrived")
    except TransferFailed as error:
        raise NodeFailure(Reason.TRANSFER, f"input {spec.port} did not arrive: {error}", final=error.final) from error
    found = await asyncio.to_thread(digest.content_type)
    if not matches(found, spec.types):
        text = f"input {spec.port} is {found}; allowed: {', '.join(spec.types)}"
        raise NodeFailure(Reason.TYPE, text, final=True)
    path = arrived.with_name(_named(spec.port, found))
    if path != arrived and path.exists():
        raise NodeFailure(Reason.POLICY, f"two inputs would be {path.name}; give one port another name", final=True)
    arrived.rename(path)
    about = InputFound(edge=spec.edge, size_bytes=digest.size_bytes, sha256=digest.sha256, content_type=found)
    return Staged(spec.port, path, about)


async def deliver(stage: Stage, outputs: Sequence[Output]) -> list[OutputFound]:
    """The objects that the outputs became, in their order.

    Errors: NodeFailure.
    """
    if not outputs:
        return []
    signed = await stage.sign(Sign(ref=stage.ref, puts=[output.wish() for output in outputs]))
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(place: int, output: Output) -> OutputFound:
        async def renewed() -> SignedPut:
            again = await stage.sign(Sign(ref=stage.ref, puts=[output.wish()]))
            return again.puts[0]

        async with gate:
            return await _deliver(stage, output, signed.puts[place], renewed)

    return await _all_within(stage, "outputs", [one(place, output) for place, output in enumerate(outputs)])


async def _deliver(
    stage: Stage, output: Output, signed: SignedPut, renewed: Callable[[], Awaitable[SignedPut]]
) -> OutputFound:
    try:
        etag = await stage.transfers.put(output.source, signed, renewed)
        await reach("output.stored")
    except TransferFailed as error:
        text = f"output {output.spec.port} could not be stored: {error}"
        raise NodeFailure(Reason.TRANSFER, text, final=error.final) from error
    except Shortened as error:
        raise _changed(output) from error
    sums = output.source.sums
    if sums is None or sums.content_type != output.content_type:
        raise _changed(output)
    if output.spec.read:
        stage.transfers.handover.keep(sums.sha256, output.source.fd, output.source.size_bytes)
    return OutputFound(
        edge=output.spec.edge,
        key=signed.key,
        size_bytes=output.source.size_bytes,
        sha256=sums.sha256,
        content_type=output.content_type,
        etag=etag,
    )


def _changed(output: Output) -> NodeFailure:
    text = f"output {output.spec.port} was changed while it was stored"
    return NodeFailure(Reason.POLICY, text, final=True, exit_code=0)


async def store_log(stage: Stage, log: IO[bytes]) -> str:
    """The key under which the whole log now lies.

    Errors: NodeFailure.
    """
    source, md5 = await asyncio.to_thread(_read_log, log)
    wish = Sign(
        ref=stage.ref, log=PutWish(edge="", size_bytes=source.size_bytes, md5=md5, content_type=LOG_CONTENT_TYPE)
    )

    async def signed() -> SignedPut:
        answer = await stage.sign(wish)
        if answer.log is None:
            raise NodeFailure(Reason.TRANSFER, "the controller gave no place for the log")
        return answer.log

    first = await signed()
    try:
        await stage.transfers.put(source, first, signed)
    except (TransferFailed, Shortened) as error:
        raise NodeFailure(Reason.TRANSFER, str(error)) from error
    return first.key


def _read_log(log: IO[bytes]) -> tuple[Source, str]:
    md5, size = hashlib.md5(usedforsecurity=False), 0
    while piece := log.read(PIECE_BYTES):
        md5.update(piece)
        size += len(piece)
    return Source(log.fileno(), size), b64encode(md5.digest()).decode()


async def _all_within(stage: Stage, what: str, moves: list[Coroutine[Any, Any, T]]) -> list[T]:
    """All results, or the first failure with the other moves ended."""
    going = [asyncio.ensure_future(move) for move in moves]
    try:
        async with asyncio.timeout(stage.within_s):
            return await asyncio.gather(*going)
    except TimeoutError as error:
        text = f"moving the {what} took longer than {stage.within_s:g} s"
        raise NodeFailure(Reason.TRANSFER, text) from error
    finally:
        for move in going:
            move.cancel()
        await asyncio.gather(*going, return_exceptions=True)
