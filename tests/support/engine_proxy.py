"""A proxy before the engine's socket, to cut, refuse or freeze what passes."""

import asyncio
import contextlib
import re
from pathlib import Path

ENGINE = "/var/run/docker.sock"
_SAID = b'{"message":"a fault on order"}'
_FAULT = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(_SAID), _SAID)
)


class EngineProxy:
    """Passes bytes on between its own socket and the engine's, as long as it is told to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._muted: set[asyncio.StreamWriter] = set()
        self._refusing = False
        self._passing = asyncio.Event()
        self._passing.set()
        self._lost: list[str] = []
        self._refused: list[str] = []
        self.delay_s = 0.0
        """How late every answer is."""

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

    def lose_answer(self, request: str) -> None:
        """The next request like this one (`POST .*/start`) is done, and its answer lost: the connection is cut."""
        self._lost.append(request)

    def refuse(self, request: str, times: int = 1) -> None:
        """The next requests like this one are answered with 500 and not done."""
        self._refused += [request] * times

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        there, back = await asyncio.open_unix_connection(ENGINE)
        self._open |= {writer, back}
        try:
            await asyncio.gather(self._ask(reader, back, writer), self._pass(there, writer))
        finally:
            self._open -= {writer, back}
            writer.close()
            back.close()

    async def _ask(
        self, client: asyncio.StreamReader, engine: asyncio.StreamWriter, answers: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await client.read(65536):
                await self._passing.wait()
                if _met(self._refused, data):
                    answers.write(_FAULT)
                    await answers.drain()
                    # Its body, if it has one, is nobody's any more.
                    answers.close()
                    break
                if _met(self._lost, data):
                    # Whatever the engine says from now on is not passed on.
                    self._muted.add(answers)
                engine.write(data)
                await engine.drain()
        engine.close()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await self._passing.wait()
                await asyncio.sleep(self.delay_s)
                if target in self._muted:
                    self._muted.discard(target)
                    target.transport.abort()
                    return
                target.write(data)
                await target.drain()
        target.close()


def _met(wanted: list[str], data: bytes) -> bool:
    """True when the data begin with a wanted request, which then is wanted no more."""
    asked = data.split(b"\r\n", 1)[0].decode("latin-1")
    for each in wanted:
        if re.fullmatch(each + r"(\?.*)? HTTP/1.1", asked):
            wanted.remove(each)
            return True
    return False
