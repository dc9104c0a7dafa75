"""The interface's description as a page: no script, nothing from elsewhere, nothing that is not in the description."""

import base64
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

Json = Mapping[str, Any]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --dim: #8889; --link: #06c; }
@media (prefers-color-scheme: dark) { :root { --link: #6bf; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 64rem; padding: 1rem 1.5rem 4rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; } h3 { margin: 2rem 0 .3rem; font-size: 1rem; }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
nav { columns: 3 14rem; } nav a { display: block; }
code, th { font: .85rem/1.5 ui-monospace, monospace; } code { overflow-wrap: anywhere; }
details { border-top: 1px solid var(--line); } details:last-of-type { border-bottom: 1px solid var(--line); }
summary { cursor: pointer; display: grid; gap: 0 1rem; grid-template-columns: 4rem 1fr; padding: .5rem 0; }
summary::-webkit-details-marker { display: none; }
summary b { font: bold .8rem/1.9 ui-monospace, monospace; } summary span { grid-column: 2; color: #888; }
table { border-collapse: collapse; margin: .3rem 0 1.2rem; width: 100%; }
th, td { border-top: 1px solid var(--line); padding: .3rem 1rem .3rem 0; text-align: left; vertical-align: top; }
th { font-weight: normal; white-space: nowrap; } td:nth-child(2) { width: 34%; }
caption { color: #888; text-align: left; }
details > div { padding: 0 0 .6rem 5rem; } section > p { margin: 0 0 .5rem; white-space: pre-line; }
@media (max-width: 40rem) { details > div { padding-left: 0; } }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src 'sha256-{_HASH}'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "sandbox",
    )
)
"""No more than to be read, in its own style."""


def render(description: Json) -> str:
    """The page, whole. Everything of the description is in it as text, whatever it holds."""
    html = Element("html", lang="en")
    head = SubElement(html, "head")
    _add(head, "meta", charset="utf-8")
    _add(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    _add(head, "title", f"{description['info']['title']} {description['info']['version']}")
    _add(head, "style", _STYLE)
    body = SubElement(html, "body")
    _begin(body, description)
    for tag, operations in _by_tag(description).items():
        _add(body, "h2", tag, id=f"tag-{tag}")
        for method, path, operation in operations:
            _operation(body, method, path, operation, description)
    _add(body, "h2", "Documents", id="documents")
    for name, schema in sorted(description["components"]["schemas"].items()):
        _document(body, name, schema)
    return "<!DOCTYPE html>\n" + tostring(html, encoding="unicode", method="html")


def _add(parent: Element, element: str, text: str = "", **attributes: str) -> Element:
    made = SubElement(parent, element, attributes)
    made.text = text or None
    return made


def _by_tag(description: Json) -> dict[str, list[tuple[str, str, Json]]]:
    found = defaultdict(list)
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            found[operation["tags"][0]].append((method.upper(), path, operation))
    return dict(sorted(found.items()))


def _begin(body: Element, description: Json) -> None:
    info = description["info"]
    _add(body, "h1", f"{info['title']} {info['version']}")
    _add(body, "p", info["description"])
    _add(_add(body, "p", "For programs: "), "a", "OpenAPI", href="/openapi.json")
    nav = _add(body, "nav")
    for tag in _by_tag(description):
        _add(nav, "a", tag, href=f"#tag-{tag}")
    _add(nav, "a", "Documents", href="#documents")


def _operation(body: Element, method: str, path: str, operation: Json, description: Json) -> None:
    details = _add(body, "details", id=operation["operationId"])
    summary = _add(details, "summary")
    _add(summary, "b", method)
    _add(summary, "code", path)
    _add(summary, "span", operation["summary"])
    inside = _add(details, "div")
    if operation["security"]:
        _add(_add(inside, "p", "A key needs "), "code", *operation["security"][0]["bearer"])
    _parameters(inside, operation)
    _body(inside, operation)
    _answers(inside, operation, description)


def _parameters(inside: Element, operation: Json) -> None:
    if operation["parameters"]:
        table = _table(inside, "Parameters")
        for each in operation["parameters"]:
            kind = _add(_row(table, each["name"], each["description"]), "td")
            _add(kind, "code", each["in"])
            kind[0].tail = ", "
            _type(kind, each["schema"])


def _body(inside: Element, operation: Json) -> None:
    if taken := operation.get("requestBody"):
        table = _table(inside, "Body" if taken["required"] else "Body, which may be left out")
        for media, content in taken["content"].items():
            _type(_add(_row(table, media), "td"), content.get("schema", {}))


def _answers(inside: Element, operation: Json, description: Json) -> None:
    table = _table(inside, "Answers")
    for status, answer in operation["responses"].items():
        found = (
            description["components"]["responses"][answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer
        )
        kinds = _add(_row(table, f"{status} {HTTPStatus(int(status)).phrase}", found["description"]), "td")
        for media, content in found.get("content", {}).items():
            kind = _add(kinds, "div")
            _add(kind, "code", media)
            kind[-1].tail = " "
            _type(kind, content.get("schema", {}))


def _table(parent: Element, caption: str) -> Element:
    table = _add(parent, "table")
    _add(table, "caption", caption)
    return table


def _row(table: Element, *texts: str) -> Element:
    row = _add(table, "tr")
    _add(row, "th", texts[0])
    for text in texts[1:]:
        _add(row, "td", text)
    return row


def _document(body: Element, name: str, schema: Json) -> None:
    section = _add(body, "section", id=name)
    _add(section, "h3", name)
    _add(section, "p", schema.get("description", ""))
    if "properties" not in schema:
        _type(_add(section, "p"), schema)
        return
    table = _add(section, "table")
    for member, each in schema["properties"].items():
        row = _row(table, member)
        _type(_add(row, "td"), each)
        _add(row, "td", ", ".join(_notes(each, is_required=member in schema.get("required", ()))))


def _notes(schema: Json, *, is_required: bool) -> Iterable[str]:
    """What is said of a member beside its type."""
    if is_required:
        yield "required"
    if schema.get("default") not in {None, ""}:
        yield f"{schema['default']!r} unless said"
    for name, says in (
        ("minimum", "at least"),
        ("maximum", "at most"),
        ("maxLength", "characters at most"),
        ("maxItems", "at most"),
    ):
        if name in schema:
            yield f"{says} {schema[name]}"
    if "description" in schema:
        yield schema["description"]


def _type(parent: Element, schema: Json) -> None:
    """The schema in a few words, with a link to each document in it."""
    match schema:
        case {"$ref": str() as ref}:
            name = ref.rpartition("/")[2]
            _add(parent, "a", name, href=f"#{name}")
        case {"properties": {"data": {"contentSchema": dict() as told}}}:
            _text(parent, "each with ")
            _type(parent, told)
        case {"anyOf": list() as kinds}:
            for place, kind in enumerate(kinds):
                if place:
                    _text(parent, " or ")
                _type(parent, kind)
        case {"enum": list() as values}:
            _text(parent, " | ".join(map(str, values)))
        case {"type": "array", **rest}:
            _text(parent, "list of ")
            _type(parent, rest.get("items", {}))
        case {"type": "object", "additionalProperties": dict() as values}:
            _text(parent, "object of ")
            _type(parent, values)
        case _:
            _text(parent, " ".join(map(str, filter(None, (schema.get("type", "anything"), schema.get("format"))))))


def _text(parent: Element, text: str) -> None:
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text
