"""What handlers reach by the application's typed keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web

from pupload.config import ControllerConfig
from pupload.controller.accounts import Accounts
from pupload.controller.calls import Calls
from pupload.controller.chores import Chores
from pupload.controller.claims import Claims
from pupload.controller.delivery import Delivery
from pupload.controller.evaluations import Evaluations
from pupload.controller.files import Files
from pupload.controller.flows import Flows
from pupload.controller.hooks import Hooks
from pupload.controller.keys import Keys
from pupload.controller.limits import Limits
from pupload.controller.multipart import Multiparts
from pupload.controller.nodedefs import NodeDefRegistry
from pupload.controller.outputs import Outputs
from pupload.controller.owners import Owners
from pupload.controller.presigning import Presigning
from pupload.controller.publishing import Publishing
from pupload.controller.reconcile import Look
from pupload.controller.removal import Removal
from pupload.controller.replay import Replays
from pupload.controller.reports import Reports
from pupload.controller.service import Service
from pupload.controller.sessions import Sessions
from pupload.controller.signals import Signals
from pupload.controller.steps import Steps
from pupload.controller.stores import Stores
from pupload.controller.submission import Submission
from pupload.controller.tools import Tools
from pupload.controller.trace import Traces
from pupload.controller.uploads import Uploads
from pupload.controller.views import Views
from pupload.controller.webhooks import Webhooks
from pupload.tiers import Tier


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a controller, wired once in wiring.py."""

    config: ControllerConfig
    service: Service
    stores: Stores
    signals: Signals
    uploads: Uploads
    multiparts: Multiparts
    hooks: Hooks
    webhooks: Webhooks
    delivery: Delivery
    submission: Submission
    calls: Calls
    outputs: Outputs
    sessions: Sessions
    views: Views
    removal: Removal
    claims: Claims
    presigning: Presigning
    reports: Reports
    replays: Replays
    steps: Steps
    tools: Tools
    traces: Traces
    keys: Keys
    owners: Owners
    accounts: Accounts
    limits: Limits
    looks: Sequence[Look]
    flows: Flows
    publishing: Publishing
    nodedefs: NodeDefRegistry
    chores: Chores
    evaluations: Evaluations
    files: Files
    tiers: Mapping[str, Tier]


PARTS = web.AppKey("parts", Parts)


def parts_of(request: web.Request) -> Parts:
    """The parts that serve this request."""
    return request.app[PARTS]
