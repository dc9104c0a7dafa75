"""Flow documents as they are kept: JSON as it was given, and its secrets sealed apart."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from pupload.controller.secrets import SecretBox
from pupload.document import fold
from pupload.flow.load import FlowDocuments
from pupload.flow.model import Flow, FlowStore, is_secret
from pupload.flow.nodedef import NodeDef

Json = dict[str, Any]
Secrets = dict[str, dict[str, JsonValue]]
"""The secret members of stores, by the store's place."""


@dataclass(frozen=True, slots=True)
class KeptDocuments:
    """Documents as rows hold them. `secrets` is sealed, None where there are none."""

    documents: str
    secrets: bytes | None = None

    def shown(self) -> Json:
        """`{Flow, NodeDefs}` for an answer: without secrets."""
        shown: Json = json.loads(self.documents)
        return shown

    def read(self, box: SecretBox) -> tuple[Flow, list[NodeDef]]:
        """The documents, whole.

        Errors: InvalidConfig when they were sealed with another key.
        """
        documents = self.shown()
        for place, members in self.opened(box).items():
            documents["Flow"]["Stores"][int(place)]["Params"] |= members
        read = FlowDocuments.model_validate(documents)
        return read.flow, read.node_defs

    def opened(self, box: SecretBox) -> Secrets:
        """The secrets alone."""
        opened: Secrets = json.loads(box.open(self.secrets)) if self.secrets else {}
        return opened


def keep(flow: Flow, defs: Sequence[NodeDef], box: SecretBox) -> KeptDocuments:
    """The documents, ready to be stored."""
    documents = FlowDocuments(flow=flow, node_defs=list(defs))
    secrets = {str(place): found for place, store in enumerate(flow.stores) if (found := _secret_members(store))}
    text = json.dumps(documents.model_dump(mode="json", by_alias=True, exclude_unset=True), ensure_ascii=False)
    return KeptDocuments(text, box.seal(json.dumps(secrets)) if secrets else None)


def lacks_secrets(flow: Flow) -> bool:
    """True when a store of the flow's own comes without its secret."""
    return any(store.params and not _secret_members(store) for store in flow.stores)


def with_known_secrets(flow: Flow, earlier: Flow) -> Flow:
    """`flow`, its stores with the secrets that came with `earlier` where they bring none of their own.

    So a draft that was read, edited and put again goes on working. It must still be the same account there.
    """
    known = {_account(store): _secret_members(store) for store in earlier.stores}
    stores = [_with_secret(store, known.get(_account(store), {})) for store in flow.stores]
    return flow.model_copy(update={"stores": stores})


def _with_secret(store: FlowStore, secret: dict[str, JsonValue]) -> FlowStore:
    if not store.params or not secret or _secret_members(store):
        return store
    return store.model_copy(update={"params": store.params | secret})


def _account(store: FlowStore) -> str:
    params = {fold(name): value for name, value in store.params.items()}
    return json.dumps([store.name, params.get("endpoint"), params.get("accesskey")])


def _secret_members(store: FlowStore) -> dict[str, JsonValue]:
    return {name: value for name, value in store.params.items() if is_secret(name)}
