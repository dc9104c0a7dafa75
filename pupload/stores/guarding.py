"""Connections to a store that a flow named: each is looked at when it is made, whatever a name meant before.

boto3 opens its connections by urllib3: it is told here which classes to open them with. The client for uploads in a
stream is aiohttp, which asks for each socket.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
from botocore.awsrequest import AWSHTTPConnection, AWSHTTPConnectionPool, AWSHTTPSConnection, AWSHTTPSConnectionPool
from urllib3.exceptions import ProtocolError
from urllib3.response import HTTPResponse

from pupload.stores.base import Guard
from pupload.stores.pools import Checked, pools

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MOST_BYTES = 16 * 1024**2
"""Of an answer that is read whole: a thousand keys, each as long as one can be, are less."""
_PATIENCE = 4
"""An answer may take so many times as long as its next bytes: a server that drips would hold a thread for ever."""


def guard_client(client: "S3Client", guard: Guard) -> None:
    """Let the client make no connection that `guard` refuses."""
    # The only way to a client's connections: it has no argument for them. A test sees that it holds.
    client._endpoint.http_session._manager.pool_classes_by_scheme = pools(  # type: ignore[attr-defined]  # noqa: SLF001
        (type("Bounded", (_Bounded,), {"guard": guard}),),
        AWSHTTPConnection,
        AWSHTTPConnectionPool,
        AWSHTTPSConnection,
        AWSHTTPSConnectionPool,
    )


def guarded_sockets(host: str, guard: Guard) -> Callable[[aiohttp.AddrInfoType], socket.socket]:
    """A factory for the sockets of connections to `host`."""

    def checked(address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, place = address
        guard(host, str(place[0]), int(place[1]))
        return socket.socket(family, kind, protocol)

    return checked


class _Bounded(Checked):
    """One whose answers come in time, and are of bounded length where they are read whole."""

    def getresponse(self) -> HTTPResponse:  # type: ignore[override] # of urllib3 in place of the library's
        """The answer."""
        end = _End(self.sock)
        timer = threading.Timer(_PATIENCE * float(self.timeout or 1.0), end.come)
        timer.daemon = True
        timer.start()
        try:
            response = super().getresponse()
        except BaseException:
            timer.cancel()
            raise
        if end.has_come:
            # What of a head had come is no head.
            response.close()
            raise _endless()
        end.response = response
        setattr(response, "stream", _bounded(response, timer))  # noqa: B010 - in place of a method
        return response


@dataclass(slots=True)
class _End:
    """The end of the time that an answer has; it has no effect on one that was read by then."""

    sock: socket.socket
    response: HTTPResponse | None = None
    has_come: bool = False

    def come(self) -> None:
        """Hang up."""
        if self.response is None or not self.response.closed:
            self.has_come = True
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)


def _bounded(response: HTTPResponse, timer: threading.Timer) -> Callable[..., Iterator[bytes]]:
    """The stream of the response, which ends in a fault where its server goes on and on."""
    stream = response.stream

    def bounded(*how: Any, **more: Any) -> Iterator[bytes]:
        size = 0
        for piece in stream(*how, **more):
            size += len(piece)
            if size > MOST_BYTES:
                response.close()
                raise _endless()
            yield piece
        timer.cancel()

    return bounded


def _endless() -> ProtocolError:
    return ProtocolError("the answer does not end")
