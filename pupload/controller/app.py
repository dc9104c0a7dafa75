"""The controller put together: the only place that knows all its parts."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from pupload.config import ControllerConfig
from pupload.controller.accounts import Accounts, Prices, charge
from pupload.controller.attachments import Attachments
from pupload.controller.calls import Calls
from pupload.controller.children import Children
from pupload.controller.chores import Chores
from pupload.controller.chores import follow as queue_chores
from pupload.controller.claims import Claims
from pupload.controller.delivery import Delivery
from pupload.controller.digests import Digests
from pupload.controller.evaluations import Evaluations
from pupload.controller.files import Files
from pupload.controller.flows import Flows
from pupload.controller.hooks import Hooks
from pupload.controller.intake import Intake
from pupload.controller.keys import Keys
from pupload.controller.multipart import Multiparts
from pupload.controller.nodedefs import NodeDefRegistry
from pupload.controller.outputs import Outputs
from pupload.controller.publishing import Publishing
from pupload.controller.reconcile import Look, Reconciler
from pupload.controller.references import References
from pupload.controller.removal import Removal, note_lifetimes
from pupload.controller.replay import Replays
from pupload.controller.reports import Reports
from pupload.controller.routes import (
    account,
    calls,
    evals,
    events,
    files,
    flows,
    hooks,
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
from pupload.controller.secrets import secret_box
from pupload.controller.service import Follower, Service
from pupload.controller.sessions import Sessions
from pupload.controller.signals import Signals
from pupload.controller.signing import Signer, signing_secrets
from pupload.controller.state import PARTS, Parts
from pupload.controller.steps import Steps
from pupload.controller.stores import Stores
from pupload.controller.submission import Submission
from pupload.controller.tools import Tools
from pupload.controller.trace import Traces
from pupload.controller.uploads import Uploads
from pupload.controller.views import Views
from pupload.controller.webhooks import Webhooks, note_webhooks
from pupload.controller.workers import add_worker
from pupload.db.pool import Database, open_database
from pupload.errors import InvalidConfig
from pupload.stores.base import Store
from pupload.tiers import TIERS, own_tiers
from pupload.web.addresses import read_allowed
from pupload.web.guarded import Patience, Web

_LOG = logging.getLogger(__name__)
_SHUTDOWN_S = 3.0
_AGAIN_S = 1.0
_POST_S = 15.0

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
]


@dataclass(frozen=True, slots=True)
class RunningController:
    """A controller that answers at `url`."""

    url: str
    parts: Parts

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
    looks = asyncio.create_task(_look(config, parts))
    runner = web.AppRunner(application(parts), access_log=None, shutdown_timeout=_SHUTDOWN_S, handler_cancellation=True)
    try:
        url = await _listen(runner, config)
        parts.hooks.served_at(url)
        yield RunningController(url, parts)
    finally:
        looks.cancel()
        with suppress(asyncio.CancelledError):
            await looks
        await runner.cleanup()
        await parts.stores.close()
        await database.close()


def wire(config: ControllerConfig, database: Database, stores: Mapping[str, Store]) -> Parts:
    """The parts, each given what it needs."""
    tiers = {**TIERS, **own_tiers(config.tiers)}
    box = secret_box(config)
    prices = Prices(config, tiers)
    followers: list[Follower] = [partial(charge, prices)] if prices else []
    followers += [note_lifetimes, note_webhooks, queue_chores]
    service = Service(database, followers)
    known = Stores(stores, database, service.plans, box)
    signals = Signals(database.dsn, enabled=config.notifications)
    client_tools = Tools(config, service)
    uploads = Uploads(config, service, known)
    multiparts = Multiparts(config, service, known, uploads)
    hooks = Hooks(config, uploads, box)
    accounts = Accounts(service, prices)
    looks: list[Look] = [(accounts.end_exhausted, config.reconcile_s)] if prices else []
    registry = NodeDefRegistry(config, database, tiers)
    kept = Flows(config, database, known, registry, box, tiers)
    removal = Removal(service, known, multiparts.abandon)
    stored_files = Files(config, database, known)
    internet = Web(read_allowed(config.url_allow), Patience(post_s=_POST_S))
    intake = Intake(config, database, known, stored_files, internet, box)
    looks += [*stored_files.looks(), *intake.looks()]
    sessions_kept = Sessions(config, service, known)
    looks += sessions_kept.looks()
    submission = Submission(config, service, known, uploads, intake, accounts, internet, box, tiers, kept.named)
    children = Children(service, known, submission, kept.named)
    evaluations = Evaluations(service, known, signals, submission, children)
    chores = Chores(config, service, signals, children, evaluations)
    looks += chores.looks()
    looks.append((removal.expired_objects, 10 * config.reconcile_s))
    looks.append((multiparts.look, 10 * config.reconcile_s))
    views = Views(config, service, known, uploads, hooks)
    by_request = Calls(config, service, signals, kept, sessions_kept, submission)
    signer = Signer(signing_secrets(config))
    return Parts(
        config=config,
        service=service,
        stores=known,
        signals=signals,
        uploads=uploads,
        multiparts=multiparts,
        hooks=hooks,
        webhooks=Webhooks(database),
        delivery=Delivery(config, database, views, internet, signals, signer),
        submission=submission,
        calls=by_request,
        outputs=Outputs(config, service, known),
        sessions=sessions_kept,
        views=views,
        removal=removal,
        claims=Claims(config, service, known, signals, Attachments(config, internet, box), tiers),
        replays=Replays(service, submission, by_request, box),
        steps=Steps(service, kept, submission, by_request, views, References(box)),
        reports=Reports(service, known, client_tools),
        tools=client_tools,
        traces=Traces(service),
        keys=Keys(config, database),
        accounts=accounts,
        looks=looks,
        flows=kept,
        publishing=Publishing(database, kept, Digests(config), box),
        nodedefs=registry,
        chores=chores,
        evaluations=evaluations,
        files=stored_files,
        tiers=tiers,
    )


def application(parts: Parts) -> web.Application:
    """The HTTP side of the parts."""
    app = web.Application(middlewares=[errors, account.authentication], client_max_size=parts.config.max_body_bytes)
    app[PARTS] = parts
    app[calls.GOING_DOWN] = asyncio.Event()
    app.on_shutdown.append(calls.note_shutdown)
    app.add_routes(ROUTES)
    return app


async def _look(config: ControllerConfig, parts: Parts) -> None:
    reconciler = Reconciler(config, parts.service, parts.removal, list(parts.tiers), parts.looks)
    async with asyncio.TaskGroup() as group:
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


async def _listen(runner: web.AppRunner, config: ControllerConfig) -> str:
    await runner.setup()
    try:
        await web.TCPSite(runner, config.host, config.port).start()
    except OSError as error:
        raise InvalidConfig(f"cannot listen on {config.host}:{config.port}: {error.strerror}") from error
    port = runner.addresses[0][1]
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"http://{host}:{port}"
