"""URLs that are signed here are those that boto3 signs."""

from typing import Any

import pytest
import time_machine

from pupload.stores.base import StoreAddress
from pupload.stores.clients import Clients

pytestmark = pytest.mark.unit

ADDRESS = StoreAddress("n", "s3", "store:9000", "bucket", "key", "secret", public_endpoint="https://files.example.org")
MD5 = "1B2M2Y8AsgTpgAmY7PhCfg=="
AS_FILE = 'attachment; filename="a b.png"'


@pytest.mark.parametrize("key", ["run/edge/0", "a b/ü+%~.txt", "x/(1)*'!", "deep/" * 40 + "end"])
@pytest.mark.parametrize(
    ("operation", "params", "ours"),
    [
        ("get_object", {}, {}),
        ("get_object", {"ResponseContentDisposition": AS_FILE}, {"query": {"response-content-disposition": AS_FILE}}),
        ("put_object", {}, {}),
        (
            "put_object",
            {"ContentLength": 7, "ContentMD5": MD5, "ContentType": "text/plain; charset=utf-8"},
            {"headers": {"Content-Length": "7", "Content-MD5": MD5, "Content-Type": "text/plain; charset=utf-8"}},
        ),
        (
            "upload_part",
            {"PartNumber": 3, "UploadId": "a+b/c=", "ContentLength": 5},
            {"query": {"partNumber": "3", "uploadId": "a+b/c="}, "headers": {"Content-Length": "5"}},
        ),
    ],
    ids=["read", "read under a name", "write", "write these bytes", "write a part"],
)
def test_a_url_is_the_one_that_boto3_signs(
    key: str, operation: str, params: dict[str, object], ours: dict[str, Any]
) -> None:
    clients, method = Clients(ADDRESS), "GET" if operation == "get_object" else "PUT"
    with time_machine.travel("2026-01-02T03:04:05Z", tick=False):
        theirs = clients.asking().generate_presigned_url(operation, {"Bucket": "bucket", "Key": key, **params}, 60)
        assert clients.presigned(method, key, 60, public=False, **ours) == theirs


def test_a_url_for_outside_names_the_public_endpoint() -> None:
    clients = Clients(ADDRESS)
    assert clients.presigned("GET", "k", 60, public=True).startswith("https://files.example.org/bucket/k?")
    assert clients.presigned("GET", "k", 60, public=False).startswith("https://store:9000/bucket/k?")
