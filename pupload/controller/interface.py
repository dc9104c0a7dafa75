"""The interface as OpenAPI 3.1 says it, made of the routes as they are declared and of the documents that they name.

Loaded with the first question for it: the types of OpenAPI take as long to load as all of ours.
Source: https://spec.openapis.org/oas/v3.1.1.html
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Literal

from openapi_pydantic import (
    Components,
    Header,
    Info,
    Link,
    MediaType,
    OpenAPI,
    Operation,
    Parameter,
    PathItem,
    Reference,
    RequestBody,
    Response,
    Schema,
    SecurityScheme,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from pupload.answers.errors import ReferenceRefusal, Refusal
from pupload.answers.runs import FlowRun
from pupload.answers.sessions import SessionAnswer
from pupload.answers.uploads import FileAnswer
from pupload.controller.routes.declaring import ANYTHING, JSON, STREAM, Answer, Asked, Body, Kind, Route

Mode = Literal["validation", "serialization"]
Schemas = Mapping[tuple[Kind, Mode], JsonSchemaValue]

_ABOUT = """Members are written as they are spelled here; those that the server reads match without regard to case and
underscores, and one that is null or empty is as absent. Times are UTC in RFC 3339, sizes are bytes. Where API keys are
in use every call needs one; where none is, the server listens on loopback only. More is in docs/http.md."""
_VARIABLE = re.compile(r"\{(\w+)\}")
_VARIABLES: Mapping[str, str] = {
    "run": "A run's ID.",
    "flow": "A flow's name.",
    "edge": "An edge of the flow.",
    "node": "A node's ID.",
    "upload": "An upload's ID.",
    "token": "What the server made for this edge.",
    "webhook": "A delivery's ID.",
    "version": "A version's number.",
    "publisher": "Who defines the node.",
    "nodedef": "The definition's name, `@` and its version where one is meant.",
    "session": "A session's ID.",
    "file": "A file's ID.",
}
_REFUSALS: Mapping[int, str] = {
    400: "The body is not what its type says, or asks for what the flow has no use for.",
    401: "No good API key came with the call.",
    402: "The account cannot pay for it.",
    403: "The key or reference does not allow this.",
    404: "There is no such thing, for this caller.",
    409: "Its state does not allow this now.",
    410: "It was there and is gone.",
    413: "More bytes than are allowed.",
    422: "The wrong shape, a value out of range, or a flow with findings.",
    429: "Too many calls, or too much at once.",
    500: "A fault of ours; the log has the request's ID.",
    503: "Something that the server stands on does not answer.",
}
_LATER = {429, 503}
"""Statuses that say when to come again."""
_NAMED_BY: Mapping[Kind, str] = {FlowRun: "run", SessionAnswer: "session", FileAnswer: "file"}
"""Documents whose ID a path's variable names."""
_REFERENCE = "/api/v1/flow/"
_BYTES = "application/octet-stream"
_WAYS = ("bearer", "header")
"""The ways to send a key, by the names of their schemes."""


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """The description of the routes, as JSON has it."""
    listed = list(routes)
    schemas, definitions = _schemas(listed)
    paths: dict[str, dict[str, Operation]] = {}
    for route in listed:
        paths.setdefault(route.path, {})[route.method.lower()] = _Described(route, listed, schemas).operation()
    described = OpenAPI(
        openapi="3.1.0",
        info=Info(title="Pupload", version=version("pupload"), description=" ".join(_ABOUT.split())),
        paths={path: PathItem.model_validate(operations) for path, operations in paths.items()},
        components=Components(
            responses=dict(_refusals(schemas)),
            securitySchemes={
                "bearer": SecurityScheme(type="http", scheme="bearer", description="An API key, `pup_…`."),
                "header": SecurityScheme(type="apiKey", name="X-API-Key", security_scheme_in="header"),
            },
        ),
    )
    told: dict[str, Any] = described.model_dump(mode="json", by_alias=True, exclude_unset=True)
    # As pydantic made them: the types of OpenAPI would write whole numbers with a fraction.
    told["components"]["schemas"] = definitions
    return told


def statuses(route: Route) -> list[int]:
    """The refusals that a caller of the route may meet."""
    found = {500, 503, *route.refuses}
    found |= set() if route.open else {401, 403, 429}
    found |= {404, 422} if _VARIABLE.search(route.path) else set()
    found |= {422} if route.asks else set()
    found |= {400, 413, 422} if route.takes else set()
    if route.path.startswith(_REFERENCE):
        found = found - {422, 404} | {400}
    return sorted(found - set(route.answers))


class _OurSchema(GenerateJsonSchema):
    """Schemas as pydantic makes them, without titles that repeat names, and strict where our documents are."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 - pydantic's own
        return False

    def field_is_required(self, field: Any, total: bool) -> bool:  # noqa: FBT001 - pydantic's own
        # An answer has all its members.
        return self.mode == "serialization" or super().field_is_required(field, total)

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        made.pop("title", None)
        if self.mode == "validation" and made.get("type") == "object":
            made.setdefault("additionalProperties", False)
        return made


def _schemas(routes: Sequence[Route]) -> tuple[Schemas, Mapping[str, Any]]:
    """A reference for each document that a route names, and what they refer to."""
    wanted: dict[tuple[Kind, Mode], None] = {
        (Refusal, "serialization"): None,
        (ReferenceRefusal, "serialization"): None,
    }
    for route in routes:
        if route.takes and route.takes.document:
            wanted[route.takes.document, "validation"] = None
        for answer in route.answers.values():
            for kind in (answer.document, answer.other, answer.stream):
                if kind is not None:
                    wanted[kind, "serialization"] = None
    found, definitions = models_json_schema(
        list(wanted), ref_template="#/components/schemas/{model}", schema_generator=_OurSchema
    )
    return {kind: found[kind] for kind in wanted}, definitions["$defs"]


def _refusals(schemas: Schemas) -> Iterator[tuple[str, Response]]:
    for status in _REFUSALS:
        yield _name(status), _refusal(status, schemas[Refusal, "serialization"])
        yield _name(status, reference=True), _refusal(status, schemas[ReferenceRefusal, "serialization"])


def _name(status: int, *, reference: bool = False) -> str:
    return HTTPStatus(status).name.title().replace("_", "") + ("OfReference" if reference else "")


def _refusal(status: int, schema: JsonSchemaValue) -> Response:
    headers = {"X-Request-ID": _header("The request's ID, as the log has it.")}
    if status in _LATER:
        headers["Retry-After"] = _header("Seconds until trying again may help.", {"type": "integer"})
    return Response(description=_REFUSALS[status], headers=dict(headers), content={JSON: _media(schema)})


def _header(says: str, schema: Mapping[str, Any] | None = None) -> Header:
    return Header(description=says, required=True, param_schema=Schema.model_validate(schema or {"type": "string"}))


def _media(schema: JsonSchemaValue) -> MediaType:
    return MediaType(media_type_schema=Schema.model_validate(schema))


class _Described:
    """One route on its way into the description."""

    def __init__(self, route: Route, routes: Sequence[Route], schemas: Schemas) -> None:
        self._route, self._routes, self._schemas = route, routes, schemas

    def operation(self) -> Operation:
        """The route as OpenAPI says it."""
        route = self._route
        variables = [Asked(name, _VARIABLES[name], place="path") for name in _VARIABLE.findall(route.path)]
        says: dict[str, Any] = {
            "operationId": route.operation,
            "tags": [route.path.split("/")[3] if route.path.startswith("/api/v1/") else "server"],
            "summary": route.does,
            "parameters": [_parameter(each) for each in (*variables, *route.asks)],
            "requestBody": self._body(route.takes) if route.takes else None,
            "responses": self._responses(),
            "security": [] if route.scope is None else [{way: [str(route.scope)]} for way in _WAYS],
        }
        return Operation(**{name: value for name, value in says.items() if value is not None})

    def _body(self, takes: Body) -> RequestBody:
        content = {JSON: self._of(takes.document, "validation")} if takes.document else {ANYTHING: MediaType()}
        if takes.form:
            file = {"type": "object", "properties": {"file": {"type": "string", "contentMediaType": _BYTES}}}
            content["multipart/form-data"] = _media({**file, "required": ["file"]})
        return RequestBody(required=takes.required, content=content)

    def _responses(self) -> dict[str, Response | Reference]:
        reference = self._route.path.startswith(_REFERENCE)
        answers = {str(status): self._answer(answer) for status, answer in self._route.answers.items()}
        refused = {
            str(status): Reference.model_validate(
                {"$ref": f"#/components/responses/{_name(status, reference=reference)}"}
            )
            for status in statuses(self._route)
        }
        return {**answers, **refused}

    def _answer(self, answer: Answer) -> Response:
        says: dict[str, Any] = {"description": answer.says}
        if answer.headers:
            says["headers"] = {name: _header(text) for name, text in answer.headers.items()}
        if content := dict(self._content(answer)):
            says["content"] = content
        if links := dict(self._links(answer)):
            says["links"] = links
        return Response(**says)

    def _content(self, answer: Answer) -> Iterator[tuple[str, MediaType]]:
        if answer.document and answer.other:
            either = [self._schemas[kind, "serialization"] for kind in (answer.document, answer.other)]
            yield JSON, _media({"anyOf": either})
        elif answer.document:
            yield JSON, self._of(answer.document, "serialization")
        if answer.stream:
            yield STREAM, _media(_event(self._schemas[answer.stream, "serialization"]))
        if answer.media:
            yield answer.media, MediaType()

    def _of(self, kind: Kind, mode: Mode) -> MediaType:
        return _media(self._schemas[kind, mode])

    def _links(self, answer: Answer) -> Iterator[tuple[str, Link]]:
        """What can be asked of a thing that was just made."""
        variable = _NAMED_BY.get(answer.document) if answer.document else None
        if variable and self._route.method == "POST":
            for route in self._routes:
                if _VARIABLE.findall(route.path) == [variable]:
                    yield (
                        route.operation,
                        Link(operationId=route.operation, parameters={variable: "$response.body#/ID"}),
                    )


def _event(data: JsonSchemaValue) -> JsonSchemaValue:
    """One event of a stream: before OpenAPI 3.2 a stream's schema is commonly that of each of its events."""
    text = {"type": "string"}
    told = {"id": text, "event": text, "data": {**text, "contentMediaType": JSON, "contentSchema": data}}
    return {"type": "object", "properties": told, "required": list(told)}


def _parameter(asked: Asked) -> Parameter:
    return Parameter.model_validate(
        {
            "name": asked.name,
            "in": asked.place,
            "description": asked.says,
            "required": asked.place == "path",
            "schema": asked.schema,
        }
    )
