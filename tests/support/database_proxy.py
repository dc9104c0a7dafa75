"""A proxy before PostgreSQL's socket, to let chosen sessions fall silent without an end."""

import asyncio
import contextlib
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

_SOCKET = ".s.PGSQL.5432"


class DatabaseProxy:
    """Passes bytes on between a socket of its own in `folder` and that of the server of `dsn`."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self._folder = folder
        self._dsn = dsn
        self._server: asyncio.Server | None = None
        self._sessions: dict[asyncio.StreamWriter, bytes] = {}
        self._silent: set[asyncio.StreamWriter] = set()
        self._thawed = asyncio.Event()
        self._thawed.set()

    @property
    def dsn(self) -> str:
        """The same database by way of the proxy."""
        return urlunsplit(urlsplit(self._dsn)._replace(query=f"host={quote(str(self._folder), safe='')}"))

    async def __aenter__(self) -> "DatabaseProxy":
        self._server = await asyncio.start_unix_server(self._serve, self._folder / _SOCKET)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._sessions):
            writer.transport.abort()
        await self._server.wait_closed()

    def silence(self, application: str) -> int:
        """How many sessions of this application pass nothing from now on, in no direction; none is closed."""
        found = {writer for writer, hello in self._sessions.items() if application.encode() + b"\0" in hello}
        self._silent |= found
        return len(found)

    def freeze(self) -> None:
        """Nothing passes from now on, of old sessions and of new ones."""
        self._thawed.clear()

    def thaw(self) -> None:
        """What has waited goes on."""
        self._thawed.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (real,) = parse_qs(urlsplit(self._dsn).query)["host"]
        there, back = await asyncio.open_unix_connection(Path(real) / _SOCKET)
        try:
            self._sessions[writer] = hello = await reader.read(65536)
            await self._thawed.wait()
            back.write(hello)
            await asyncio.gather(self._pass(reader, back, writer), self._pass(there, writer, writer))
        finally:
            del self._sessions[writer]
            writer.close()
            back.close()

    async def _pass(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, session: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await self._thawed.wait()
                if session not in self._silent:
                    target.write(data)
                    await target.drain()
        target.close()
