"""The embedded store for tests: one server a session, an empty bucket of its own for each test."""

import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

from pupload.stores.clients import Clients
from pupload.stores.embedded import EmbeddedStore
from pupload.stores.s3 import S3Store

_numbers = itertools.count(1)


class _OnSharedServer(EmbeddedStore):
    async def close(self) -> None:
        await S3Store.close(self)


@contextmanager
def an_embedded_store() -> Iterator[EmbeddedStore]:
    """A store whose server lives as long as the block, on a loop that stands still meanwhile."""
    with tempfile.TemporaryDirectory(prefix="pup-store-") as folder, asyncio.Runner() as runner:
        store = runner.run(EmbeddedStore.start(Path(folder)))
        try:
            yield store
        finally:
            runner.run(store.close())


@asynccontextmanager
async def an_empty_bucket(shared: EmbeddedStore) -> AsyncIterator[EmbeddedStore]:
    """A store on the same server with nothing in it."""
    address = replace(shared.address, bucket=f"test-{next(_numbers)}")
    clients = Clients(address)
    # Not as a folder: the server has looked already, and would not notice.
    clients.asking().create_bucket(Bucket=address.bucket)
    clients.close()
    store = _OnSharedServer(address, shared.server)
    try:
        yield store
    finally:
        await store.close()
