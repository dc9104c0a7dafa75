"""Routes as they are declared: where each answers, and what clients may know of it.

`pupload/controller/interface.py` makes the interface's description of these; a public route without one fails a test.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiohttp import hdrs, web
from pydantic import BaseModel

from pupload.controller.routes.answering import Handler
from pupload.controller.scopes import KeyScope
from pupload.errors import Defect

Kind = type[BaseModel]
JSON = "application/json"
STREAM = "text/event-stream"
ANYTHING = "*/*"
TEXT: Mapping[str, Any] = {"type": "string"}
TRUTH: Mapping[str, Any] = {"type": "string", "enum": ["true", "false", "1", "0"]}


@dataclass(frozen=True, slots=True)
class Asked:
    """A query parameter, or a header, that a route reads."""

    name: str
    says: str
    schema: Mapping[str, Any] = field(default_factory=lambda: TEXT)
    place: str = "query"


@dataclass(frozen=True, slots=True)
class Body:
    """What a route takes: bytes of any type where there is no document; `form` where a form is taken too."""

    document: Kind | None = None
    required: bool = True
    form: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route answers with one status; nothing but the status where no member says what.

    `other` is a second document that it may be; `stream` is what each event of an event stream holds; `media` is the
    type of an answer that is no document. `headers` are by name, each with what it says.
    """

    says: str
    document: Kind | None = None
    other: Kind | None = None
    stream: Kind | None = None
    media: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route(web.AbstractRouteDef):
    """A route of the interface.

    Shape: `gives` is what 200 holds, or every answer but refusals, by status; `refuses` are statuses beyond those that
    the rest tells already. `scope` is what a key needs here; `open` is a route that no key is asked for, and each is
    one or the other. `name` is what generated clients call it: the handler's own where there is none.
    """

    method: str
    path: str
    handler: Handler
    does: str
    gives: Kind | Mapping[int, Answer]
    takes: Body | None = None
    asks: tuple[Asked, ...] = ()
    refuses: tuple[int, ...] = ()
    open: bool = False
    name: str = ""
    scope: KeyScope | None = None

    def __post_init__(self) -> None:
        if (self.scope is None) is not self.open:
            raise Defect(f"{self.method} {self.path}: declare the scope that it needs, or that it is open")

    @property
    def answers(self) -> Mapping[int, Answer]:
        """Every answer but refusals, by status."""
        return self.gives if isinstance(self.gives, Mapping) else {200: Answer(self.does, self.gives)}

    @property
    def operation(self) -> str:
        """The route's name among all."""
        return self.name or self.handler.__name__

    def register(self, router: web.UrlDispatcher) -> list[web.AbstractRoute]:
        """Adds the route, as aiohttp wants it."""
        return web.RouteDef(self.method, self.path, self.handler, {}).register(router)


get = partial(Route, hdrs.METH_GET)
post = partial(Route, hdrs.METH_POST)
put = partial(Route, hdrs.METH_PUT)
delete = partial(Route, hdrs.METH_DELETE)

READ = KeyScope.RUN_READ
CREATE = KeyScope.RUN_CREATE
WRITE = KeyScope.FLOW_WRITE
FILES = KeyScope.FILES
ADMIN = KeyScope.ADMIN

NOTHING = Answer("Done.")
LIMIT = Asked("limit", "How many at most: 50 unless said.", {"type": "integer", "minimum": 1, "maximum": 500})
CURSOR = Asked("cursor", "The NextCursor of the page before.")
PAGE = (LIMIT, CURSOR)
REPEATED = Asked(
    "Idempotency-Key",
    "Makes sending twice safe: the run of the first time is answered.",
    {"type": "string", "minLength": 1, "maxLength": 255},
    place="header",
)
BYTES = Body()
