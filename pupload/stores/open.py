"""The store for an address. Each kind loads its client only when one of that kind is opened."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from pupload.config import StoreSettings
from pupload.errors import InvalidConfig
from pupload.flow.plan import DEFAULT_STORE, StorePlan
from pupload.stores.base import Guard, Store, StoreAddress

if TYPE_CHECKING:
    from pupload.stores.embedded import EmbeddedStore


def configured(settings: StoreSettings) -> StoreAddress:
    """The address of a store of the configuration."""
    return StoreAddress(
        name=settings.name,
        type=settings.type,
        endpoint=settings.endpoint,
        public_endpoint=settings.public_endpoint,
        bucket=settings.bucket,
        access_key=settings.access_key,
        secret_key=settings.secret_key.get_secret_value(),
        location=settings.location,
        secure=settings.secure,
    )


def declared(plan: StorePlan, secret_key: str, guard: Guard) -> StoreAddress:
    """The address of a store that a flow declares."""
    return StoreAddress(
        name=plan.name,
        type=plan.type,
        endpoint=plan.endpoint,
        public_endpoint=plan.public_endpoint,
        bucket=plan.bucket,
        access_key=plan.access_key,
        secret_key=secret_key,
        location=plan.location,
        secure=plan.secure,
        guard=guard,
    )


def open_store(address: StoreAddress) -> Store:
    """The store at `address`, not yet asked anything; the caller closes it.

    The first store of a kind loads its client for about 0.3 s: call it in a thread. `check` makes the connections.
    Errors: InvalidConfig for a type that is none.
    """
    match address.type:
        case "s3":
            from pupload.stores.s3 import S3Store

            return S3Store(address)
        case "minio":
            from pupload.stores.minio import MinioStore

            return MinioStore(address)
        case _:
            raise InvalidConfig(f"store {address.name!r}: there is no type {address.type!r}; use s3 or minio")


async def start_embedded(data_dir: Path, name: str = DEFAULT_STORE) -> Store:
    """The embedded store in `data_dir`, ready for use; the caller closes it.

    Errors: InvalidConfig where another process has it or rclone is missing, StoreUnavailable where it does not start.
    """
    kind = await asyncio.to_thread(_embedded)
    return await kind.start(data_dir, name)


def _embedded() -> "type[EmbeddedStore]":
    from pupload.stores.embedded import EmbeddedStore

    return EmbeddedStore
