"""Calls about runs that there are: look, follow, feed, fetch, stop."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import aclosing
from pathlib import Path

from pupload.answers.evals import EvalAnswer, RunEvals
from pupload.answers.runs import FlowRun, LogRecord, RunEvent, RunPage
from pupload.answers.traces import RunTrace
from pupload.answers.uploads import UploadAnswer
from pupload.client.errors import ApiError, NotAwaited, UploadEnded
from pupload.client.how import Json, plain
from pupload.client.parts import ONE_PUT_BYTES, PartUploads
from pupload.client.reading import path_of, query_of, read, rows
from pupload.client.streams import events_of
from pupload.client.transfers import Piece, Progress, get_file, put_piece, silent, size_of
from pupload.client.transport import Call, Transport


class RunCalls:
    """One method a route, and those for files of runs."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._begun: dict[tuple[str, str], str] = {}
        """Uploads in parts that were begun here, by run and edge."""

    async def get_run(self, run_id: str) -> FlowRun:
        """The run as it is now."""
        return read(FlowRun, await self._transport.json(Call("GET", path_of("runs", run_id))))

    async def runs(
        self,
        *,
        flow: str | None = None,
        status: str | None = None,
        session: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> RunPage:
        """A page of runs, newest first. `status` may be several, parted by commas."""
        query = query_of(flow=flow, status=status, session=session, limit=limit, cursor=cursor)
        return read(RunPage, await self._transport.json(Call("GET", path_of("runs"), query)))

    async def cancel(self, run_id: str) -> None:
        """Ask the run to stop. Right in every state, and twice."""
        await self._transport.json(Call("POST", path_of("runs", run_id, "cancel")))

    async def delete(self, run_id: str) -> None:
        """Forget an ended run with its logs, events and objects."""
        await self._transport.json(Call("DELETE", path_of("runs", run_id)))

    async def resume(self, run_id: str, results: Mapping[str, Json], *, node_id: str | None = None) -> FlowRun:
        """The run, going on with these answers to its nodes' questions, by the id of the call.

        `node_id` is needed where two nodes wait for calls of one id.
        Errors: ToolResultsMismatch; NotWaitingForTools.
        """
        answers = [{"ToolCallID": call_id, "Content": plain(content)} for call_id, content in results.items()]
        body = {"ToolResults": answers} | ({} if node_id is None else {"NodeID": node_id})
        call = Call("POST", path_of("runs", run_id, "resume"), body=body, repeatable=False)
        return read(FlowRun, await self._transport.json(call))

    async def trace(self, run_id: str, *, attempt: str | int = "latest", node: str | None = None) -> RunTrace:
        """What became of the attempts: of the `latest` of each node, of `all`, or of those with this number."""
        query = query_of(attempt=attempt, node=node)
        return read(RunTrace, await self._transport.json(Call("GET", path_of("runs", run_id, "trace"), query)))

    async def evals(self, run_id: str) -> list[EvalAnswer]:
        """What evaluations found of the run, pending ones too."""
        return read(RunEvals, await self._transport.json(Call("GET", path_of("runs", run_id, "evals")))).evals

    # What happens

    def events(self, run_id: str, after: int = 0, types: Collection[str] = ()) -> AsyncIterator[RunEvent]:
        """The run's events from number `after` + 1 up to its end, each once, however often the stream breaks.

        Shape: with `types`, only those and the last one.
        """
        return events_of(self._transport, run_id, after, types)

    async def logs(self, run_id: str, node_id: str, *, follow: bool = False) -> AsyncIterator[LogRecord]:
        """The log of a node, all attempts; with `follow`, up to the end of the node."""
        if follow:
            async with aclosing(events_of(self._transport, run_id, 0, ("node_log",))) as events:
                async for event in events:
                    if event.node_id == node_id and event.type == "node_log":
                        yield read(LogRecord, {"timestamp": event.time, **event.data})
            return
        call = Call("GET", path_of("runs", run_id, "nodes", node_id, "logs"))
        for record in rows(LogRecord, await self._transport.json(call), "Logs"):
            yield record

    # Files

    async def upload(
        self,
        run_id: str,
        edge: str,
        path: Path,
        progress: Progress = silent,
        *,
        part_size: int | None = None,
        upload_id: str | None = None,
    ) -> None:
        """Returns when the awaited edge has the file.

        A file above 64 MB, or with `part_size`, goes in parts. When that breaks, the same call once more sends what is
        missing; another process says the `upload_id` that UploadBroken, or `begin_upload`, told. One that the store has
        forgotten is begun anew, once.
        Units: bytes.
        Errors: NotAwaited; UploadBroken; UploadEnded; Malformed for what is no file.
        """
        in_parts = upload_id is not None or part_size is not None or size_of(path) > ONE_PUT_BYTES
        if not in_parts:
            await self._upload_whole(run_id, edge, path, progress)
            return
        upload = await self._begun_upload(run_id, edge, path, part_size, upload_id)
        try:
            await PartUploads(self._transport).finish(upload, path, progress)
        except UploadEnded:
            if upload_id is not None:
                raise
            upload = await self.begin_upload(run_id, edge, size_of(path), part_size=part_size)
            await PartUploads(self._transport).finish(upload, path, progress)
        self._begun.pop((run_id, edge), None)

    async def _upload_whole(self, run_id: str, edge: str, path: Path, progress: Progress) -> None:
        async def once() -> None:
            # A fresh URL for each try: a signature ends while a file is on its way.
            run = await self.get_run(run_id)
            urls = {each.artifact.edge_name: each.put_url for each in run.waiting_urls}
            if not urls.get(edge):
                raise NotAwaited(f"run {run_id} awaits no file on edge {edge!r}; it awaits {', '.join(urls) or 'none'}")
            await put_piece(self._transport.session(), urls[edge], Piece.whole(path), progress)

        await self._transport.repeated(once)
        try:
            await self.complete_upload(run_id, edge)
        except ApiError:
            # Only a hint: the server finds the upload by itself, and may have done so before.
            return

    async def _begun_upload(
        self, run_id: str, edge: str, path: Path, part_size: int | None, upload_id: str | None
    ) -> UploadAnswer:
        known = upload_id or self._begun.get((run_id, edge))
        if known is not None:
            found = await PartUploads(self._transport).find(run_id, edge, known)
            if upload_id is not None or (found.status != "aborted" and found.size == size_of(path)):
                return found
        return await self.begin_upload(run_id, edge, size_of(path), part_size=part_size)

    async def begin_upload(
        self, run_id: str, edge: str, size_bytes: int, *, part_size: int | None = None
    ) -> UploadAnswer:
        """An upload in parts, for `upload` to go on with by its id, here or elsewhere."""
        upload = await PartUploads(self._transport).begin(run_id, edge, size_bytes, part_size)
        self._begun[run_id, edge] = upload.id
        return upload

    async def find_upload(self, run_id: str, edge: str, upload_id: str) -> UploadAnswer:
        """An upload in parts, with those that are there."""
        return await PartUploads(self._transport).find(run_id, edge, upload_id)

    async def abort_upload(self, run_id: str, edge: str, upload_id: str) -> None:
        """End an upload in parts; nothing of it is left."""
        await PartUploads(self._transport).abort(run_id, edge, upload_id)

    async def put_file(self, put_url: str, path: Path, progress: Progress = silent) -> None:
        """Returns when the store has the file, at one of a run's `waiting_urls`."""
        session = self._transport.session
        await self._transport.repeated(lambda: put_piece(session(), put_url, Piece.whole(path), progress))

    async def complete_upload(self, run_id: str, edge: str) -> None:
        """Tell the server that an upload is through, so that it need not find out. Without it nothing is lost."""
        await self._transport.json(Call("POST", path_of("runs", run_id, "uploads", edge, "complete")))

    async def artifact(
        self, run_id: str, edge: str, path: Path, progress: Progress = silent, *, sha256: str = ""
    ) -> Path:
        """The file `path`, holding the object of the edge; with `sha256`, exactly that one."""

        async def once() -> None:
            # A fresh URL for each try: a signature ends while a large file is on its way.
            url = await self._signed(run_id, edge)
            await get_file(self._transport.session(), url, path, progress, sha256=sha256)

        await self._transport.repeated(once)
        return path

    async def _signed(self, run_id: str, edge: str) -> str:
        async with self._transport.answer(Call("GET", path_of("runs", run_id, "artifacts", edge))) as response:
            return response.headers.get("Location", "")
