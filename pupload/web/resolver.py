"""Names to addresses, in threads apart: a name that takes long holds up nothing but other names."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from aiohttp.abc import AbstractResolver, ResolveResult

_THREADS = ThreadPoolExecutor(16, thread_name_prefix="resolver")


class Resolver(AbstractResolver):
    """The machine's own resolver."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of the host.

        Errors: OSError.
        """
        ask = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        try:
            found = await asyncio.get_running_loop().run_in_executor(_THREADS, ask)
        except UnicodeError as error:
            # A part of the name is empty, or longer than a part can be: no machine was asked.
            raise socket.gaierror(socket.EAI_NONAME, "no such name") from error
        return [
            ResolveResult(
                hostname=host, host=str(place[0]), port=port, family=kind, proto=protocol, flags=socket.AI_NUMERICHOST
            )
            for kind, _, protocol, _, place in found
        ]

    async def close(self) -> None:
        """The threads are everybody's."""
