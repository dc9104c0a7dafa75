"""Flows by name: a draft, versions, production, and the exact images that a version was published with."""

import json
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from typer.testing import CliRunner

from pupload.cli.main import app
from tests.support.docker_images import an_image_with_entrypoint
from tests.support.shell_steps import a_request, a_source, a_step
from tests.support.visitor import Json, Visitor, told

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

IMAGE = "pupload/test-published:now"


@pytest.fixture
def flow(visitor: Visitor, request: pytest.FixtureRequest) -> str:
    """The path of a flow that no other test has."""
    return f"/api/v1/flows/{request.node.name}"


def saying(word: str) -> Json:
    """A draft whose one node writes the word."""
    return a_request(a_source("say", f'printf {word} > "$OUTPUT_OUT"', writes={"out": "out"}), Name="")


def put(visitor: Visitor, flow: str, draft: Json) -> Json:
    return dict(visitor.ask("PUT", flow, json=draft).json())


def publish(visitor: Visitor, flow: str, draft: Json) -> Json:
    put(visitor, flow, draft)
    return visitor.post(f"{flow}/versions", status=201)


def called(visitor: Visitor, flow: str, version: str | None = None) -> Json:
    """The ended run that a call of the flow made."""
    started = visitor.post(f"{flow}/runs", {} if version is None else {"Version": version}, status=202)
    visitor.made.append(started["ID"])
    return visitor.ended(started["ID"])


def said(visitor: Visitor, flow: str, version: str | None = None) -> tuple[bytes, str]:
    """What a call of the flow wrote, and the version that it says it ran."""
    run = called(visitor, flow, version)
    assert run["Status"] == "COMPLETE", told(run)
    return visitor.artifact(run["ID"], "out"), run["FlowVersion"]


def test_a_call_by_name_runs_the_version_that_is_meant(visitor: Visitor, flow: str) -> None:
    put(visitor, flow, saying("draft"))
    assert said(visitor, flow) == (b"draft", "draft")
    first = publish(visitor, flow, saying("a"))
    put(visitor, flow, saying("b"))
    visitor.post(f"{flow}/versions/1/promote")
    assert said(visitor, flow) == (b"a", "1")
    assert said(visitor, flow, "draft") == (b"b", "draft")
    publish(visitor, flow, saying("c"))
    assert said(visitor, flow, "2") == (b"c", "2")
    by_number, by_default = called(visitor, flow, "1"), called(visitor, flow)
    assert by_number["Definition"] == by_default["Definition"] == first["Definition"]
    visitor.post(f"{flow}/versions/2/promote")
    assert said(visitor, flow) == (b"c", "2")


def test_a_version_that_is_not_there_makes_no_run(visitor: Visitor, flow: str) -> None:
    publish(visitor, flow, saying("a"))
    for version, status, code in [("99", 404, "VERSION_NOT_FOUND"), ("main", 422, "INVALID_VERSION")]:
        refused = visitor.post(f"{flow}/runs", {"Version": version}, status=status)
        assert refused["Error"]["Code"] == code
    refused = visitor.post("/api/v1/flows/nobody/runs", {}, status=404)
    assert refused["Error"]["Code"] == "FLOW_NOT_FOUND"
    assert visitor.get(f"/api/v1/runs?flow={flow.rpartition('/')[2]}")["Runs"] == []


def test_a_definition_that_is_kept_needs_no_copy_in_the_flow(visitor: Visitor, flow: str) -> None:
    node, nodedef = a_step("kept", 'printf kept > "$OUTPUT_OUT"', reads={})
    visitor.ask("PUT", "/api/v1/nodedefs/test/kept@1.2", json=nodedef, status=201)
    visitor.ask("PUT", "/api/v1/nodedefs/test/kept@1.2", json=nodedef | {"Tier": "c-small"}, status=409)
    put(visitor, flow, {"Flow": {"Nodes": [node | {"Uses": "test/kept@1.2"}]}})
    assert said(visitor, flow) == (b"kept", "draft")


def test_the_command_line_takes_a_file_to_production(visitor: Visitor, tmp_path: Path) -> None:
    name, path = "by-hand", tmp_path / "flow.json"

    def pup(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, ["flow", *arguments, "--remote", visitor.url])
        assert done.exit_code == code, (arguments, done.output)
        return done.output

    path.write_text(json.dumps(saying("a")))
    assert "the flow has no Name" in pup("put", str(path), code=2)
    assert "the draft is kept" in pup("put", str(path), "--name", name)
    assert "version 1, in production" in pup("publish", name, "--promote")
    path.write_text(json.dumps({"Flow": {"Nodes": [{"ID": "lost", "Uses": "no/body"}]}}))
    assert "it cannot run yet" in pup("put", str(path), "--name", name)
    assert f"{name}: 1 error, 0 warnings" in pup("validate", name, code=1)
    assert "NODE_001" in pup("publish", name, code=1)
    assert "$.Flow.Nodes['lost']" in pup("compare", name)
    assert "are the same" in pup("compare", name, "production", "1")
    assert "no version 2" in pup("promote", name, "2", code=1)
    assert "the draft is gone" in pup("delete", name)
    assert name in pup("list")
    assert json.loads(pup("show", name)) | {"Draft": False, "Production": 1} == visitor.get(f"/api/v1/flows/{name}")
    assert json.loads(pup("show", name, "--version", "1"))["Version"] == 1


@pytest.fixture
def engine() -> Iterator[docker.DockerClient]:
    """The engine that runs the nodes."""
    client = docker.from_env(timeout=120)
    yield client
    client.close()


def writing(word: str) -> tuple[str, ...]:
    """An entrypoint that writes the word."""
    return ("sh", "-c", f'printf {word} > "$OUTPUT_OUT"')


def test_a_version_runs_its_own_image_and_says_when_that_is_gone(
    visitor: Visitor, flow: str, engine: docker.DockerClient
) -> None:
    node, nodedef = a_step("say", reads={})
    del nodedef["Command"]
    draft = a_request((node, nodedef | {"Image": IMAGE}), Name="")
    with an_image_with_entrypoint(f"{IMAGE}-old", writing("old")) as old_name:
        old = engine.images.get(old_name)
        old.tag(IMAGE)
        assert publish(visitor, flow, draft)["Images"] == {IMAGE: old.id}
        with an_image_with_entrypoint(IMAGE, writing("new")):
            assert said(visitor, flow, "draft") == (b"new", "draft")
            assert said(visitor, flow) == (b"old", "1")
            assert visitor.post(f"{flow}/versions", status=201)["Version"] == 2
            assert said(visitor, flow) == (b"new", "2")
    run = called(visitor, flow, "1")
    assert (run["Status"], run["Error"]["Code"]) == ("ERROR", "NODE_IMAGE"), told(run)
    assert "version 1 of flow" in run["Error"]["Message"]
