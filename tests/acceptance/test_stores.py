"""Stores that a flow brings: their objects, their public address, and their secrets."""

from collections.abc import Iterator

import pytest

from pupload.stores.base import StoreAddress
from tests.support.s3_servers import STRANGER, S3Server, a_moto, an_rclone, free_port
from tests.support.shell_steps import Json, a_request, a_step
from tests.support.system import System
from tests.support.visitor import Visitor, put_url

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]


@pytest.fixture(scope="module", params=["moto", "rclone"])
def server(request: pytest.FixtureRequest) -> Iterator[S3Server]:
    """An S3 server that the system does not know."""
    with a_moto(STRANGER) if request.param == "moto" else an_rclone(STRANGER) as server:
        yield server


def declared(store: StoreAddress, name: str = "other", **params: object) -> Json:
    """The store as a flow declares it."""
    known = {
        "Endpoint": store.endpoint,
        "BucketName": store.bucket,
        "AccessKey": store.access_key,
        "SecretKey": store.secret_key,
        "Secure": False,
    }
    return {"Name": name, "Type": "s3", "Params": known | params}


def test_inputs_and_outputs_may_lie_in_two_stores(visitor: Visitor, server: S3Server) -> None:
    request = a_request(
        a_step("first", writes={"out": "mid"}),
        a_step("second", reads={"in": "mid"}),
        Stores=[declared(server.new_bucket())],
        DataWells=[{"Edge": "in", "Store": "other", "Source": "upload"}, {"Edge": "out", "Store": "other"}],
    )
    run = visitor.submit(request)
    assert put_url(run, "in").startswith(f"http://{server.endpoint}/")
    visitor.upload(run, "in", b"abc")
    run = visitor.ended(run["ID"])
    stores = {edge: artifact["StoreName"] for edge, artifact in run["Artifacts"].items()}
    assert stores == {"in": "other", "mid": "default", "out": "other"}
    assert visitor.artifact(run["ID"], "out") == b"abc"


def test_a_key_of_its_own_is_copied_by_the_store_itself(visitor: Visitor, server: S3Server) -> None:
    wells = [{"Edge": "out", "Store": "other", "Key": "kept/${RUN_ID}/result.txt"}]
    request = a_request(Stores=[declared(server.new_bucket())], DataWells=wells)
    run = visitor.complete(request, **{"in": b"abc"})
    assert run["Artifacts"]["out"]["ObjectName"] == f"kept/{run['ID']}/result.txt"
    assert visitor.artifact(run["ID"], "out") == b"abc"


def test_clients_get_urls_for_the_public_endpoint(visitor: Visitor, server: S3Server) -> None:
    public = server.endpoint.replace("127.0.0.2", "127.000.000.002")  # the same address, spelt otherwise
    store = declared(server.new_bucket(), PublicEndpoint=public)
    run = visitor.submit(a_request(Stores=[store], DefaultDataWell={"Store": "other"}))
    assert put_url(run, "in").startswith(f"http://{public}/")
    visitor.upload(run, "in", b"abc")
    run = visitor.ended(run["ID"])
    assert run["Artifacts"]["out"]["StoreName"] == "other"
    location = visitor.ask("GET", f"/api/v1/runs/{run['ID']}/artifacts/out", status=302).headers["Location"]
    assert location.startswith(f"http://{public}/")
    assert visitor.ask("GET", location).content == b"abc"


def test_a_secret_in_a_flow_never_comes_back(visitor: Visitor, system: System, server: S3Server) -> None:
    store = declared(server.new_bucket())
    secret = str(store["Params"]["SecretKey"])
    request = a_request(
        a_step(script='env; cat "$INPUT_IN" > "$OUTPUT_OUT"'), Stores=[store], DefaultDataWell={"Store": "other"}
    )
    run = visitor.complete(request, **{"in": b"abc"})
    bad = a_request(Stores=[store | {"Type": "tape"}], DataWells=[{"Edge": "in", "Store": "other", "Key": "../x"}])
    told = [
        repr(run), repr(visitor.events(run["ID"])), repr(visitor.logs(run["ID"], "copy")), system.log,
        repr(visitor.submit(bad, status=400)), repr(visitor.get("/api/v1/runs")),
    ]  # fmt: skip
    assert not [text for text in told if secret in text]
    assert "X-Amz-Signature" not in system.log
    assert "X-Amz-Signature" not in repr(visitor.events(run["ID"]))


def test_a_secret_in_a_flow_is_not_on_the_disk_as_it_is(visitor: Visitor, system: System, server: S3Server) -> None:
    store = declared(server.new_bucket())
    visitor.complete(a_request(Stores=[store], DefaultDataWell={"Store": "other"}), **{"in": b"abc"})
    secret = str(store["Params"]["SecretKey"]).encode()
    kept = [system.data / name for name in ("postgres", "store")]
    files = [path for folder in kept for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 100
    assert not [path for path in files if secret in path.read_bytes()]


def test_a_store_that_cannot_be_used_is_refused_before_any_run(visitor: Visitor, server: S3Server) -> None:
    good = server.new_bucket()
    for params in ({"BucketName": "there-is-no-such-bucket"}, {"Endpoint": f"{STRANGER}:{free_port()}"}):
        request = a_request(Name="unfounded", Stores=[declared(good, **params)], DefaultDataWell={"Store": "other"})
        error = visitor.submit(request, status=400)["error"]
        assert error["Code"] == "STORE_UNUSABLE"
        assert "other" in error["Message"]
    assert visitor.get("/api/v1/runs?flow=unfounded")["Runs"] == []


def test_an_unknown_or_missing_member_of_a_store_is_refused(visitor: Visitor) -> None:
    store = declared(StoreAddress("other", "s3", "127.0.0.1:1", "b", "a", "s"))
    for params in (store["Params"] | {"Colour": "red"}, {"Endpoint": "127.0.0.1:1"}):
        request = a_request(Stores=[store | {"Params": params}], DefaultDataWell={"Store": "other"})
        details = visitor.submit(request, status=400)["error"]["Details"]
        assert "STORE_003" in [each["Code"] for each in details]
