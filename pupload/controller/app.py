"""A controller at work: its HTTP side, and what it does by itself."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from aiohttp import web

from pupload.config import ControllerConfig
from pupload.controller.connections import CONNECTIONS, Connections, ServerLog, Site, watched
from pupload.controller.logs import NodeLogs
from pupload.controller.reconcile import Reconciler
from pupload.controller.routes import (
    account,
    calls,
    evals,
    events,
    files,
    flows,
    hooks,
    interface,
    nodedefs,
    reference,
    replay,
    runs,
    server,
    sessions,
    steps,
    tools,
    trace,
    uploads,
    webhooks,
    worker,
)
from pupload.controller.routes.answering import errors
from pupload.controller.routes.declaring import Route
from pupload.controller.state import PARTS, Parts
from pupload.controller.wiring import wire
from pupload.controller.workers import add_worker
from pupload.db.clock import clock_fault
from pupload.db.pool import Database, open_database
from pupload.errors import InvalidConfig
from pupload.stores.base import Store

_LOG = logging.getLogger(__name__)
_SHUTDOWN_S = 3.0
_AGAIN_S = 1.0

ROUTES = [
    *reference.ROUTES,
    *replay.ROUTES,
    *steps.ROUTES,
    *calls.ROUTES,
    *runs.ROUTES,
    *uploads.ROUTES,
    *hooks.ROUTES,
    *webhooks.ROUTES,
    *files.ROUTES,
    *sessions.ROUTES,
    *tools.ROUTES,
    *trace.ROUTES,
    *evals.ROUTES,
    *events.ROUTES,
    *worker.ROUTES,
    *server.ROUTES,
    *account.ROUTES,
    *flows.ROUTES,
    *nodedefs.ROUTES,
    *interface.ROUTES,
]


@dataclass(frozen=True, slots=True)
class RunningController:
    """A controller that answers at `url`."""

    url: str
    parts: Parts
    connections: Connections

    async def add_worker(self, name: str) -> str:
        """A fresh token for the worker of this name."""
        async with self.parts.service.database.connection() as connection:
            return await add_worker(connection, name)


@asynccontextmanager
async def running_controller(
    config: ControllerConfig, *, dsn: str, stores: Mapping[str, Store]
) -> AsyncIterator[RunningController]:
    """A controller on this database and these stores, one of them named `default`, as long as the block.

    Errors: DatabaseUnavailable; InvalidConfig when it cannot listen.
    """
    database = await open_database(dsn, config.database_pool)
    parts = wire(config, database, stores)
    app = application(parts)
    looks = asyncio.create_task(_look(config, parts, app[CONNECTIONS]))
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=_SHUTDOWN_S,
        handler_cancellation=True,
        logger=ServerLog(logging.getLogger("aiohttp.server")),
    )
    try:
        await _compare_clocks(database)
        url = await _listen(runner, config, app[CONNECTIONS])
        parts.hooks.served_at(url)
        yield RunningController(url, parts, app[CONNECTIONS])
    finally:
        looks.cancel()
        with suppress(asyncio.CancelledError):
            await looks
        await runner.cleanup()
        await parts.stores.close()
        await database.close()


async def _compare_clocks(database: Database) -> None:
    async with database.connection() as connection:
        if fault := await clock_fault(connection):
            _LOG.warning("%s", fault)


def application(parts: Parts) -> web.Application:
    """The HTTP side of the parts."""
    layers = [watched, errors, account.authentication]
    app = web.Application(middlewares=layers, client_max_size=parts.config.max_body_bytes)
    app[PARTS] = parts
    app[CONNECTIONS] = Connections(parts.config)
    app[events.LOGS] = NodeLogs(parts.service, parts.stores)
    app[server.FOOTING] = server.Footing(parts)
    app[interface.INTERFACE] = interface.Interface(ROUTES)
    app[calls.GOING_DOWN] = asyncio.Event()
    app.on_shutdown.append(calls.note_shutdown)
    app[account.SCOPES] = dict.fromkeys(each.handler for each in worker.ROUTES) | {
        each.handler: each.scope for each in ROUTES if isinstance(each, Route)
    }
    app.add_routes(ROUTES)
    return app


async def _look(config: ControllerConfig, parts: Parts, connections: Connections) -> None:
    reconciler = Reconciler(config, parts.service, parts.removal, list(parts.tiers), parts.looks)
    async with asyncio.TaskGroup() as group:
        group.create_task(_keep_running(connections.watch))
        for run in (parts.signals.run, parts.uploads.run, parts.delivery.run, parts.chores.run, reconciler.run):
            group.create_task(_keep_running(run))


async def _keep_running(run: Callable[[], Awaitable[None]]) -> None:
    """Run it until it returns: a fault that nobody foresaw must not leave a controller that only answers."""
    while True:
        try:
            return await run()
        except Exception:  # noqa: BLE001 - logged, and begun again: see above
            _LOG.exception("%s ended, beginning again", run.__qualname__)
        await asyncio.sleep(_AGAIN_S)


async def _listen(runner: web.AppRunner, config: ControllerConfig, connections: Connections) -> str:
    await runner.setup()
    try:
        await Site(runner, config.host, config.port, connections).start()
    except OSError as error:
        raise InvalidConfig(f"cannot listen on {config.host}:{config.port}: {error.strerror}") from error
    port = runner.addresses[0][1]
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"http://{host}:{port}"
