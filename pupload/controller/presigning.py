"""Fresh URLs for an attempt at work: to its node's inputs and outputs, its log and its folders, and nowhere else."""

from collections.abc import Mapping

from pupload.controller.fencing import check_lease
from pupload.controller.folders import folder_key
from pupload.controller.objects import attempt_key, inputs_of, log_key
from pupload.controller.service import Service
from pupload.controller.stores import Stores
from pupload.errors import NotFound
from pupload.failpoints import reach
from pupload.flow.plan import DEFAULT_STORE, Edge, NodeID, Plan
from pupload.protocol import PutWish, Sign, Signed, SignedGet, SignedPut
from pupload.run.state import Artifact, RunID
from pupload.stores.base import Store


class Presigning:
    """Signs URLs for attempts."""

    def __init__(self, service: Service, stores: Stores) -> None:
        self._service, self._stores = service, stores

    async def sign(self, sign: Sign) -> Signed:
        """Fresh URLs for an attempt that still holds its lease.

        Errors: LostLease; NotFound for an edge that is not the node's.
        """
        run_id = RunID(sign.ref.run_id)
        async with self._service.database.connection() as connection:
            await check_lease(connection, sign.ref)
            plan = await self._service.plans.get(connection, run_id)
            node = plan.nodes[NodeID(sign.ref.node_id)]
            inputs = await inputs_of(connection, run_id, node) if sign.gets else {}
        outputs = {binding.edge for binding in node.outputs}
        if unknown := [wish.edge for wish in sign.puts if wish.edge not in outputs]:
            raise NotFound(f"node {node.id!r} has no output edge {unknown[0]!r}")
        signed = Signed(
            gets=[await self._signed_get(sign, inputs, edge) for edge in sign.gets],
            puts=[await self._signed_put(plan, sign, wish) for wish in sign.puts],
            log=await self._signed_log(sign, sign.log) if sign.log else None,
            folders=[self._signed_folder(plan, sign, wish) for wish in sign.folders],
        )
        await reach("sign.lent")
        return signed

    async def _signed_get(self, sign: Sign, inputs: Mapping[Edge, Artifact], edge: str) -> SignedGet:
        artifact = inputs.get(Edge(edge))
        if artifact is None:
            raise NotFound(f"node {sign.ref.node_id!r} has nothing on an input edge {edge!r}")
        store = await self._stores.of_artifact(RunID(sign.ref.run_id), artifact)
        return SignedGet(edge=edge, url=store.sign_get(artifact.key, sign.expires_s, public=False))

    async def _signed_put(self, plan: Plan, sign: Sign, wish: PutWish) -> SignedPut:
        edge = plan.edges[Edge(wish.edge)]
        key = attempt_key(edge, RunID(sign.ref.run_id), sign.ref.attempt, wish.content_type)
        return await self._signed(sign, wish, edge.store, key)

    async def _signed_log(self, sign: Sign, wish: PutWish) -> SignedPut:
        return await self._signed(sign, wish, DEFAULT_STORE, log_key(sign.ref))

    def _signed_folder(self, plan: Plan, sign: Sign, wish: PutWish) -> SignedPut:
        key = folder_key(plan.session_id, sign.ref, wish.edge)
        return _signed_by(self._stores.server(DEFAULT_STORE), sign, wish, key)

    async def _signed(self, sign: Sign, wish: PutWish, store_name: str, key: str) -> SignedPut:
        return _signed_by(await self._stores.of_run(RunID(sign.ref.run_id), store_name), sign, wish, key)


def _signed_by(store: Store, sign: Sign, wish: PutWish, key: str) -> SignedPut:
    signed = store.sign_put(
        key,
        sign.expires_s,
        public=False,
        size_bytes=wish.size_bytes,
        md5=wish.md5,
        content_type=wish.content_type,
    )
    return SignedPut(edge=wish.edge, url=signed.url, headers=dict(signed.headers), key=key, foreign=store.foreign)
