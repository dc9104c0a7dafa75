"""The description of the interface tells of every route that clients have, and is OpenAPI."""

import json
import re
from typing import Any

import pytest
from aiohttp import web
from openapi_spec_validator import validate

from pupload.controller.app import ROUTES
from pupload.controller.interface import describe
from pupload.controller.page import POLICY, render
from pupload.controller.routes.declaring import Route
from pupload.controller.routes.interface import Interface

pytestmark = pytest.mark.unit

INTERNAL = "/api/v1/worker/"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def description() -> Json:
    return json.loads(Interface(ROUTES).description)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def page() -> str:
    return Interface(ROUTES).page[0]


def operations(description: Json) -> list[Json]:
    return [each for path in description["paths"].values() for each in path.values()]


def test_every_route_but_the_workers_is_described(description: Json) -> None:
    described = {(method.upper(), path) for path, each in description["paths"].items() for method in each}
    listed = [route for route in ROUTES if isinstance(route, Route | web.RouteDef)]
    assert len(listed) == len(ROUTES)
    assert described == {(r.method, r.path) for r in listed if not r.path.startswith(INTERNAL)}


def test_the_description_is_openapi(description: Json) -> None:
    validate(description)


def test_every_operation_has_a_name_of_its_own(description: Json) -> None:
    names = [each["operationId"] for each in operations(description)]
    assert sorted(names) == sorted(set(names))


def test_every_route_tells_its_refusals_in_the_shape_of_the_interface(description: Json) -> None:
    for path, methods in description["paths"].items():
        shape = "ReferenceRefusal" if path.startswith("/api/v1/flow/") else "Refusal"
        for answer in (each for operation in methods.values() for each in operation["responses"].values()):
            if "$ref" in answer:
                told = description["components"]["responses"][answer["$ref"].rpartition("/")[2]]
                assert told["content"]["application/json"]["schema"] == {"$ref": f"#/components/schemas/{shape}"}


def test_what_asks_for_a_key_tells_of_refused_keys(description: Json) -> None:
    for each in operations(description):
        assert bool(each["security"]) == ({"401", "403", "429"} <= each["responses"].keys())


def test_each_route_tells_the_scope_that_it_needs(description: Json) -> None:
    told = {(m.upper(), path): each for path, ms in description["paths"].items() for m, each in ms.items()}
    for route in (each for each in ROUTES if isinstance(each, Route) and each.scope):
        assert told[route.method, route.path]["security"] == [{"bearer": [route.scope]}, {"header": [route.scope]}]


def test_members_are_named_as_they_are_written(description: Json) -> None:
    assert {"CallbackURL", "OnlyNodes", "SessionID"} <= description["components"]["schemas"]["RunRequest"][
        "properties"
    ].keys()


def test_a_document_that_is_read_has_no_other_members_and_an_answer_has_all_of_its_own(description: Json) -> None:
    schemas = description["components"]["schemas"]
    assert schemas["Flow"]["additionalProperties"] is False
    assert set(schemas["FlowRun"]["required"]) == schemas["FlowRun"]["properties"].keys()


def test_what_a_run_can_be_asked_follows_its_making(description: Json) -> None:
    made = description["paths"]["/api/v1/flow/test"]["post"]["responses"]["200"]
    assert made["links"]["get_run"]["parameters"] == {"run": "$response.body#/ID"}


def test_the_page_tells_of_every_operation_and_document(description: Json, page: str) -> None:
    for name in (*(each["operationId"] for each in operations(description)), *description["components"]["schemas"]):
        assert f'id="{name}"' in page


def test_every_link_of_the_page_has_its_place(page: str) -> None:
    places = set(re.findall(r'id="([^"]+)"', page))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= places


def test_the_page_holds_no_script_and_fetches_nothing(page: str) -> None:
    assert not re.search(r"<script|\son\w+=|\ssrc=|url\(|@import|https?:", page)
    assert POLICY.startswith("default-src 'none'; style-src 'sha256-")


def test_what_the_description_says_is_text_on_the_page(description: Json) -> None:
    hostile = {**description, "info": {**description["info"], "title": "<script>alert(1)</script>"}}
    assert "<script" not in render(hostile)


def test_a_variable_that_nobody_explained_is_noticed() -> None:
    with pytest.raises(KeyError):
        describe([Route("GET", "/{unheard}", _nowhere, "", {}, open=True)])


async def _nowhere(request: Any) -> Any:
    raise AssertionError
