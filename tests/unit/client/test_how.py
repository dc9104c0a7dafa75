"""What callers say, as it is sent."""

from pathlib import Path
from typing import Any

import pytest

from pupload.client.client import AsyncClient
from pupload.client.how import How, Input, documents, members_of, plain
from pupload.errors import Malformed
from pupload.flow.load import FlowDocuments, load_documents
from pupload.flow.overrides import Override
from pupload.flow.request import Attachment, EvalsWish, FileInput
from tests.support.fake_server import FakeServer, gives

FLOW: dict[str, Any] = {"Nodes": [{"ID": "n", "Uses": "p/n"}]}
DEF: dict[str, Any] = {"Publisher": "p", "Name": "n"}
SECRET: dict[str, Any] = {"Name": "mine", "Type": "s3", "Params": {"BucketName": "b", "SecretKey": "verysecret"}}
RUN = {"ID": "run_1", "FlowName": "f", "Status": "RUNNING", "CreatedAt": "2026-01-02T03:04:05Z"}


def test_members_are_spelled_as_the_interface_has_them() -> None:
    how: How = {
        "callback_url": "https://x",
        "session_id": "ses_1",
        "trace": False,
        "version": 3,
        "message": "",
        "timeout": None,
        "evals": EvalsWish(run_mode="block"),
        "overrides": {"n": Override(tier="c-nano"), "n.flag": 1},
        "attachments": ["https://x/a", Attachment(uri="https://x/b", name="b")],
        "nodedefs": [DEF],
        "idempotency_key": "k",
    }
    assert members_of(how) == {
        "CallbackURL": "https://x",
        "SessionID": "ses_1",
        "Trace": False,
        "Version": 3,
        "Message": "",
        "Evals": {"RunMode": "block"},
        "Overrides": {"n": {"Tier": "c-nano"}, "n.flag": 1},
        "Attachments": [{"Uri": "https://x/a"}, {"Uri": "https://x/b", "Name": "b"}],
    }


def test_a_word_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(TypeError, match=r"no 'massage' here; .*message"):
        members_of({"massage": "m"})  # type: ignore[typeddict-unknown-key]


@pytest.mark.parametrize(
    "flow",
    [FLOW, {"Flow": FLOW, "NodeDefs": []}, {"flow": FLOW}, FlowDocuments.model_validate({"Flow": FLOW})],
)
def test_a_flow_is_given_in_any_form(flow: Any) -> None:
    assert documents(flow, [DEF]) == {"Flow": FLOW, "NodeDefs": [DEF]}


def test_a_flow_is_given_by_its_file(tmp_path: Path) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text("Flow: {Nodes: [{ID: n, Uses: p/n}]}\nNodeDefs: [{Publisher: p, Name: n}]\n")
    assert documents(file) == {"Flow": FLOW, "NodeDefs": [DEF]}
    file.write_text("- Flow\n")
    with pytest.raises(Malformed, match="no object of Flow and NodeDefs"):
        documents(file)


def test_a_model_keeps_what_it_was_given_and_its_secrets() -> None:
    given = {"Flow": FLOW | {"Stores": [SECRET]}, "NodeDefs": [DEF]}
    flow, defs, _ = load_documents(given, lenient=False)
    assert documents(flow, defs) == given
    assert plain({"Flow": flow}) == {"Flow": given["Flow"]}


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object()])
def test_what_is_no_json_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="is no JSON value"):
        plain([value])


async def test_files_from_here_are_kept_before_the_run_is_asked_for(
    server: FakeServer, client: AsyncClient, tmp_path: Path
) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"123")
    kept = {"ID": "file_1", "Uri": "file://file_1", "Name": "", "Size": 3, "ContentType": "", "SHA256": ""}
    server.on("POST", "/api/v1/files", gives(kept | {"CreatedAt": RUN["CreatedAt"]}, 201))
    server.on("POST", "/api/v1/flows/f/runs", gives(RUN, 202))
    inputs: dict[str, Input] = {
        "a": tmp_path / "photo.jpg",
        "b": b"45",
        "c": FileInput(uri="https://x"),
        "d": {"rows": [1]},
        "e": "t",
    }
    await client.run_async("f", inputs)
    photo, two, run = server.asked
    assert (photo.query, photo.body, photo.headers["Content-Length"]) == ({"name": "photo.jpg"}, b"123", "3")
    assert (two.query, two.body) == ({}, b"45")
    file = {"Uri": "file://file_1"}
    assert run.json == {"Inputs": {"a": file, "b": file, "c": {"Uri": "https://x"}, "d": {"rows": [1]}, "e": "t"}}


async def test_definitions_beside_a_flow_that_is_kept_are_refused(client: AsyncClient) -> None:
    with pytest.raises(TypeError, match="put_nodedef"):
        await client.run("f", nodedefs=[DEF])
    with pytest.raises(TypeError, match="put_nodedef"):
        client.step_through("f", nodedefs=[DEF])
    with pytest.raises(TypeError, match="put_nodedef"):
        await client.replay("run_1", nodedefs=[DEF])
