"""Drafts, versions and production from Python."""

from pathlib import Path

import pytest

from pupload.client import Client, UnknownThing, Unprocessable
from pupload.flow.load import load_file
from tests.support.shell_steps import Json, a_request, a_source

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]


def saying(word: str) -> Json:
    return a_request(a_source("say", f'printf {word} > "$OUTPUT_OUT"'), Name="")


def test_a_flow_goes_from_draft_to_production(client: Client) -> None:
    name = "sdk-versions"
    client.put_flow(name, saying("a"))
    assert [finding for finding in client.validate_flow(name) if finding.severity == "error"] == []
    first = client.publish(name)
    client.put_flow(name, saying("b"))
    client.promote(name, first.version)
    assert client.run(name).values == {"out": "a"}
    assert client.run(name, version="draft").values == {"out": "b"}
    assert client.run(name, version=1).run.flow_version == "1"
    assert client.compare(name).differences
    assert [each.version for each in client.versions(name).versions] == [1]
    assert client.version(name, 1).flow["Nodes"]
    assert name in {each.name for each in client.flows(limit=500).flows}
    with pytest.raises(UnknownThing):
        client.run(name, version=99)
    with pytest.raises(Unprocessable):
        client.run(name, version="main")
    client.delete_flow(name)
    assert client.flow(name).draft is False


def test_a_flow_may_be_a_file_or_a_model(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text(
        "Flow: {Nodes: [{ID: n, Uses: test/n, Inputs: [{Name: in, Edge: in}], Outputs: [{Name: out, Edge: out}]}]}\n"
        "NodeDefs: [{Publisher: test, Name: n, Image: pupload/busybox:latest, Tier: c-nano,"
        " Command: {Exec: 'cp ${in} ${out}'}}]\n"
    )
    assert client.run(file, {"in": "of a file"}).values == {"out": "of a file"}
    flow, nodedefs, _ = load_file(file)
    assert client.run(flow, {"in": "of a model"}, nodedefs=nodedefs).values == {"out": "of a model"}
    client.put_nodedef("test/sdk-kept@1", nodedefs[0].model_copy(update={"name": "sdk-kept"}))
    assert client.nodedef("test/sdk-kept").version == "1"
    assert client.nodedefs(publisher="test").node_defs
