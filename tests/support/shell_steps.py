"""Builders of requests whose nodes are shell scripts: a step is a node and the def that only it uses."""

import shlex
from collections.abc import Mapping
from typing import Any

from tests.support.docker_images import BUSYBOX

Json = dict[str, Any]
Step = tuple[Json, Json]
"""A node and its def."""

COPY = 'cat "$INPUT_IN" > "$OUTPUT_OUT"'
"""What a step does unless told: the file of port `in` goes to port `out`."""


def a_step(
    node_id: str = "copy",
    script: str = COPY,
    *,
    reads: Mapping[str, str] | None = None,
    writes: Mapping[str, str] | None = None,
    node: Json | None = None,
    **nodedef: Any,
) -> Step:
    """A node that runs `script`, from edge `in` to edge `out` unless told; `nodedef` are members of its def."""
    bound = {
        "ID": node_id,
        "Uses": f"test/{node_id}",
        "Inputs": _bindings({"in": "in"} if reads is None else reads),
        "Outputs": _bindings({"out": "out"} if writes is None else writes),
    }
    define = {
        "Publisher": "test",
        "Name": node_id,
        "Image": BUSYBOX,
        "Command": {"Name": "run", "Exec": f"sh -c {shlex.quote(script)}"},
        "Tier": "c-nano",
    }
    return bound | (node or {}), define | nodedef


def _bindings(edges: Mapping[str, str]) -> list[Json]:
    return [{"Name": port, "Edge": edge} for port, edge in edges.items()]


def a_request(*steps: Step, **flow: Any) -> Json:
    """The request to run these steps; one that copies when none is given."""
    given = steps or (a_step(),)
    nodes, defs = [node for node, _ in given], [nodedef for _, nodedef in given]
    return {"Flow": {"Name": "shell", "Nodes": nodes, **flow}, "NodeDefs": defs}


def a_source(node_id: str, script: str, **members: Any) -> Step:
    """A step that needs no input."""
    return a_step(node_id, script, reads={}, **members)


def a_chain(length: int) -> Json:
    """`length` copies in a row, from edge e0 to edge e<length>."""
    return a_request(
        *(a_step(f"n{i}", reads={"in": f"e{i}"}, writes={"out": f"e{i + 1}"}) for i in range(length)), Name="chain"
    )


def a_fan(width: int) -> Json:
    """`width` steps side by side on edge `in`, each adding its number, and one that joins what they wrote."""
    side = [
        a_step(f"n{i}", f'cat "$INPUT_IN" > "$OUTPUT_OUT"; echo {i} >> "$OUTPUT_OUT"', writes={"out": f"e{i}"})
        for i in range(width)
    ]
    files = " ".join(f'"$INPUT_P{i}"' for i in range(width))
    join = a_step("join", f'cat {files} > "$OUTPUT_OUT"', reads={f"p{i}": f"e{i}" for i in range(width)})
    return a_request(*side, join, Name="fan")
