"""A web server of a stranger's, for tests: answers what a test chose, and remembers what it was asked.

It has threads of its own, so that tests of either kind may use it: those on an event loop, and those that block.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_LONGEST_S = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it came. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer. Without `sized` no Content-Length is sent: the body ends with the connection."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    sized: bool = True

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(self.status)
        for name, value in self.headers.items():
            handler.send_header(name, value)
        if self.sized:
            handler.send_header("Content-Length", str(len(self.body)))
        handler.end_headers()
        handler.wfile.write(self.body)


Answer = Callable[[BaseHTTPRequestHandler], None]


def redirect(location: str, status: int = 302) -> Reply:
    """An answer that sends its reader elsewhere."""
    return Reply(status, headers={"Location": location})


def endless(piece: bytes = bytes(65536)) -> Answer:
    """A body that goes on as long as somebody reads it."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(piece)

    return answer


def held(until: threading.Event, then: Answer) -> Answer:
    """Nothing at all before the event, then the answer."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        until.wait(_LONGEST_S)
        then(handler)

    return answer


@dataclass(slots=True)
class WebServer:
    """Answers are given in the order in which they were put for a path; the last one stays. Unknown paths: 404."""

    host: str = "127.0.0.1"
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    _answers: dict[str, list[Answer]] = field(default_factory=dict)
    _told: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.host}:{self.port}"

    def on(self, path: str, *answers: Answer) -> str:
        """The URL of `path`, which has these answers from now on."""
        with self._told:
            self._answers[path] = list(answers)
        return self.url + path

    def asked(self, path: str) -> list[Seen]:
        """The requests for this path so far, without its query."""
        with self._told:
            return [seen for seen in self.seen if seen.path.partition("?")[0] == path]

    def await_asked(self, path: str, times: int = 1) -> list[Seen]:
        """The requests for this path, once there are so many."""
        with self._told:
            assert self._told.wait_for(lambda: len(self.asked(path)) >= times, _LONGEST_S), f"{path}: {self.seen}"
            return self.asked(path)

    def note(self, seen: Seen) -> Answer:
        """What to answer to this request."""
        with self._told:
            self.seen.append(seen)
            answers = self._answers.get(seen.path.partition("?")[0], [Reply(404)])
            self._told.notify_all()
            return answers.pop(0) if len(answers) > 1 else answers[0]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Readers may hang up; that is what tests are about."""


@contextlib.contextmanager
def a_web_server(host: str = "127.0.0.1") -> Iterator[WebServer]:
    """A server on a free port, as long as the block."""
    told = WebServer(host)
    with _Server((host, 0), _handler(told)) as server:
        told.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()


def _handler(server: WebServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _LONGEST_S

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = server.note(Seen(self.command, self.path, headers, body))
            with contextlib.suppress(ConnectionError, socket.timeout):
                answer(self)

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _answer  # noqa: N815 - the library's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    return Handler
