"""What `pup test` is asked for: the flow, the files for its awaited edges, the places of its outputs."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pupload.cli.exits import UsageError
from pupload.document import fold
from pupload.flow.load import load_documents, read_file
from pupload.flow.mime import extension_for
from pupload.flow.model import Flow
from pupload.flow.plan import Source
from pupload.units import parse_duration


@dataclass(frozen=True, slots=True)
class Wishes:
    """`flow` and `nodedefs` as the file has them. `nodes` are ids in the flow's order, `results` the edges that nodes
    write and none reads."""

    flow: dict[str, Any]
    nodedefs: list[dict[str, Any]]
    nodes: list[str]
    results: list[str]
    inputs: dict[str, Path]
    outputs: dict[str, Path]
    output_dir: Path | None

    @classmethod
    def read(
        cls, path: Path, inputs: list[str], outputs: list[str], output_dir: Path | None, timeout: str | None
    ) -> Self:
        """The wishes in the arguments.

        Errors: UsageError saying which edges there are; Malformed and InvalidRequest for the flow's file.
        """
        body = read_file(path)
        flow, _, _ = load_documents(body, lenient=True)
        files, targets = pairs("-i", inputs), pairs("-o", outputs)
        _require_inputs(awaited_edges(flow), files)
        _require_known("-o", targets, written_edges(flow))
        assert isinstance(body, dict)
        return cls(
            flow=_with_timeout(_member(body, "flow"), timeout),
            nodedefs=_member(body, "nodedefs") or [],
            nodes=[node.id for node in flow.nodes],
            results=[edge for edge in written_edges(flow) if edge not in _read_edges(flow)],
            inputs=files,
            outputs=targets,
            output_dir=output_dir,
        )

    def target(self, edge: str, content_type: str) -> Path | None:
        """Where the edge's object is to be saved, None where it is not."""
        if edge in self.outputs:
            return self.outputs[edge]
        if self.output_dir is None or edge not in self.results:
            return None
        return self.output_dir / f"{edge}{extension_for(content_type)}"


def awaited_edges(flow: Flow) -> list[str]:
    """The edges that a run of the flow waits for from outside, by upload."""
    produced = set(written_edges(flow))
    fed = {well.edge for well in flow.data_wells if well.source and fold(well.source) != Source.UPLOAD}
    return [edge for edge in _read_edges(flow) if edge not in produced and edge not in fed]


def written_edges(flow: Flow) -> list[str]:
    """The edges that nodes write, in the flow's order."""
    return _distinct(port.edge for node in flow.nodes for port in node.outputs)


def _read_edges(flow: Flow) -> list[str]:
    return _distinct(port.edge for node in flow.nodes for port in node.inputs)


def _distinct(edges: Iterable[str]) -> list[str]:
    return [edge for edge in dict.fromkeys(edges) if edge]


def pairs(option: str, given: list[str]) -> dict[str, Path]:
    """The file of each edge in the values of `option`. Errors: UsageError."""
    files: dict[str, Path] = {}
    for text in given:
        edge, equals, path = text.partition("=")
        if not (edge and equals and path):
            raise UsageError(f"{option} {text}: write it as {option} EDGE=FILE")
        if edge in files:
            raise UsageError(f"{option} names the edge {edge!r} twice")
        files[edge] = Path(path)
    return files


def _require_inputs(awaited: list[str], files: dict[str, Path]) -> None:
    _require_known("-i", files, awaited)
    missing = [edge for edge in awaited if edge not in files]
    if missing:
        wanted = " ".join(f"-i {edge}=FILE" for edge in missing)
        raise UsageError(f"the flow awaits files for {', '.join(missing)}: add {wanted}")
    require_files(files)


def require_files(files: dict[str, Path]) -> None:
    """Errors: UsageError naming those that are not there."""
    absent = [str(path) for path in files.values() if not path.is_file()]
    if absent:
        raise UsageError(f"no such file: {', '.join(absent)}")


def _require_known(option: str, given: dict[str, Path], known: list[str]) -> None:
    strange = [edge for edge in given if edge not in known]
    if strange:
        has = ", ".join(known) or "none"
        raise UsageError(f"{option} {strange[0]}: the flow has no such edge there; it has {has}")


def _member(body: dict[str, Any], name: str) -> Any:
    return next((value for member, value in body.items() if fold(member) == name), None)


def _with_timeout(flow: dict[str, Any], timeout: str | None) -> dict[str, Any]:
    """The flow with another timeout: kept by the server, so that it holds even when we are gone."""
    if timeout is None:
        return flow
    try:
        parse_duration(timeout)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from error
    return {member: value for member, value in flow.items() if fold(member) != "timeout"} | {"Timeout": timeout}
