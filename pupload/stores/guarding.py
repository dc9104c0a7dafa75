"""Connections to a store that a flow named: each is looked at when it is made, whatever a name meant before.

Both clients of stores that block, boto3 and the minio SDK, open their connections by urllib3: it is told here which
classes to open them with. The third, for uploads in a stream, is aiohttp, which asks for each socket.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
from botocore.awsrequest import AWSHTTPConnection, AWSHTTPConnectionPool, AWSHTTPSConnection, AWSHTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NameResolutionError, NewConnectionError, ProtocolError
from urllib3.response import HTTPResponse

from pupload.stores.base import Guard

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Pools = dict[str, type[HTTPConnectionPool]]
MOST_BYTES = 16 * 1024**2
"""Of an answer that is read whole: a thousand keys, each as long as one can be, are less."""
_PATIENCE = 4
"""An answer may take so many times as long as its next bytes: a server that drips would hold a thread for ever."""


def guard_client(client: "S3Client", guard: Guard) -> None:
    """Let the client make no connection that `guard` refuses."""
    # The only way to a client's connections: it has no argument for them. A test sees that it holds.
    client._endpoint.http_session._manager.pool_classes_by_scheme = _pools(  # type: ignore[attr-defined]  # noqa: SLF001
        type("Bounded", (_Bounded,), {"guard": guard}),
        AWSHTTPConnection,
        AWSHTTPConnectionPool,
        AWSHTTPSConnection,
        AWSHTTPSConnectionPool,
    )


def plain_pools(guard: Guard) -> Pools:
    """Classes for a `PoolManager` that makes no connection which `guard` refuses."""
    checked = type("Checked", (_Checked,), {"guard": guard})
    return _pools(checked, HTTPConnection, HTTPConnectionPool, HTTPSConnection, HTTPSConnectionPool)


def guarded_sockets(host: str, guard: Guard) -> Callable[[aiohttp.AddrInfoType], socket.socket]:
    """A factory for the sockets of connections to `host`."""

    def checked(address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, place = address
        guard(host, str(place[0]), int(place[1]))
        return socket.socket(family, kind, protocol)

    return checked


def _pools(
    checked: type,
    plain: type[HTTPConnection],
    plain_pool: type[HTTPConnectionPool],
    secure: type[HTTPSConnection],
    secure_pool: type[HTTPSConnectionPool],
) -> Pools:
    def pool(kind: type[HTTPConnectionPool], connection: type[HTTPConnection]) -> type[HTTPConnectionPool]:
        return type("Guarded", (kind,), {"ConnectionCls": type("Guarded", (checked, connection), {})})

    return {"http": pool(plain_pool, plain), "https": pool(secure_pool, secure)}


class _Checked(HTTPConnection):
    """A connection whose name is resolved once, and which goes to an address that was looked at, and to no other."""

    guard: Guard

    def _new_conn(self) -> socket.socket:
        name = self._dns_host
        refused: NewConnectionError | None = None
        try:
            for address in self._addresses(name):
                type(self).guard(self.host, address, int(self.port or self.default_port))
                try:
                    self._dns_host = address
                    return super()._new_conn()
                except NewConnectionError as error:
                    refused = error
                finally:
                    self._dns_host = name
        finally:
            self._dns_host = name
        raise refused or NewConnectionError(self, "the name has no address")

    def _addresses(self, name: str) -> list[str]:
        try:
            found = socket.getaddrinfo(name.strip("[]"), self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(name, self, socket.gaierror(str(error))) from error
        return list(dict.fromkeys(str(place[0]) for *_, place in found))


class _Bounded(_Checked):
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
