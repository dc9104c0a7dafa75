"""What the names in a flow may look like. PURE."""

import re
from functools import lru_cache

NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
EDGE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
PORT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
"""Ports become file names in the container; flags share the rule, as `${name}` means either."""
FLOW_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
"""Of a flow that is kept; also the publisher and the name of a node definition that is."""
VERSION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,62}")
PARAMETER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,127}")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,255}")

PARAMETER_REFERENCE = re.compile(r"\$\{PARAM\.([A-Za-z_][A-Za-z0-9_-]*)\}")
"""`${PARAM.name}` inside a flag's value."""


@lru_cache(maxsize=4096)
def env_name(name: str) -> str:
    """`name` as part of an environment variable: upper case, every other character an underscore.

    >>> env_name("input-image")
    'INPUT_IMAGE'
    """
    return re.sub(r"[^A-Z0-9]", "_", name.upper())
