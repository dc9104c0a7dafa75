"""Servers that the tests of single stores share."""

from collections.abc import Iterator

import pytest

from tests.support.s3_servers import S3Server, a_moto, an_rclone


@pytest.fixture(scope="module")
def rclone() -> Iterator[S3Server]:
    with an_rclone() as server:
        yield server


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with a_moto() as server:
        yield server
