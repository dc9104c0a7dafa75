"""From a posted flow to a stored run: check, compile, place, store. Nothing is kept of what does not pass."""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pupload.controller.accounts import Accounts
from pupload.controller.attachments import Attachments
from pupload.controller.callees import NamedFlows
from pupload.controller.existing import KeeperOf
from pupload.controller.ground import Ground
from pupload.controller.intake import Intake, NewInputs, Taken
from pupload.controller.objects import upload_key
from pupload.controller.preparation import Preparation, Prepared
from pupload.controller.service import Beginning
from pupload.controller.supply import Supply, images_of
from pupload.controller.uploads import Uploads
from pupload.controller.webhooks import callback_of
from pupload.controller.workers import unservable
from pupload.db.creation import Caller, NewRun, NewUpload
from pupload.db.origins import is_run
from pupload.db.room import NO_LIMIT, Room
from pupload.errors import InvalidRequest, PuploadError, TooMany
from pupload.failpoints import reach
from pupload.flow.message import missing_message
from pupload.flow.model import Flow, FlowStore
from pupload.flow.nodedef import NodeDef
from pupload.flow.plan import Edge, NodeID, Plan, Source
from pupload.flow.request import RunRequest
from pupload.run.state import Artifact, RunID
from pupload.stores.base import Store


@dataclass(frozen=True, slots=True)
class Definition:
    """What is to be run, as it was posted or published.

    `version` is "" for a flow that is not kept, "draft", or a number; `digest` "" is found by compiling. `images` are
    the exact images that a published version runs, by the reference that its defs write.
    """

    flow: Flow
    defs: Sequence[NodeDef]
    version: str = ""
    digest: str = ""
    images: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Start:
    """One run to be made: of what, how, and on whose behalf.

    `kept` are nodes that an earlier run has been through, `present` the objects that need not be made again, by edge.
    `only` are the nodes that may run, None for those that the request names. `called` is a start by a request that
    must bring what only a request can: the value of a primary input without a source. `closed` says that no input comes
    later: what is not there at the start stays absent. `sha256` is that of the whole request; it goes with the key.
    """

    definition: Definition
    request: RunRequest = field(default_factory=RunRequest)
    kept: frozenset[NodeID] = frozenset()
    present: Mapping[Edge, Artifact] = field(default_factory=dict)
    only: frozenset[NodeID] | None = None
    called: bool = False
    closed: bool = False
    session_id: str = ""
    session_is_new: bool = False
    caller: Caller | None = None
    root: str = ""
    replay_of: str = ""
    account: str = ""
    idempotency_key: str | None = None
    sha256: bytes = b""


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A run that may be made. `idle` are the nodes that do not run; `attachments` are sealed URLs by name.

    `images` are exact images by name, where these must be known before the run.
    """

    id: RunID
    start: Start
    prepared: Prepared
    plan: Plan
    idle: frozenset[NodeID]
    secrets: Mapping[str, str]
    attachments: Mapping[str, bytes]
    images: Mapping[str, str]


class Submission:
    """Accepts flows."""

    def __init__(self, ground: Ground, uploads: Uploads, intake: Intake, accounts: Accounts, named: NamedFlows) -> None:
        self._config, self._service, self._stores = ground.config, ground.service, ground.stores
        self._web, self._box, self._limits = ground.web, ground.box, ground.limits
        self._uploads, self._intake, self._accounts, self._named = uploads, intake, accounts, named
        self._preparation = Preparation(ground.config, ground.tiers)
        self._attachments = Attachments(ground.config, ground.web, ground.box)
        self._supply = Supply(ground.config)

    async def start(self, start: Start) -> RunID:
        """The id of the run, stored before this returns. Nothing is stored of a request that does not pass.

        Errors: InvalidFlow with all findings; InvalidRequest for an input, object or store that is not there;
        Conflict for an idempotency key of another request; TooMany where the account has no room.
        """
        earlier = await self._service.earlier(start.idempotency_key, start.sha256)
        if earlier is not None:
            return earlier
        self._require_room(start)
        accepted = await self._accept(start)
        static = await self._static_artifacts(accepted)
        taken = await self._take(accepted)
        try:
            await reach("submission.taken")
            beginning = _beginning(accepted, (*static, *taken.artifacts))
            new = self._new_run(accepted, taken, beginning)
            stored, is_new = await self._service.create(new, beginning)
        except TooMany as full:
            self._limits.note_full(start.account, full)
            raise
        finally:
            await self._intake.give_up(accepted.id, taken)
        if is_new and new.uploads:
            self._uploads.expect(await self._uploads.awaited_by(stored))
        return stored

    def _require_room(self, start: Start) -> None:
        """Return unless it is known that there is none: before anything is read, compiled or fetched."""
        if start.caller is None:
            self._limits.require_room(start.account)
            if start.session_id:
                self._limits.require_storage(start.account)

    def _room(self, start: Start) -> Room:
        """What the run must fit into. One that another run calls has the room of that one: it was accepted with it."""
        return self._limits.of(start.account).room if start.caller is None else NO_LIMIT

    async def _accept(self, start: Start) -> _Accepted:
        """The run, once everything holds that can be told before its first object is stored."""
        prepared = await self.prepare(start.account, start.definition, start.request)
        _require_runnable(prepared.plan, egress=self._config.allow_egress)
        self._room(start).require(prepared.nodes)
        idle = _idle(prepared.plan, start, prepared.only)
        used = images_of(prepared.plan, idle)
        self._supply.require_allowed(used)
        _require_message(start, prepared, idle)
        plan = replace(
            prepared.plan,
            callback=callback_of(start.request, self._web),
            session_id=start.session_id,
            account=start.account,
            # Of a part of a flow, no evaluation of the whole is true.
            evals=() if idle - start.kept else prepared.plan.evals,
        )
        secrets = _secrets(start.definition.flow)
        await self._require_servable(plan)
        await self._accounts.require(start.account, plan)
        await self._require_stores(plan, secrets)
        plan, attachments = self._attachments.accept(plan, start.request.attachments)
        images = await self._supply.settled(used)
        return _Accepted(new_run_id(), start, prepared, plan, idle, secrets, attachments, images)

    async def _take(self, accepted: _Accepted) -> Taken:
        plan, secrets, start = accepted.plan, accepted.secrets, accepted.start
        opened = _given_to(plan, start.kept)
        given = NewInputs(accepted.id, opened, accepted.prepared.inputs, start.account, secrets)
        return await self._intake.take(given, lambda name: self._store(plan, secrets, name))

    def _new_run(self, accepted: _Accepted, taken: Taken, beginning: Beginning) -> NewRun:
        start, prepared = accepted.start, accepted.prepared
        return NewRun(
            id=accepted.id,
            plan=accepted.plan,
            timeout=prepared.timeout,
            uploads=self._new_uploads(accepted.id, accepted.plan, beginning),
            secrets={name: self._box.seal(secret) for name, secret in accepted.secrets.items()},
            session_id=start.session_id,
            session_is_new=start.session_is_new,
            idempotency_key=start.idempotency_key,
            request_sha256=start.sha256 if start.idempotency_key else None,
            version=start.definition.version,
            digest=prepared.digest,
            documents=prepared.documents,
            request=prepared.request,
            echo=prepared.echo,
            caller=start.caller,
            root=start.root,
            replay_of=start.replay_of,
            account=start.account,
            budget=start.request.budget,
            intakes=taken.stored,
            attachments=accepted.attachments,
            images=accepted.images,
            room=self._room(start),
            counted_nodes=0 if _is_called(start) else prepared.nodes,
        )

    async def prepare(self, account: str, definition: Definition, request: RunRequest) -> Prepared:
        """The run that this request of the account would make of the definition, before anything of it is stored.

        Errors: InvalidFlow with all findings; InvalidRequest or CallerError for what does not fit the flow.
        """
        callees = await self._named.callees(account, definition.flow, kept=bool(definition.version))
        return await asyncio.to_thread(
            self._preparation.prepare,
            definition.flow,
            definition.defs,
            request,
            stores=self._stores.names(),
            digest=definition.digest,
            callees=callees,
        )

    def keeper_of(self, definition: Definition, plan: Plan) -> KeeperOf:
        """The stores that keep what a run of this definition may begin with: its own, and those of other runs."""
        secrets = _secrets(definition.flow)

        async def keeper(artifact: Artifact) -> Store:
            if is_run(artifact.origin):
                return await self._stores.of_owner(RunID(artifact.origin), artifact.store)
            return await self._store(plan, secrets, artifact.store)

        return keeper

    async def _require_servable(self, plan: Plan) -> None:
        if self._config.reject_unservable:
            tiers = {node.tier.name: node.tier for node in plan.nodes.values() if node.calls is None}
            async with self._service.database.connection() as connection:
                reasons = await unservable(connection, tiers.values(), self._config.lease_s)
            if reasons:
                details = [{"Message": reason} for reason in reasons.values()]
                raise InvalidRequest("no worker can run this flow", code="UNSERVABLE", details=details)

    def _new_uploads(self, run_id: RunID, plan: Plan, beginning: Beginning) -> list[NewUpload]:
        """What is still to come: the input edges without an object that a node which is to run reads."""
        limit = self._config.max_upload_bytes
        present = {artifact.edge for artifact in beginning.present} | beginning.absent
        return [
            NewUpload(
                edge.name,
                edge.store,
                upload_key(plan, edge, run_id),
                min(edge.max_size_bytes or limit, limit),
                hooked=edge.source is Source.WEBHOOK,
            )
            for edge in (plan.edges[name] for name in _awaited(plan, beginning.kept | beginning.skipped))
            if edge.name not in present
        ]

    async def _static_artifacts(self, accepted: _Accepted) -> tuple[Artifact, ...]:
        artifacts = []
        plan = accepted.plan
        for edge in plan.edges.values():
            if edge.source is not Source.STATIC or accepted.idle.issuperset(edge.consumers):
                continue
            key = upload_key(plan, edge, accepted.id)
            head = await (await self._store(plan, accepted.secrets, edge.store)).head(key)
            if head is None:
                raise InvalidRequest(
                    f"edge {edge.name!r}: there is no object {key!r} in store {edge.store!r}", code="STATIC_NOT_FOUND"
                )
            artifacts.append(Artifact(edge.name, edge.store, key, head.size_bytes, etag=head.etag))
        return tuple(artifacts)

    async def _store(self, plan: Plan, secrets: Mapping[str, str], name: str) -> Store:
        if name in plan.stores:
            return await self._stores.declared(plan.stores[name], secrets[name])
        return next(store for store in self._stores.server_stores() if store.name == name)

    async def _require_stores(self, plan: Plan, secrets: Mapping[str, str]) -> None:
        """A store that the flow brings must answer now: later, nobody would be there to read why it does not."""
        for name in _used_stores(plan) & plan.stores.keys():
            try:
                await (await self._store(plan, secrets, name)).check()
            except PuploadError as error:
                raise InvalidRequest(f"store {name!r} cannot be used: {error}", code="STORE_UNUSABLE") from error


def new_run_id() -> RunID:
    """A fresh id: 48 bits of milliseconds, so that ids sort by time, and 64 random bits."""
    return RunID(f"run_{time.time_ns() // 1_000_000:012x}{os.urandom(8).hex()}")


def _is_called(start: Start) -> bool:
    """True for the run of a node's attempt, whose nodes are counted in the run that all of this began with. One that
    judges another begins when that is over."""
    return start.caller is not None and start.caller.attempt > 0


def _idle(plan: Plan, start: Start, only: frozenset[NodeID] | None) -> frozenset[NodeID]:
    """The nodes that do not run: kept from an earlier run, or not asked for."""
    wanted = only if start.only is None else start.only
    return start.kept if wanted is None else frozenset(plan.nodes) - (wanted - start.kept)


def _beginning(accepted: _Accepted, made: Sequence[Artifact]) -> Beginning:
    """What exists already, what is given before what an earlier run left; and what never will."""
    start = accepted.start
    present = {**start.present, **{artifact.edge: artifact for artifact in made}}
    absent = frozenset(_awaited(accepted.plan, accepted.idle)) - present.keys() if start.closed else frozenset()
    return Beginning(tuple(present.values()), start.kept, accepted.idle - start.kept, absent)


def _awaited(plan: Plan, idle: frozenset[NodeID]) -> list[Edge]:
    """The edges from outside that a node which is to run reads."""
    return [
        edge.name
        for edge in plan.edges.values()
        if edge.source in {Source.UPLOAD, Source.WEBHOOK} and not idle.issuperset(edge.consumers)
    ]


def _require_message(start: Start, prepared: Prepared, idle: frozenset[NodeID]) -> None:
    given = prepared.inputs.keys() | start.present.keys()
    edge = missing_message(start.definition.flow, prepared.plan, given, idle) if start.called else None
    if edge is not None:
        raise InvalidRequest(
            f"edge {edge!r} comes with the call; give Message, or Inputs with {edge!r}", code="MESSAGE_REQUIRED"
        )


def _given_to(plan: Plan, kept: frozenset[NodeID]) -> Plan:
    """The plan with the outputs of kept nodes as inputs, so that they may be given anew under keys of this run."""
    theirs = [edge for edge in plan.edges.values() if edge.producer in kept]
    opened = {edge.name: replace(edge, producer=None, source=Source.UPLOAD, key=None) for edge in theirs}
    return replace(plan, edges={**plan.edges, **opened}) if opened else plan


def _secrets(flow: Flow) -> dict[str, str]:
    return {store.name: store.read_params().secret_key.get_secret_value() for store in _declared(flow)}


def _declared(flow: Flow) -> list[FlowStore]:
    return [store for store in flow.stores if not store.names_a_server_store]


def _used_stores(plan: Plan) -> set[str]:
    return {edge.store for edge in plan.edges.values()}


def _require_runnable(plan: Plan, *, egress: bool) -> None:
    """What the documents allow and this server does not."""
    by_url = [node.id for node in plan.nodes.values() if node.access != "files"]
    if by_url:
        raise InvalidRequest(
            f"node {by_url[0]!r} wants its files by URL, which this server does not serve yet; leave out Access",
            code="ACCESS_REFUSED",
        )
    closed = [node.id for node in plan.nodes.values() if node.network != "none" and not egress]
    if closed:
        raise InvalidRequest(
            f"nodes {', '.join(closed[:5])} ask for a network, which this server does not allow", code="EGRESS_REFUSED"
        )
