"""Connections of urllib3 to stores that flows named: each is looked at when it is made, whatever a name meant."""

import socket

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NameResolutionError, NewConnectionError

from pupload.stores.base import Guard

Pools = dict[str, type[HTTPConnectionPool]]


def plain_pools(guard: Guard | None, *kinds: type[HTTPConnection]) -> Pools:
    """Classes for a `PoolManager` whose connections are of these `kinds` besides; none that `guard` refuses is made."""
    checked = (type("Checked", (Checked,), {"guard": guard}),) if guard else ()
    return pools((*kinds, *checked), HTTPConnection, HTTPConnectionPool, HTTPSConnection, HTTPSConnectionPool)


def pools(
    kinds: tuple[type[HTTPConnection], ...],
    plain: type[HTTPConnection],
    plain_pool: type[HTTPConnectionPool],
    secure: type[HTTPSConnection],
    secure_pool: type[HTTPSConnectionPool],
) -> Pools:
    """Classes for a `PoolManager` whose connections are of all these `kinds`, over those that its library has."""

    def pool(kind: type[HTTPConnectionPool], connection: type[HTTPConnection]) -> type[HTTPConnectionPool]:
        return type("Guarded", (kind,), {"ConnectionCls": type("Guarded", (*kinds, connection), {})})

    return {"http": pool(plain_pool, plain), "https": pool(secure_pool, secure)}


class Checked(HTTPConnection):
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
