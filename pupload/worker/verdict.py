"""What an exit means. Decides on what the engine says, what the program said last, and what we did to it."""

import re

from pupload.containers.docker import Refused
from pupload.containers.logs import Log
from pupload.containers.state import ContainerState
from pupload.flow.plan import Reason
from pupload.protocol import Assignment
from pupload.units import format_size
from pupload.worker.failure import NodeFailure

KILLED = (128 + 9, 128 + 15)
"""An engine that is stopped, or started after a crash, ends its containers with TERM, and those that stay with KILL."""
_CANNOT_RUN = re.compile(r"\[FATAL tini \(\d+\)\] (exec .+ failed: .+)")
_NO_COMMAND = ("executable file not found", "no such file or directory", "permission denied", "no command specified")
_SAID_MOST = 500


def judge(assignment: Assignment, state: ContainerState | None, log: Log, killed: Reason | None) -> None:
    """Return when the program has succeeded.

    `killed` is why this worker ended it, None when it did not.
    Errors: NodeFailure.
    """
    if killed is Reason.TIMEOUT:
        text = f"the node ran longer than its timeout of {assignment.timeout_s:g} s"
        raise NodeFailure(Reason.TIMEOUT, text, exit_code=state.exit_code if state else None)
    if state is None:
        raise NodeFailure(Reason.INFRA, "the container was removed by somebody else")
    if state.exit_code == 0:
        if state.oom_killed:
            log.say(f"a process was killed for memory ({_memory(assignment)}), yet the program ended with 0")
        return
    raise _failure(assignment, state, log.last_error)


def _failure(assignment: Assignment, state: ContainerState, said: str) -> NodeFailure:
    code = state.exit_code
    if state.oom_killed:
        text = f"out of memory: the node is limited to {_memory(assignment)}; choose a larger tier"
        return NodeFailure(Reason.OOM, text, exit_code=code)
    cannot_run = _CANNOT_RUN.fullmatch(said)
    if code in {126, 127} and cannot_run:
        return _bad_command(assignment, cannot_run[1], code)
    if code in KILLED:
        text = f"the container was ended from outside ({code}, and not for memory)"
        return NodeFailure(Reason.INFRA, text, exit_code=code)
    if state.missed:
        text = f"the engine was away when the program ended, and cannot tell how ({code})"
        return NodeFailure(Reason.INFRA, text, exit_code=code)
    last = f": {said[:_SAID_MOST]}" if said else ""
    return NodeFailure(Reason.EXIT, f"exited with {code}{last}", exit_code=code)


def _memory(assignment: Assignment) -> str:
    return f"{format_size(assignment.tier.memory_bytes)} by its tier {assignment.tier.name}"


def start_failure(assignment: Assignment, refused: Refused) -> NodeFailure:
    """What it means that the engine did not start the container: a bad command is final, anything else may pass."""
    text = str(refused)
    if any(words in text.lower() for words in _NO_COMMAND) and "exec" in text.lower():
        return _bad_command(assignment, text, 127)
    return NodeFailure(Reason.INFRA, f"the engine could not start the container: {text}")


def _bad_command(assignment: Assignment, why: str, code: int) -> NodeFailure:
    text = f"the command cannot be run in image {assignment.image}: {why}"
    return NodeFailure(Reason.EXIT, text, final=True, exit_code=code)
