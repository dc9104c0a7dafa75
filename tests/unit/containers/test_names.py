"""Names of images as Docker completes them, and what a list of registries makes of them."""

import pytest

from pupload.containers.names import Registries, is_exact, read_name

pytestmark = pytest.mark.unit
DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("reference", "place"),
    [
        ("python", "docker.io/library/python"),
        ("python:3", "docker.io/library/python"),
        ("acme/tool", "docker.io/acme/tool"),
        ("docker.io/tool", "docker.io/library/tool"),
        ("index.docker.io/library/tool:2", "docker.io/library/tool"),
        ("acme.io", "docker.io/library/acme.io"),
        (f"ghcr.io@{DIGEST}", "docker.io/library/ghcr.io"),
        ("localhost/tool", "localhost/tool"),
        (f"localhost:5000/a/b:1@{DIGEST}", "localhost:5000/a/b"),
        ("GHCR.io/acme/tool", "ghcr.io/acme/tool"),
        ("[::1]:5000/tool", "[::1]:5000/tool"),
    ],
)
def test_a_name_is_completed_as_docker_does_it(reference: str, place: str) -> None:
    name = read_name(reference)
    assert name is not None
    assert name.place == place


@pytest.mark.parametrize("reference", ["FOO/bar", DIGEST, "https://ghcr.io/a", "ghcr.io/acme/../evil/x", "-a.b/x", ""])
def test_what_no_engine_takes_is_no_name(reference: str) -> None:
    assert read_name(reference) is None


@pytest.mark.parametrize(
    ("reference", "may"),
    [
        ("ghcr.io/acme/tool:1", True),
        (f"ghcr.io/acme/tool@{DIGEST}", True),
        ("ghcr.io/acmeevil/tool", False),
        ("ghcr.io/acme", True),
        ("ghcr.io.evil.com/acme/tool", False),
        ("evil.com/ghcr.io/acme/tool", False),
        ("ghcr.io:443/acme/tool", False),
        ("python:3", True),
        ("library/python", True),
        ("somebody/python", False),
        ("box:5000/anything/at/all", True),
        ("box/anything", False),
        ("FOO/bar", False),
        (DIGEST, False),
    ],
)
def test_only_what_is_on_the_list_may_be_used(reference: str, may: bool) -> None:
    registries = Registries(["ghcr.io/acme", "docker.io/library", "box:5000"])
    assert (registries.refusal(reference) == "", registries.may_pull(reference)) == (may, may)


@pytest.mark.parametrize(
    ("reference", "refused", "may_pull"),
    [
        ("acme/tool", False, False),
        (DIGEST, False, False),
        ("ghcr.io/acme/tool", False, True),
        ("evil.com/acme/tool", True, False),
        ("docker.io/acme/tool", True, False),
    ],
)
def test_what_is_local_may_be_used_and_never_pulled(reference: str, refused: bool, may_pull: bool) -> None:
    registries = Registries(["local", "ghcr.io"])
    assert (registries.refusal(reference) != "", registries.may_pull(reference)) == (refused, may_pull)


def test_an_empty_list_allows_everything() -> None:
    assert all(Registries(()).may_pull(each) for each in ("a", "evil.com/x", "FOO/bar", DIGEST))


def test_a_refusal_says_where_the_image_comes_from_and_where_it_may() -> None:
    said = Registries(["ghcr.io"]).refusal("python:3")
    assert said == "image python:3 comes from docker.io/library/python, and images may only come from ghcr.io"


def test_digests_and_ids_are_exact_and_tags_are_not() -> None:
    assert [is_exact(each) for each in (f"a@{DIGEST}", DIGEST, "a:1", "a")] == [True, True, False, False]
