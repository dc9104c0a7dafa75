"""A proxy before the engine's socket, to cut, refuse or freeze what passes."""

import asyncio
import contextlib
from pathlib import Path

ENGINE = "/var/run/docker.sock"


class EngineProxy:
    """Passes bytes on between its own socket and the engine's, as long as it is told to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._refusing = False
        self._passing = asyncio.Event()
        self._passing.set()

    @property
    def address(self) -> str:
        return f"unix://{self._path}"

    async def __aenter__(self) -> "EngineProxy":
        self._server = await asyncio.start_unix_server(self._serve, self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self._passing.set()
        self.cut()

    def cut(self) -> None:
        """Close every connection."""
        for writer in list(self._open):
            writer.transport.abort()

    def stop(self) -> None:
        """Close every connection and refuse new ones."""
        self._refusing = True
        self.cut()

    def start(self) -> None:
        """Let connections through again."""
        self._refusing = False

    def freeze(self) -> None:
        """Take everything and answer nothing."""
        self._passing.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        there, back = await asyncio.open_unix_connection(ENGINE)
        self._open |= {writer, back}
        try:
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        finally:
            self._open -= {writer, back}
            writer.close()
            back.close()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await self._passing.wait()
                target.write(data)
                await target.drain()
        target.close()
