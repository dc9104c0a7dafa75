"""Rules about data wells: their source, edge, store and key. PURE."""

from collections.abc import Iterator

from pupload.flow import keys
from pupload.flow.model import DataWell
from pupload.flow.paths import in_flow
from pupload.flow.plan import Source
from pupload.flow.rules.rule import Fault, quoted, rule, shown
from pupload.flow.survey import Survey

SOURCES = [source.value for source in Source]


def _wells(survey: Survey) -> Iterator[tuple[str, DataWell]]:
    for place, well in enumerate(survey.flow.data_wells):
        yield in_flow("DataWells", place), well


def _all_wells(survey: Survey) -> Iterator[tuple[str, DataWell]]:
    yield from _wells(survey)
    if survey.flow.default_data_well:
        yield in_flow("DefaultDataWell"), survey.flow.default_data_well


@rule("WELL_001", "InvalidSource")
def invalid_source(survey: Survey) -> Iterator[Fault]:
    """A well's source is none that there is; the default well's can only be upload."""
    for path, well in _wells(survey):
        if well.source and well.source not in SOURCES:
            yield f"{path}.Source", f"{quoted(well.source)} is no source; leave it out or write {', '.join(SOURCES)}"
    default = survey.flow.default_data_well
    if default and default.source not in (None, Source.UPLOAD):
        yield in_flow("DefaultDataWell", "Source"), "the default well's source can only be upload; give the edge a well"


@rule("WELL_002", "EdgeNotFound")
def edge_not_found(survey: Survey) -> Iterator[Fault]:
    """A well for an edge that no node names."""
    for path, well in _wells(survey):
        if well.edge not in survey.producers and well.edge not in survey.consumers:
            yield f"{path}.Edge", f"no node has an edge {quoted(well.edge)}; bind a port to it, or remove the well"


@rule("WELL_003", "DuplicateEdge")
def duplicate_edge(survey: Survey) -> Iterator[Fault]:
    """Two wells for one edge."""
    seen: set[str] = set()
    for path, well in _wells(survey):
        if well.edge in seen:
            yield f"{path}.Edge", f"edge {well.edge} already has a well; remove one"
        seen.add(well.edge)


@rule("WELL_004", "StoreNotFound")
def store_not_found(survey: Survey) -> Iterator[Fault]:
    """A well names a store that neither the flow nor the server has."""
    for path, well in _wells(survey):
        if well.store and not survey.has_store(well.store):
            yield f"{path}.Store", f"there is no store {quoted(well.store)}; declare it in Stores, or ask the operator"


@rule("WELL_005", "InvalidKeyTemplate")
def invalid_key_template(survey: Survey) -> Iterator[Fault]:
    """A key names an unknown variable, or no value could make it safe."""
    parameters = {f"PARAM.{parameter.name}" for parameter in survey.flow.parameters}
    for path, well in _all_wells(survey):
        if well.key is None:
            continue
        template = keys.read_template(well.key)
        unknown = sorted(template.variables - keys.VARIABLES - parameters)
        if template.problem:
            yield f"{path}.Key", f"the key {quoted(well.key)} is not usable: {template.problem}"
        elif unknown:
            known = shown(sorted(keys.VARIABLES))
            yield f"{path}.Key", f"a key cannot name {shown(unknown)}; it can name {known} and declared PARAM.name"
        elif well is survey.flow.default_data_well and not template.variables & {"EDGE", "UUID"}:
            yield f"{path}.Key", "the default well keeps several edges, so its key must name ${EDGE} or ${UUID}"


@rule("WELL_006", "StaticMissingKey")
def static_missing_key(survey: Survey) -> Iterator[Fault]:
    """A static well does not say which object it is."""
    for path, well in _wells(survey):
        if well.source == Source.STATIC and not well.key:
            yield f"{path}.Key", "a static well is an object that is there already; give its Key"


@rule("WELL_007", "StaticHasDynamicKey")
def static_has_dynamic_key(survey: Survey) -> Iterator[Fault]:
    """A static well's key changes with each run, so no object can be there already."""
    for path, well in _wells(survey):
        if well.source == Source.STATIC and well.key:
            named = keys.read_template(well.key).variables & keys.VARIABLES
            changing = sorted(named - keys.STATIC)
            if changing:
                yield f"{path}.Key", f"a static well's key cannot name {shown(changing)}, which changes with each run"


@rule("WELL_008", "DynamicHasStaticKey")
def dynamic_has_static_key(survey: Survey) -> Iterator[Fault]:
    """An upload or webhook key without `RUN_ID` or `UUID`: two runs would write one object."""
    for path, well in _all_wells(survey):
        if well.key and _takes_uploads(survey, well) and not keys.read_template(well.key).variables & keys.UNIQUE:
            yield f"{path}.Key", "two runs would write this object; put ${RUN_ID} or ${UUID} into the key"


def _takes_uploads(survey: Survey, well: DataWell) -> bool:
    if well.source:
        return well.source in (Source.UPLOAD, Source.WEBHOOK)
    if well is survey.flow.default_data_well:
        return any(edge not in survey.producers and edge not in survey.wells for edge in survey.consumers)
    return well.edge in survey.consumers and well.edge not in survey.producers
