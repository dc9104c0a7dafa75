"""What `pup test` is asked for, and what is wrong with it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pupload.cli.exits import UsageError
from pupload.cli.wishes import Wishes
from tests.unit.cli.conftest import node

Flows = Callable[..., Path]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"1")
    return path


def wishes(path: Path, inputs: list[str], outputs: list[str] | None = None, **more: Any) -> Wishes:
    return Wishes.read(path, inputs, outputs or [], more.get("output_dir"), more.get("timeout"))


def test_edges_that_no_node_writes_are_awaited(flow_file: Flows, photo: Path) -> None:
    path = flow_file(node("a", ["x", "y"], ["z"]), node("b", ["z"], ["out"]))
    with pytest.raises(UsageError, match="awaits files for y: add -i y=FILE"):
        wishes(path, [f"x={photo}"])


def test_edges_that_a_well_feeds_are_not_awaited(flow_file: Flows) -> None:
    well = {"Edge": "x", "Source": "static", "Key": "k"}
    assert wishes(flow_file(node("a", ["x"], ["z"]), DataWells=[well]), []).inputs == {}


def test_an_upload_well_is_awaited(flow_file: Flows) -> None:
    path = flow_file(node("a", ["x"], ["z"]), DataWells=[{"Edge": "x", "Source": "Upload"}])
    with pytest.raises(UsageError, match="awaits files for x"):
        wishes(path, [])


def test_an_edge_that_is_not_awaited_gets_no_file(flow_file: Flows, photo: Path) -> None:
    with pytest.raises(UsageError, match="-i z: the flow has no such edge there; it has x"):
        wishes(flow_file(node("a", ["x"], ["z"])), [f"x={photo}", f"z={photo}"])


def test_a_file_must_exist(flow_file: Flows) -> None:
    with pytest.raises(UsageError, match="no such file: /none/here"):
        wishes(flow_file(node("a", ["x"], ["z"])), ["x=/none/here"])


@pytest.mark.parametrize("text", ["x", "x=", "=y", ""])
def test_an_input_is_written_edge_equals_file(flow_file: Flows, text: str) -> None:
    with pytest.raises(UsageError, match="EDGE=FILE"):
        wishes(flow_file(node("a", ["x"], ["z"])), [text])


def test_an_edge_is_named_once(flow_file: Flows, photo: Path) -> None:
    with pytest.raises(UsageError, match="twice"):
        wishes(flow_file(node("a", ["x"], ["z"])), [f"x={photo}", f"x={photo}"])


def test_an_output_may_be_any_edge_that_a_node_writes(flow_file: Flows, photo: Path) -> None:
    path = flow_file(node("a", ["x"], ["z"]), node("b", ["z"], ["out"]))
    assert wishes(path, [f"x={photo}"], ["z=here"]).target("z", "image/png") == Path("here")
    with pytest.raises(UsageError, match="it has z, out"):
        wishes(path, [f"x={photo}"], ["x=here"])


def test_the_output_folder_gets_what_no_node_reads(flow_file: Flows, photo: Path, tmp_path: Path) -> None:
    path = flow_file(node("a", ["x"], ["z"]), node("b", ["z"], ["out"]))
    asked = wishes(path, [f"x={photo}"], output_dir=tmp_path)
    assert asked.target("out", "image/png") == tmp_path / "out.png"
    assert asked.target("z", "image/png") is None


def test_the_flow_is_sent_as_the_file_has_it(flow_file: Flows, photo: Path) -> None:
    path = flow_file(
        node("a", ["x"], ["z"]), novelty=1, Stores=[{"Name": "s", "Type": "s3", "Params": {"SecretKey": "k"}}]
    )
    asked = wishes(path, [f"x={photo}"])
    assert asked.flow == json.loads(path.read_text())["Flow"]
    assert asked.nodedefs == json.loads(path.read_text())["NodeDefs"]


def test_a_timeout_takes_the_place_of_the_flows(flow_file: Flows, photo: Path) -> None:
    path = flow_file(node("a", ["x"], ["z"]), time_out="1h")
    asked = wishes(path, [f"x={photo}"], timeout="90s").flow
    assert ("time_out" in asked, asked["Timeout"]) == (False, "90s")
    with pytest.raises(UsageError, match="--timeout"):
        wishes(path, [f"x={photo}"], timeout="soon")
