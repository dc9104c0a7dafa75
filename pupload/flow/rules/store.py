"""Rules about stores: that they exist, can be reached, and are used. PURE."""

import re
from collections.abc import Iterator

from pydantic import ValidationError

from pupload.flow.model import FlowStore, StoreParams
from pupload.flow.paths import in_flow
from pupload.flow.rules.rule import Fault, Severity, quoted, rule
from pupload.flow.survey import Survey

STORE_TYPES = ("s3", "minio")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
_ENDPOINT = re.compile(r"([A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


@rule("STORE_001", "NotFound")
def not_found(survey: Survey) -> Iterator[Fault]:
    """A store that is named is nowhere declared, or a flow that needs a store has none."""
    default = survey.flow.default_data_well
    if default and default.store and not survey.has_store(default.store):
        yield in_flow("DefaultDataWell", "Store"), f"there is no store {quoted(default.store)}; declare it in Stores"
    for place, store in enumerate(survey.flow.stores):
        if store.name and store.names_a_server_store and not survey.has_store(store.name):
            yield (
                in_flow("Stores", place, "Name"),
                f"the server has no store {quoted(store.name)}; give Type and Params",
            )
    if not survey.default_store() and not survey.last_resort() and _needs_a_place(survey):
        yield in_flow("Stores"), "the server has no default store; declare one in Stores, or name one in a well"


def _needs_a_place(survey: Survey) -> bool:
    kept = [*survey.producers, *(edge for edge in survey.wells if edge in survey.consumers)]
    return any(not _has_own_store(survey, edge) for edge in kept)


def _has_own_store(survey: Survey, edge: str) -> bool:
    well = survey.wells.get(edge)
    return well is not None and well.store is not None


@rule("STORE_002", "InvalidType")
def invalid_type(survey: Survey) -> Iterator[Fault]:
    """A store of a type that there is not."""
    for place, store in enumerate(survey.flow.stores):
        if store.type not in STORE_TYPES and not store.names_a_server_store:
            yield (
                in_flow("Stores", place, "Type"),
                f"{quoted(store.type)} is no type of store; write {' or '.join(STORE_TYPES)}",
            )


@rule("STORE_003", "InvalidParams")
def invalid_params(survey: Survey) -> Iterator[Fault]:
    """A store has no name, the name of another, or params that are unknown, missing or unusable."""
    seen: set[str] = set()
    for place, store in enumerate(survey.flow.stores):
        if not store.name:
            yield in_flow("Stores", place, "Name"), "give the store a name"
        elif store.name in seen:
            yield in_flow("Stores", place, "Name"), f"another store is named {store.name}; rename one"
        seen.add(store.name)
        if not store.names_a_server_store:
            yield from _param_faults(in_flow("Stores", place, "Params"), store)


def _param_faults(path: str, store: FlowStore) -> Iterator[Fault]:
    try:
        params = store.read_params()
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            yield ".".join([path, *map(str, problem["loc"])]), f"store {store.name}: {problem['msg']}"
        return
    yield from _unusable(path, params)


def _unusable(path: str, params: StoreParams) -> Iterator[Fault]:
    for member, address in (("Endpoint", params.endpoint), ("PublicEndpoint", params.public_endpoint)):
        if address is not None and not _ENDPOINT.fullmatch(address):
            yield f"{path}.{member}", "write host or host:port without a scheme; Secure false means http"
    if not _BUCKET.fullmatch(params.bucket_name):
        yield f"{path}.BucketName", f"{quoted(params.bucket_name)} cannot be a bucket's name"


@rule("STORE_004", "Unused", Severity.WARNING)
def unused(survey: Survey) -> Iterator[Fault]:
    """A store that no well uses."""
    used = {well.store for well in survey.flow.data_wells}
    used |= {survey.default_store() or survey.last_resort()}
    for place, store in enumerate(survey.flow.stores):
        if store.name and store.name not in used:
            yield in_flow("Stores", place), f"no well uses store {store.name}; name it in one, or remove it"
