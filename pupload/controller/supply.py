"""Which images runs of this server may use: checked before a run or a version is made, and again by the workers."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from pupload.config import ControllerConfig
from pupload.controller.digests import Digests, FoundImages
from pupload.errors import InvalidRequest
from pupload.flow.model import Flow
from pupload.flow.nodedef import NodeDef
from pupload.flow.plan import NodeID, Plan

if TYPE_CHECKING:
    from pupload.containers.names import Registries

Used = Mapping[str, str]
"""Images by the nodes that use them."""


class Supply:
    """The operator's rules for images. Without any, nothing is asked and nothing costs."""

    def __init__(self, config: ControllerConfig) -> None:
        self._digests = Digests(config)
        self._require_digest = config.require_digest
        self._registries = _read(config.registries) if config.registries else None

    def require_allowed(self, used: Used) -> None:
        """Errors: InvalidRequest naming each node whose image comes from where none may come from."""
        if self._registries is not None:
            refusals = {node: self._registries.refusal(image) for node, image in used.items()}
            _refuse_any(used, {node: why for node, why in refusals.items() if why})

    async def settled(self, used: Used) -> Mapping[str, str]:
        """The exact image of each tag, where this server runs nothing else; else nothing, and workers settle it.

        Errors: InvalidRequest naming each node whose tag nobody can tell the content of.
        """
        if not self._require_digest:
            return {}
        return (await self.find(used)).images

    async def find(self, used: Used) -> FoundImages:
        """What the images mean now.

        Errors: InvalidRequest, where this server runs exact images only, naming each node whose tag stays unknown.
        """
        found = await self._digests.find(sorted(set(used.values())), always=self._require_digest)
        if self._require_digest:
            unknown = {node: image for node, image in used.items() if image in found.unknown}
            text = "image {} is named by a tag, this server runs exact images only, and its digest is not known: {}"
            _refuse_any(used, {node: text.format(image, found.unknown[image]) for node, image in unknown.items()})
        return found


def images_of(plan: Plan, idle: Collection[NodeID]) -> Used:
    """The images that a run of the plan uses."""
    return {node.id: node.image for node in plan.nodes.values() if node.calls is None and node.id not in idle}


def images_used(flow: Flow, defs: Sequence[NodeDef]) -> Used:
    """The images that the flow's own nodes use; a node that calls another flow has none."""
    by_name = {name: each.image for each in defs for name in (each.reference, f"{each.reference}@{each.version}")}
    return {node.id: by_name[node.uses] for node in flow.nodes if node.uses in by_name}


def _read(allowed: Collection[str]) -> "Registries":
    # Only here: a controller without such rules need not know Docker.
    from pupload.containers.names import Registries

    return Registries(allowed)


def _refuse_any(used: Used, refusals: Mapping[str, str]) -> None:
    if refusals:
        node, why = next(iter(refusals.items()))
        more = f" (and {len(refusals) - 1} more nodes)" if len(refusals) > 1 else ""
        details = [{"Node": each, "Image": used[each], "Message": told} for each, told in refusals.items()]
        raise InvalidRequest(f"node {node!r}: {why}{more}", code="IMAGE_REFUSED", details=details)
