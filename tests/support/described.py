"""The described interface, tried by schemathesis: what it is told of the server, and how it is run."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pupload.controller.app import ROUTES
from pupload.controller.routes.declaring import Route

Json = dict[str, Any]
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
"""How many calls of each route `scripts/fuzz` asks for; 0 in the suite, which has numbers of its own."""
SEED = os.environ.get("FUZZ_SEED", "1")
PHASES = ("coverage", "fuzzing", "stateful") if EXAMPLES else ("fuzzing", "stateful")
"""Coverage tries every bound of every member, thousands of calls, and so not in the suite."""
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "use_after_free",
    "ensure_resource_availability",
)
"""Not that what is off the schema is refused: documents are read more kindly than they are described."""


@dataclass(frozen=True)
class Trial:
    """How a trial went."""

    passed: bool
    told: str
    calls: int


@cache
def _described() -> list[tuple[str, re.Pattern[str]]]:
    routes = [route for route in ROUTES if isinstance(route, Route)]
    return [(each.method, re.compile(re.sub(r"\{\w+\}", "[^/]+", each.path))) for each in routes]


def is_described(method: str, path: str) -> bool:
    """True for a call that the description tells of."""
    return any(method == each and route.fullmatch(path) for each, route in _described())


async def try_all(
    description: Json,
    url: str,
    known: Mapping[str, str],
    folder: Path,
    *,
    examples: int,
) -> Trial:
    """Calls every described route, mostly with what is `known` in its path; what is answered is as described."""
    (folder / "openapi.json").write_text(json.dumps(closed(description)))
    (folder / "schemathesis.toml").write_text(_config(known))
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run", "openapi.json"),
        *("--url", url, "--seed", SEED, "--max-examples", str(EXAMPLES or examples), "--phases", ",".join(PHASES)),
        *("--checks", ",".join(CHECKS), "--continue-on-failure", "--request-timeout", "30", "--warnings", "off"),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        told, _ = await program.communicate()
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
    text = told.decode()
    calls = re.search(r"(\d+) generated", text)
    return Trial(program.returncode == 0, text, int(calls[1]) if calls else 0)


def closed(description: Json) -> Json:
    """The description, with no member beyond those that it tells of."""
    schemas = {name: _closed(schema) for name, schema in description["components"]["schemas"].items()}
    return {**description, "components": {**description["components"], "schemas": schemas}}


def _closed(schema: Json) -> Json:
    return {**schema, "additionalProperties": False} if "properties" in schema else schema


def _config(known: Mapping[str, str]) -> str:
    bound = [f'"path.{name}" = {{ dictionary = "{name}", probability = 0.9 }}' for name in known]
    lists = [f"{name} = {{ values = [{json.dumps(value)}] }}" for name, value in known.items()]
    return "\n".join(
        [
            "max-stream-events = 1",
            "[cache]",
            "enabled = false",
            "[parameters]",
            *bound,
            "[dictionaries]",
            *lists,
            "[generation]",
            'database = "none"',
            "allow-x00 = true",
            "no-shrink = true",
        ]
    )
