"""The parts of a controller, each given what it needs: the only place that knows all of them."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from pupload.config import ControllerConfig
from pupload.controller.accounts import Accounts, Prices, charge
from pupload.controller.calls import Calls
from pupload.controller.children import Children
from pupload.controller.chores import Chores
from pupload.controller.chores import follow as queue_chores
from pupload.controller.claims import Claims
from pupload.controller.delivery import Delivery
from pupload.controller.evaluations import Evaluations
from pupload.controller.files import Files
from pupload.controller.flows import Flows
from pupload.controller.ground import Ground
from pupload.controller.hooks import Hooks
from pupload.controller.intake import Intake
from pupload.controller.keys import Keys
from pupload.controller.limits import Limits
from pupload.controller.multipart import Multiparts
from pupload.controller.nodedefs import NodeDefRegistry
from pupload.controller.outputs import Outputs
from pupload.controller.owners import Owners
from pupload.controller.presigning import Presigning
from pupload.controller.publishing import Publishing
from pupload.controller.reconcile import Look
from pupload.controller.removal import Removal, note_lifetimes
from pupload.controller.replay import Replays
from pupload.controller.reports import Reports
from pupload.controller.secrets import secret_box
from pupload.controller.service import Follower, Service
from pupload.controller.sessions import Sessions
from pupload.controller.signals import Signals
from pupload.controller.signing import Signer, signing_secrets
from pupload.controller.state import Parts
from pupload.controller.steps import Steps
from pupload.controller.stores import Stores
from pupload.controller.submission import Submission
from pupload.controller.supply import Supply
from pupload.controller.tools import Tools
from pupload.controller.trace import Traces
from pupload.controller.uploads import Uploads
from pupload.controller.views import Views
from pupload.controller.webhooks import Webhooks, note_webhooks
from pupload.db.pool import Database
from pupload.stores.base import Store
from pupload.tiers import TIERS, own_tiers
from pupload.web.addresses import read_allowed
from pupload.web.guarded import Patience, Web

_POST_S = 15.0


@dataclass(frozen=True, slots=True)
class _Incoming:
    """The ways of objects from outside."""

    uploads: Uploads
    multiparts: Multiparts
    hooks: Hooks
    files: Files
    intake: Intake


@dataclass(frozen=True, slots=True)
class _Beginnings:
    """What begins runs: by request, as calls of other runs, to judge them."""

    submission: Submission
    calls: Calls
    chores: Chores
    evaluations: Evaluations


def wire(config: ControllerConfig, database: Database, stores: Mapping[str, Store]) -> Parts:
    """The parts on this database and these stores."""
    tiers = {**TIERS, **own_tiers(config.tiers)}
    prices = Prices(config, tiers)
    box = secret_box(config)
    service = Service(database, _followers(prices))
    allowed = read_allowed(config.url_allow)
    ground = Ground(
        config=config,
        service=service,
        stores=Stores(stores, database, service.plans, box, allowed),
        signals=Signals(database.dsn, enabled=config.notifications, silent=database.renew),
        web=Web(allowed, Patience(post_s=_POST_S)),
        box=box,
        tiers=tiers,
        limits=Limits(config),
    )
    return _parts(ground, Accounts(service, prices), _incoming(ground))


def _followers(prices: Prices) -> list[Follower]:
    paid: list[Follower] = [partial(charge, prices)] if prices else []
    return [*paid, note_lifetimes, note_webhooks, queue_chores]


def _incoming(ground: Ground) -> _Incoming:
    config, service, stores = ground.config, ground.service, ground.stores
    uploads = Uploads(config, service, stores)
    files = Files(config, ground.database, stores, ground.limits)
    return _Incoming(
        uploads=uploads,
        multiparts=Multiparts(config, service, stores, uploads, ground.limits),
        hooks=Hooks(config, uploads, ground.box),
        files=files,
        intake=Intake(ground, files),
    )


def _beginnings(
    ground: Ground, incoming: _Incoming, accounts: Accounts, flows: Flows, sessions: Sessions
) -> _Beginnings:
    service, stores, signals = ground.service, ground.stores, ground.signals
    submission = Submission(ground, incoming.uploads, incoming.intake, accounts, flows.named)
    children = Children(service, stores, submission, flows.named)
    evaluations = Evaluations(service, stores, signals, submission, children)
    return _Beginnings(
        submission=submission,
        calls=Calls(ground, flows, sessions, submission),
        chores=Chores(ground.config, service, signals, children, evaluations),
        evaluations=evaluations,
    )


def _parts(ground: Ground, accounts: Accounts, incoming: _Incoming) -> Parts:
    config, service, stores, database = ground.config, ground.service, ground.stores, ground.database
    nodedefs = NodeDefRegistry(config, database, ground.tiers)
    flows = Flows(ground, nodedefs)
    sessions = Sessions(config, service, stores)
    begin = _beginnings(ground, incoming, accounts, flows, sessions)
    views = Views(config, service, stores, incoming.uploads, incoming.hooks)
    removal = Removal(service, stores, incoming.multiparts.abandon)
    tools = Tools(config, service)
    return Parts(
        config=config,
        service=service,
        stores=stores,
        signals=ground.signals,
        uploads=incoming.uploads,
        multiparts=incoming.multiparts,
        hooks=incoming.hooks,
        webhooks=Webhooks(database),
        delivery=Delivery(ground, views, Signer(signing_secrets(config))),
        submission=begin.submission,
        calls=begin.calls,
        outputs=Outputs(config, service, stores),
        sessions=sessions,
        views=views,
        removal=removal,
        claims=Claims(ground),
        presigning=Presigning(service, stores),
        reports=Reports(service, stores, tools),
        replays=Replays(service, begin.submission, begin.calls, ground.box),
        steps=Steps(ground, flows, begin.submission, begin.calls, views),
        tools=tools,
        traces=Traces(service),
        keys=Keys(config, database),
        owners=Owners(database),
        accounts=accounts,
        limits=ground.limits,
        looks=[
            *_every(config.reconcile_s, begin.chores.missed, accounts.end_exhausted),
            *_every(10 * config.reconcile_s, incoming.files.unwanted, incoming.intake.unwanted),
            *_every(10 * config.reconcile_s, sessions.old_archives, sessions.expired, sessions.doomed),
            *_every(10 * config.reconcile_s, removal.expired_objects, removal.unneeded_stores),
            *_every(10 * config.reconcile_s, incoming.multiparts.look),
            *_every(30 * config.reconcile_s, incoming.files.hoarders),
        ],
        flows=flows,
        publishing=Publishing(database, flows, Supply(config), ground.box),
        nodedefs=nodedefs,
        chores=begin.chores,
        evaluations=begin.evaluations,
        files=incoming.files,
        tiers=ground.tiers,
    )


def _every(seconds: float, *looks: Callable[[], Awaitable[None]]) -> list[Look]:
    return [(look, seconds) for look in looks]
