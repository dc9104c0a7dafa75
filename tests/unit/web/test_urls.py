"""Which URLs may be asked for, as far as it can be told without asking."""

import pytest

from pupload.errors import InvalidRequest
from pupload.web.addresses import Allowed, read_allowed
from pupload.web.urls import check_url

NOWHERE = Allowed()

REFUSED = [
    "https://[2]h@",
    "https://[]@/secret",
    "",
    "file.png",
    "//example.com/x",
    "https:///x",
    "https://",
    "http://example.com/x",
    "ftp://example.com/x",
    "file:///etc/passwd",
    "gopher://example.com/",
    "https://example.com:8443/x",
    "https://example.com:0/x",
    "https://example.com:99999/x",
    "https://example.com:port/x",
    "https://user@example.com/x",
    "https://user:secret@example.com/x",
    "https://:secret@example.com/x",
    "https://example.com\\@127.0.0.1/x",
    "https://example.com/a b",
    "https://example.com/a\r\nHost: x",
    "https://example.com/\x00",
    "https://exa%6dple.com/",
    "https://exa mple.com/",
    "https://127.0.0.1/x",
    "https://127.0.0.1./x",
    "https://127.1/x",
    "https://2130706433/x",
    "https://0x7f000001/x",
    "https://0x7f.0.0.1/x",
    "https://017700000001/x",
    "https://0177.0.0.1/x",
    "https://127.0.0.01/x",
    "https://256.1.1.1/x",
    "https://1.2.3/x",
    "https://example.1/x",
    "https://\uff11\uff12\uff17.0.0.1/x",
    "https://169.254.169.254/latest/meta-data/",
    "https://10.0.0.1/x",
    "https://[::1]/x",
    "https://[::]/x",
    "https://[::ffff:127.0.0.1]/x",
    "https://[0:0:0:0:0:ffff:7f00:1]/x",
    "https://[::127.0.0.1]/x",
    "https://[fe80::1%25eth0]/x",
    "https://[fe80::1%eth0]/x",
    "https://[2606:4700::1111%251]/x",
    "https://[64:ff9b::7f00:1]/x",
    "https://[::1/x",
    "https://example.com/" + "x" * 2048,
]


@pytest.mark.parametrize("text", REFUSED)
def test_a_url_that_leads_astray_is_refused_before_anything_is_asked(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_url(text, NOWHERE)
    assert refused.value.code == "URI_NOT_ALLOWED"
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com",
        "https://Example.COM./x",
        "https://example.com:443/x?a=b#c",
        "https://example.com:80/x",
        "https://93.184.215.14/x",
        "https://[2606:4700::1111]/x",
        "https://[::ffff:93.184.215.14]/x",
        "https://bücher.example/ü?q=ü",
        "https://a_b.example/x",
    ],
)
def test_a_usual_url_passes(text: str) -> None:
    assert check_url(text, NOWHERE).scheme == "https"


def test_a_url_is_not_encoded_again() -> None:
    text = "https://b.s3.amazonaws.com/a%2Fb%20c%21?X-Amz-Credential=k%2F1&X-Amz-Signature=a%2bb"
    assert str(check_url(text, NOWHERE)) == text


def test_what_is_allowed_besides_may_be_plain_and_on_its_own_port() -> None:
    allowed = read_allowed(["files.example", "hooks.example:8080", "127.0.0.0/8"])
    for text in (
        "http://files.example/x",
        "http://FILES.example.:81/x",
        "http://hooks.example:8080/x",
        "http://127.0.0.1:5000/x",
        "http://[::ffff:127.0.0.1]:5000/x",
    ):
        check_url(text, allowed)
    for text in (
        "http://hooks.example/x",
        "https://hooks.example:8081/x",
        "http://other.example/",
        "ftp://files.example/",
    ):
        with pytest.raises(InvalidRequest):
            check_url(text, allowed)


def test_no_message_holds_a_query() -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_url("http://example.com/x?token=secret", NOWHERE)
    assert "http://example.com/x" in str(refused.value)
    assert "secret" not in str(refused.value)
