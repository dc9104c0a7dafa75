"""What a worker gets with an attempt: everything that it needs, and nothing that it could keep."""

from collections.abc import Mapping
from dataclasses import dataclass

from pupload.controller.attachments import Attachments
from pupload.controller.folders import LentFolder, lend
from pupload.controller.ground import Ground
from pupload.controller.tools import FIRST_TIME, Going, sheet_for
from pupload.controller.turns import Seat
from pupload.flow.plan import DEFAULT_STORE, Binding, Edge, NodePlan, Plan
from pupload.protocol import Assignment, AttemptRef, InputSpec, ObjectRef, OutputSpec
from pupload.run.state import Artifact, RunID

_SIGNING_MARGIN_S = 60.0


@dataclass(frozen=True, slots=True)
class TakenAttempt:
    """A claimed attempt before its URLs are signed. `inputs` lacks the edges that stay without an object.

    `exact` is the exact image that the run uses, "" while nobody has settled that.
    """

    plan: Plan
    node: NodePlan
    ref: AttemptRef
    inputs: Mapping[Edge, Artifact]
    seat: Seat | None = None
    folders: tuple[LentFolder, ...] = ()
    goes_on: Going = FIRST_TIME
    counts_as: int = 0
    exact: str = ""


class Assignments:
    """Puts assignments together."""

    def __init__(self, ground: Ground) -> None:
        self._config, self._database, self._stores = ground.config, ground.database, ground.stores
        self._attachments = Attachments(ground.config, ground.web, ground.box)

    async def of(self, taken: TakenAttempt) -> Assignment:
        """The assignment of the attempt, with fresh URLs.

        Errors: what the stores and the database raise.
        """
        node, plan = taken.node, taken.plan
        return Assignment(
            ref=taken.ref,
            flow_name=plan.name,
            uses=node.uses,
            image=node.image,
            exact=taken.exact,
            argv=list(node.argv) if node.argv is not None else None,
            env={**node.env, **(taken.seat.env if taken.seat else {})},
            flags=dict(node.flags),
            flag_names=list(node.flag_names),
            inputs=[await self._input(taken, binding) for binding in node.inputs],
            outputs=[_output(plan, node, binding) for binding in node.outputs],
            folders=[lend(kept, self._stores.server(DEFAULT_STORE)) for kept in taken.folders],
            attachments=await self._attachments.of_node(self._database, taken.ref.run_id, plan, node),
            session_id=plan.session_id,
            tier=node.tier,
            timeout_s=node.timeout_s,
            network=node.network,
            user=node.user,
            access=node.access,
            log_limit_bytes=self._config.log_bytes,
            live_log_limit_bytes=self._config.live_log_bytes,
            tools=sheet_for(plan, node, taken.goes_on),
            snapshot_bytes=self._config.snapshot_bytes if plan.trace else 0,
            counts_as=taken.counts_as,
        )

    async def _input(self, taken: TakenAttempt, binding: Binding) -> InputSpec:
        return InputSpec(
            port=binding.port,
            edge=binding.edge,
            types=list(binding.types),
            required=binding.required,
            content=await self._object_ref(taken, binding.edge),
        )

    async def _object_ref(self, taken: TakenAttempt, edge: Edge) -> ObjectRef | None:
        artifact = taken.inputs.get(edge)
        if artifact is None:
            return None
        store = await self._stores.of_artifact(RunID(taken.ref.run_id), artifact)
        return ObjectRef(
            url=store.sign_get(artifact.key, taken.node.timeout_s + _SIGNING_MARGIN_S, public=False),
            size_bytes=artifact.size_bytes,
            sha256=artifact.sha256,
            etag=artifact.etag,
            content_type=artifact.content_type,
            foreign=store.foreign,
        )


def _output(plan: Plan, node: NodePlan, binding: Binding) -> OutputSpec:
    return OutputSpec(
        port=binding.port,
        edge=binding.edge,
        types=list(binding.types),
        required=binding.required,
        extension=binding.extension,
        max_size_bytes=plan.edges[binding.edge].max_size_bytes or node.tier.disk_bytes,
        read=bool(plan.edges[binding.edge].consumers),
    )
