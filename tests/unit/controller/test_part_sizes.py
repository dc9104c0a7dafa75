"""How an upload is cut into parts."""

import pytest

from pupload.controller.multipart import LEAST_PART_BYTES, MOST_PART_BYTES, MOST_PARTS, part_size_for
from pupload.errors import InvalidRequest

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("size_bytes", [1, 2**20, 2**30, 2**37, 5 * 2**40])
def test_what_is_chosen_fits_every_store(size_bytes: int) -> None:
    part_bytes = part_size_for(size_bytes, None)
    assert LEAST_PART_BYTES <= part_bytes <= MOST_PART_BYTES
    assert part_bytes * MOST_PARTS >= size_bytes


@pytest.mark.parametrize(
    ("size_bytes", "wish_bytes"),
    [
        (2**30, LEAST_PART_BYTES - 1),
        (2**30, MOST_PART_BYTES + 1),
        (MOST_PARTS * LEAST_PART_BYTES + 1, LEAST_PART_BYTES),
    ],
)
def test_what_no_store_takes_is_refused(size_bytes: int, wish_bytes: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        part_size_for(size_bytes, wish_bytes)
    assert refused.value.code == "PART_SIZE_REFUSED"


def test_a_wish_that_fits_is_granted() -> None:
    assert part_size_for(MOST_PARTS * LEAST_PART_BYTES, LEAST_PART_BYTES) == LEAST_PART_BYTES
