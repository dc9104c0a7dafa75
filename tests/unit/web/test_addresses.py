"""Which addresses are of the public internet, and what a setting may open besides."""

import pytest

from pupload.errors import InvalidConfig
from pupload.web.addresses import address_allowed, read_allowed

CLOSED = """
0.0.0.0 0.255.255.255 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.255.255.255
168.63.129.16 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1
198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:a9fe:a9fe ::ffff:0:127.0.0.1 64:ff9b::7f00:1 64:ff9b:1::1 100::1 fc00::1
fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1 1fff::1 4000::1 2001::1 2001:10::1 2001:1ff::1 2001:db8::1
2002:7f00:1::1 3fff::1 3fff:fff::1 2606:4700::1111%eth0
"""
OPEN = """
1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 172.15.255.255 172.32.0.0
192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255 93.184.215.14 ::ffff:93.184.215.14
2000::1 2001:200::1 2001:4860:4860::8888 2606:4700::1111 3ffe::1
"""


@pytest.mark.parametrize("address", CLOSED.split())
def test_an_address_that_is_not_of_the_public_internet_is_closed(address: str) -> None:
    assert not address_allowed(address)


@pytest.mark.parametrize("address", OPEN.split())
def test_an_address_of_the_public_internet_is_open(address: str) -> None:
    assert address_allowed(address)


@pytest.mark.parametrize("text", ["", "example.com", "2130706433", "0177.0.0.1", "0x7f.1", "127.1", "/run/x.sock"])
def test_what_is_no_address_is_closed(text: str) -> None:
    assert not address_allowed(text)


def test_an_allowed_name_holds_on_its_port_or_on_all() -> None:
    allowed = read_allowed(["Files.Example.", "hooks.example:8080"])
    assert allowed.has_name("files.example", 1234)
    assert allowed.has_name("hooks.example", 8080)
    assert not allowed.has_name("hooks.example", 8081)
    assert not allowed.has_name("other.example", 8080)
    assert not allowed.has_address("files.example", 1234)


def test_an_allowed_network_holds_for_every_spelling_of_its_addresses() -> None:
    allowed = read_allowed(["127.0.0.0/8", "10.1.2.3:9000", "[fd00::1]:9000", "fd12::/16"])
    assert allowed.has_address("127.9.9.9", 1)
    assert allowed.has_address("::ffff:127.0.0.1", 1)
    assert allowed.has_address("10.1.2.3", 9000)
    assert not allowed.has_address("10.1.2.3", 9001)
    assert allowed.has_address("fd00::1", 9000)
    assert not allowed.has_address("fd00::2", 9000)
    assert allowed.has_address("fd12:1::5", 80)
    assert not allowed.has_address("fd12:1::5%eth0", 80)


def test_every_bad_entry_of_the_setting_is_named() -> None:
    with pytest.raises(InvalidConfig, match=r"'http://x', '10\.0\.0\.1/8', 'a b' is no"):
        read_allowed(["good.example", "http://x", "10.0.0.1/8", "a b"])
