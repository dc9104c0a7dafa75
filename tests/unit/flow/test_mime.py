"""Which types are known, overlap, and are satisfied by what is found."""

import pytest

from pupload.flow.mime import extension_for, extension_of, intersection, is_known, matches, normal, overlap
from tests.support.samples import DOCX


@pytest.mark.parametrize(
    "kind",
    ["image/png", "image/*", "*/*", "application/x-mine", "text/plain; charset=utf-8", "IMAGE/PNG", "font/woff2"],
)
def test_a_type_is_known_when_its_major_type_is_registered(kind: str) -> None:
    assert is_known(kind)


@pytest.mark.parametrize(
    "kind", ["", "image", "image/", "/png", "picture/png", "*/png", "image/p g", "a/b/c", "*", "image/**"]
)
def test_what_is_no_type_is_not_known(kind: str) -> None:
    assert not is_known(kind)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["image/png"], ["image/png"]),
        (["image/png"], ["image/*"]),
        (["*/*"], ["audio/mpeg"]),
        (["image/*"], ["*/*"]),
        (["text/plain", "image/png"], ["audio/*", "image/*"]),
        (["IMAGE/JPG"], ["image/jpeg"]),
        (["text/plain; charset=utf-8"], ["text/plain"]),
        (["text/xml"], ["application/xml"]),
    ],
)
def test_two_sets_overlap_in_either_direction(one: list[str], other: list[str]) -> None:
    assert overlap(one, other)
    assert overlap(other, one)


@pytest.mark.parametrize(("one", "other"), [(["image/png"], ["image/jpeg"]), (["image/*"], ["audio/*"]), ([], ["*/*"])])
def test_sets_with_nothing_in_common_do_not_overlap(one: list[str], other: list[str]) -> None:
    assert not overlap(one, other)
    assert not overlap(other, one)


def test_of_two_types_that_meet_the_intersection_has_the_narrower() -> None:
    assert intersection(["image/*"], ["image/png", "image/jpeg", "text/plain"]) == ("image/png", "image/jpeg")
    assert intersection(["*/*"], ["image/*"]) == ("image/*",)
    assert intersection(["image/png"], ["image/jpeg"]) == ()


@pytest.mark.parametrize(
    ("found", "allowed"),
    [
        ("image/jpeg", "image/jpeg"),
        ("image/jpeg", "image/jpg"),
        ("image/jpeg", "image/*"),
        ("application/octet-stream", "*/*"),
        ("application/x-empty", "*/*"),
        ("text/plain", "text/csv"),
        ("text/plain", "text/*"),
        ("text/plain", "application/json"),
        ("text/plain", "application/yaml"),
        ("text/plain", "application/x-ndjson"),
        ("text/plain", "image/svg+xml"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("application/json", "text/plain"),
        ("application/json", "text/*"),
        ("application/json", "application/geo+json"),
        ("application/json", "application/x-ndjson"),
        ("application/json", "application/yaml"),
        ("application/xml", "text/xml"),
        ("application/xml", "application/rss+xml"),
        ("image/svg+xml", "image/*"),
        ("image/svg+xml", "application/xml"),
        ("text/html", "text/plain"),
        (DOCX, "application/zip"),
        (DOCX, DOCX),
        ("application/zip", "application/vnd.made.here"),
        ("application/octet-stream", "application/x-protobuf"),
        ("application/octet-stream", "model/stl"),
        ("image/tiff", "image/x-adobe-dng"),
        ("video/mp4", "audio/mp4"),
        ("video/mp4", "video/quicktime"),
        ("audio/wav", "audio/x-wav"),
        ("video/webm", "video/x-matroska"),
    ],
)
def test_what_is_found_satisfies_what_is_allowed(found: str, allowed: str) -> None:
    assert matches(found, ["font/ttf", allowed])


@pytest.mark.parametrize(
    ("found", "allowed"),
    [
        ("image/jpeg", "image/png"),
        ("image/jpeg", "text/plain"),
        ("image/jpeg", "text/*"),
        ("text/plain", "image/jpeg"),
        ("text/plain", "image/*"),
        ("text/plain", "application/pdf"),
        ("text/plain", "application/octet-stream"),
        ("application/json", "application/xml"),
        ("application/json", "text/csv"),
        ("text/html", "application/json"),
        ("application/zip", DOCX),
        ("application/zip", "application/json"),
        ("application/octet-stream", "image/png"),
        ("application/octet-stream", "image/*"),
        ("application/octet-stream", "application/pdf"),
        ("application/octet-stream", "text/plain"),
        ("application/octet-stream", "application/x-tar"),
        ("application/x-executable", "application/x-protobuf"),
        ("application/x-empty", "text/plain"),
        ("application/x-empty", "image/png"),
    ],
)
def test_what_is_found_does_not_satisfy_another_type(found: str, allowed: str) -> None:
    assert not matches(found, [allowed])


def test_nothing_satisfies_no_types() -> None:
    assert not matches("image/png", [])


@pytest.mark.parametrize(
    ("kind", "extension"),
    [
        ("image/jpeg", ".jpg"),
        ("image/jpg", ".jpg"),
        ("image/png", ".png"),
        ("text/plain", ".txt"),
        ("text/plain; charset=utf-8", ".txt"),
        ("application/pdf", ".pdf"),
        ("application/x-tar", ".tar"),
        ("audio/mpeg", ".mp3"),
        ("video/mp4", ".mp4"),
        (DOCX, ".docx"),
        ("image/*", ""),
        ("*/*", ""),
        ("application/x-mine", ""),
        ("application/x-executable", ""),
    ],
)
def test_a_type_has_one_usual_extension(kind: str, extension: str) -> None:
    assert extension_for(kind) == extension


def test_several_types_have_no_extension() -> None:
    assert extension_of(["image/png", "image/jpeg"]) == ""
    assert extension_of(["image/jpg", "image/jpeg"]) == ".jpg"
    assert extension_of([]) == ""


def test_a_type_is_compared_without_its_parameters() -> None:
    assert normal(" Text/HTML;charset=x ") == "text/html"
