"""A command's arguments and a container's environment. PURE.

Arguments are split first, once, without a shell; values go in afterwards, so no value can become two arguments.
Source: contract.md 6.
"""

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

from pupload.errors import InvalidRequest
from pupload.flow.names import env_name

_VARIABLE = re.compile(r"\$\{([A-Za-z0-9_][A-Za-z0-9_.-]*)\}")
_NUMBER = re.compile(r"-(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


@lru_cache(maxsize=256)
def split(command: str) -> tuple[str, ...]:
    """The arguments that `command` says, by POSIX shell quoting.

    Errors: ValueError for a quotation that is not closed.

    >>> split("tool ${in} 'a b' --x=\\"$HOME\\"")
    ('tool', '${in}', 'a b', '--x=$HOME')
    """
    return tuple(shlex.split(command))


@lru_cache(maxsize=256)
def variables(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the variables in `argv`, in order, each once."""
    return tuple(dict.fromkeys(name for argument in argv for name in _VARIABLE.findall(argument)))


def render_argv(
    argv: Sequence[str], ports: Mapping[str, str], flags: Mapping[str, str], known: Collection[str]
) -> list[str]:
    """The arguments of `argv` with `${Name}` replaced by the path of that port or the value of that flag.

    A name in `known` without a value removes the argument that consists of it alone, and is empty inside a longer one.
    Any other `${Name}`, and every other dollar, stays for the program.
    Errors: InvalidRequest when a flag's value would be read as an option (`option_problem`).
    """
    problem = option_problem(tuple(argv), ports, flags)
    if problem:
        raise InvalidRequest(problem)
    values = {**flags, **ports}
    absent = set(known) - values.keys()
    return [
        _VARIABLE.sub(lambda found: _value(found, values, absent), argument)
        for argument in argv
        if not ((whole := _VARIABLE.fullmatch(argument)) and whole[1] in absent)
    ]


def _value(found: re.Match[str], values: Mapping[str, str], absent: Collection[str]) -> str:
    name = found[1]
    return "" if name in absent else values.get(name, found[0])


def option_problem(argv: tuple[str, ...], ports: Collection[str], flags: Mapping[str, str]) -> str:
    """Why the value of a flag would be an option of its own making; "" when none would.

    Only an argument that begins with the flag is in danger, and only before a `--`. A negative number is no option.
    `ports` are those that have a path.
    """
    if not any(value.startswith("-") for value in flags.values()):
        return ""
    for argument in _exposed(argv):
        name = _leading_dash(argument, ports, flags)
        if name and not _NUMBER.fullmatch(_VARIABLE.sub(lambda found: flags.get(found[1], found[1]), argument)):
            return (
                f"the value of flag {name} begins with '-' and would be an option of the command; "
                f"give another value, or let the def write --name=${{{name}}}, or -- before it"
            )
    return ""


def _leading_dash(argument: str, ports: Collection[str], flags: Mapping[str, str]) -> str:
    """The flag whose value gives `argument` a dash to begin with; "" when none does."""
    place = 0
    while (found := _VARIABLE.match(argument, place)) and found[1] not in ports:
        value = flags.get(found[1], "")
        if value:
            return found[1] if value.startswith("-") else ""
        place = found.end()
    return ""


@lru_cache(maxsize=256)
def _exposed(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The arguments that a program may read as options and that begin with a variable."""
    options = argv[1 : argv.index("--", 1)] if "--" in argv[1:] else argv[1:]
    return tuple(argument for argument in options if _VARIABLE.match(argument))


def environment(
    *,
    run_id: str,
    node_id: str,
    attempt: int,
    flow_name: str,
    session_id: str = "",
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    flags: Mapping[str, str],
    env: Mapping[str, str],
) -> dict[str, str]:
    """What a node's program finds in its environment; the def's `env` never hides what we say.

    `inputs` and `outputs` are paths (or URLs) by port, `flags` values by name.
    """
    own = {
        "PUP_RUN_ID": run_id,
        "PUP_NODE_ID": node_id,
        "PUP_ATTEMPT": str(attempt),
        "PUP_FLOW_NAME": flow_name,
        "PUP_SESSION_ID": session_id,
    }
    named = {
        f"{kind}_{env_name(name)}": value
        for kind, values in (("INPUT", inputs), ("OUTPUT", outputs), ("FLAG", flags))
        for name, value in values.items()
    }
    return {**env, **named, **own}
