"""Rules about edges: where their objects come from, where they go, and whether the types agree. PURE."""

from collections.abc import Iterator, Sequence

from pupload.flow import mime
from pupload.flow.names import EDGE_NAME
from pupload.flow.paths import in_defs
from pupload.flow.rules.rule import Fault, Severity, quoted, rule
from pupload.flow.survey import Port, Survey


@rule("EDGE_001", "EdgeNoProducer")
def no_producer(survey: Survey) -> Iterator[Fault]:
    """An edge that is read, that nothing makes or feeds, on a server without a store to upload it to."""
    if survey.default_store():
        return
    for edge, consumers in survey.consumers.items():
        if edge not in survey.producers and edge not in survey.wells:
            message = f"nothing makes edge {edge}, and there is no default store to upload it to; give it a well"
            yield f"{consumers[0].path}.Edge", message


@rule("EDGE_002", "EdgeNoConsumer", Severity.WARNING)
def no_consumer(survey: Survey) -> Iterator[Fault]:
    """An edge that is made, that nothing reads, and that no well and no default store keeps."""
    if survey.default_store():
        return
    for edge, producers in survey.producers.items():
        if edge not in survey.consumers and edge not in survey.wells:
            message = f"nothing reads edge {edge}, and no well says where it is kept; give it a well"
            yield f"{producers[0].path}.Edge", message


@rule("EDGE_003", "EdgeTypeMismatch")
def type_mismatch(survey: Survey) -> Iterator[Fault]:
    """Producer and consumer of an edge, or the consumers of an input of the flow, have no type in common."""
    for edge, consumers in survey.consumers.items():
        makers = survey.producers.get(edge, consumers)[:1]
        for maker in makers:
            yield from _mismatches(survey, maker, consumers)


def _mismatches(survey: Survey, maker: Port, consumers: Sequence[Port]) -> Iterator[Fault]:
    for consumer in consumers:
        if maker.types and consumer.types and not mime.overlap(maker.types, consumer.types):
            node = survey.flow.nodes[maker.node].id
            verb = "makes" if maker.side == "Outputs" else "takes"
            wants, has = ", ".join(consumer.types), ", ".join(maker.types)
            what = f"port {consumer.name} takes {wants}, but node {node} {verb} {has} at edge {consumer.edge}"
            yield consumer.path, f"{what}; put a node between them that converts"


@rule("EDGE_005", "EdgeInvalidName")
def invalid_name(survey: Survey) -> Iterator[Fault]:
    """A port is bound to no edge, or to one whose name cannot be part of a key."""
    for port in (port for ports in survey.ports for port in ports):
        if not EDGE_NAME.fullmatch(port.edge):
            hint = "an edge's name has letters, digits, '_', '-', '.', at most 128, the first no '-' or '.'"
            yield f"{port.path}.Edge", f"{quoted(port.edge)} cannot be an edge; {hint}"


@rule("EDGE_006", "EdgeTwoProducers")
def two_producers(survey: Survey) -> Iterator[Fault]:
    """An edge is made by two ports, or by a node and by a well with a source."""
    for edge, producers in survey.producers.items():
        for extra in producers[1:]:
            yield f"{extra.path}.Edge", f"edge {edge} is already made by another port; give this one an edge of its own"
        well = survey.wells.get(edge)
        if well is not None and well.source:
            message = f"edge {edge} is made by a node and fed by a well; remove the well's Source, or the binding"
            yield f"{producers[0].path}.Edge", message


@rule("TYPE_001", "InvalidMime")
def invalid_mime(survey: Survey) -> Iterator[Fault]:
    """A type of a def's port is no MIME type."""
    for path, types in _declared_types(survey):
        for place, kind in enumerate(types):
            if not mime.is_known(kind):
                yield f"{path}[{place}]", f"{quoted(kind)} is no MIME type; write it like image/png, image/* or */*"


@rule("TYPE_002", "EmptySet")
def empty_set(survey: Survey) -> Iterator[Fault]:
    """A port allows no type at all."""
    for path, types in _declared_types(survey):
        if not types:
            yield path, "no file has none of no types; leave Type out to allow any"


def _declared_types(survey: Survey) -> Iterator[tuple[str, list[str]]]:
    for place, definition in enumerate(survey.defs):
        for nth, port in enumerate(definition.inputs):
            yield in_defs(place, "Inputs", nth, "Type"), port.type
        for nth, output in enumerate(definition.outputs):
            yield in_defs(place, "Outputs", nth, "Type"), output.type
