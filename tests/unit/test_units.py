"""Durations and sizes as people write them."""

from datetime import timedelta

import pytest

from pupload.units import format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("1h30m", 5400), ("1.5h", 5400), ("250ms", 0.25), ("2d", 172_800), (" 1H 30M ", 5400)],
)
def test_a_duration_is_the_sum_of_its_parts(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "soon", "90", "s", "-5s", "0s", "1h30", "1y", "99999d", "1e3s", "5s;", "9" * 400 + "s"]
)
def test_what_is_no_positive_duration_is_refused_with_its_own_words(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("1000", 1000),
        ("512mb", 512 * 1024**2),
        ("2GB", 2 * 1024**3),
        ("1tb", 1024**4),
        ("64k", 65536),
        ("1.5 GiB", 1610612736),
    ],
)
def test_a_size_counts_in_powers_of_1024(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "big", "-1", "1pb", "1 g b", "0x10", "9" * 400])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@pytest.mark.parametrize("size_bytes", [0, 1, 1023, 1024, 512 * 1024**2, 3 * 1024**3, 5 * 1024**4])
def test_a_formatted_size_reads_back(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes
