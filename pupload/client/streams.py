"""Events of runs, each once, however often the line breaks."""

import json
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing

from pupload.answers.runs import RunEvent, RunSummary
from pupload.client.errors import ApiError, ServerUnreachable
from pupload.client.reading import path_of, read
from pupload.client.sse import Frame, frames
from pupload.client.transport import Call, Transport, may_pass
from pupload.run.commands import TERMINAL_RECORDS
from pupload.run.state import TERMINAL

SILENCE_S = 60.0
"""The server sends a comment more often than this; a stream without a byte for so long is dead."""
TRIES = 15


async def events_of(
    transport: Transport, run_id: str, after: int, types: Collection[str]
) -> AsyncGenerator[RunEvent, None]:
    """The run's events from number `after` + 1 up to its end; with `types`, only those and the last one."""
    query = {"types": ",".join(types)} if types else {}
    call = Call("GET", path_of("runs", run_id, "events"), query, silence_s=SILENCE_S)
    # Each generator is closed by the one that reads it, so that a reader who leaves lets go of the connection at once.
    async with aclosing(_resumed(transport, call, after)) as found:
        async for frame in found:
            event = read(RunEvent, json.loads(frame.data))
            yield event
            if is_last(event):
                return


async def _resumed(transport: Transport, call: Call, after: int) -> AsyncGenerator[Frame, None]:
    """Frames of a stream that ends only when the caller stops; the last id seen is where it goes on."""
    last, failures = after, 0
    while True:
        try:
            async with aclosing(_frames(transport, call, last)) as found:
                async for frame in found:
                    last, failures = int(frame.id or last), 0
                    yield frame
            broken: ServerUnreachable | ApiError = ServerUnreachable(f"{transport.base_url} ended the stream early")
        except (ServerUnreachable, ApiError) as error:
            broken = error
        failures += 1
        if failures >= TRIES or not may_pass(broken):
            raise broken
        await transport.backoff.wait(failures, broken.retry_after_s if isinstance(broken, ApiError) else 0.0)


async def _frames(transport: Transport, call: Call, last: int) -> AsyncGenerator[Frame, None]:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(last)} if last else {})
    opened = Call(call.method, call.path, call.query, headers=headers, silence_s=call.silence_s)
    async with transport.answer(opened) as response, aclosing(frames(response.content.iter_any())) as found:
        async for frame in found:
            yield frame


async def last_event(transport: Transport, call: Call) -> RunEvent:
    """The last event of a stream that is asked for by `call`, which may be made again.

    Errors: ServerUnreachable, ApiError.
    """
    failures = 0
    while True:
        try:
            return await _last_of(transport, call)
        except (ServerUnreachable, ApiError) as error:
            failures += 1
            if failures >= TRIES or not may_pass(error):
                raise
            await transport.backoff.wait(failures, error.retry_after_s if isinstance(error, ApiError) else 0.0)


async def _last_of(transport: Transport, call: Call) -> RunEvent:
    last: RunEvent | None = None
    async with transport.answer(call) as response:
        async for frame in frames(response.content.iter_any()):
            last = read(RunEvent, json.loads(frame.data))
    if last is None or not (is_last(last) or last.type == "step_paused"):
        raise ServerUnreachable(f"{transport.base_url} ended the stream early")
    return last


def is_over(run: RunSummary) -> bool:
    """True when nothing of the run will change any more."""
    return run.status in TERMINAL


def is_last(event: RunEvent) -> bool:
    """True for the event that ends a run's stream."""
    return event.type in TERMINAL_RECORDS
