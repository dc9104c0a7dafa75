"""What the client may raise: a class a status and for some codes, one for a server that does not answer, one for time
that is up, and those of runs that are asked about."""

from collections.abc import Mapping, Sequence
from typing import Any

from pupload.answers.runs import FlowRun
from pupload.errors import CallerError, ControllerUnavailable, PuploadError, Unavailable


class ApiError(PuploadError):
    """The server refused the call. `code` and `message` are its own words; `request_id` names the call in its log."""

    def __init__(
        self, status: int, code: str, message: str, details: Sequence[object] = (), request_id: str = ""
    ) -> None:
        super().__init__(message, code=code, details=details)
        self.status = status
        self.request_id = request_id
        self.retry_after_s = 0.0
        """What the server asked to wait before the next try."""


class BadRequest(ApiError):
    """400: the body is not what it should be, or its flow is invalid."""


class NotAuthorized(ApiError):
    """401: no valid key."""


class InsufficientCredits(ApiError):
    """402: the account's budget does not allow the call."""


class NotAllowed(ApiError):
    """403: the key or URL does not allow this."""


class UnknownThing(ApiError):
    """404: there is no such thing for this caller."""


class WrongState(ApiError):
    """409: not in this state."""


class StaleTree(WrongState):
    """409 `STALE_TREE`: the flow was published anew since the loop of steps began."""


class IdempotencyConflict(WrongState):
    """409 `IDEMPOTENCY_CONFLICT`: the key was used for another request."""


class NotWaitingForTools(WrongState):
    """409 `NOT_WAITING_FOR_TOOLS`: nothing waits for these answers: not yet, or not any more."""


class OverLimit(ApiError):
    """413: more bytes than the server takes."""


class Unprocessable(ApiError):
    """422: the wrong shape, or an invalid flow; `details` hold the findings."""


class ToolResultsMismatch(Unprocessable):
    """422 `TOOL_RESULTS_MISMATCH`: the answers are not exactly those that were asked for."""


class TooManyCalls(ApiError):
    """429: slow down."""


class ServerFault(ApiError):
    """5xx: the server's own fault."""


class ServerUnreachable(ControllerUnavailable):
    """No connection, or it broke; as often as the client tries."""


class CallTimeout(Unavailable):
    """The time that the caller gave is up. `run_id` is the run that goes on; "" where none is known of."""

    code = "CALL_TIMEOUT"

    def __init__(self, message: str, run_id: str = "") -> None:
        super().__init__(message)
        self.run_id = run_id


class RunFailed(PuploadError):
    """The run did not end well. `code`, `message` and `node_id` are the run's own; `run` is all of it."""

    def __init__(self, run: FlowRun) -> None:
        reason = run.status_reason or run.status.lower()
        code, message, self.node_id = reason.upper(), f"run {run.id} was stopped: {reason}", ""
        if run.error is not None:
            code, message, self.node_id = run.error.code, run.error.message, run.error.node_id
        super().__init__(message, code=code)
        self.run = run


class ToolCallLimitError(PuploadError):
    """A node asked the client more often than was allowed, here or by the server, and the run was ended."""

    code = "TOOL_CALL_LIMIT"

    def __init__(self, run_id: str, node_id: str, rounds: int) -> None:
        super().__init__(f"node {node_id!r} of run {run_id} asked more than {rounds} times: see max_tool_rounds")
        self.run_id, self.node_id, self.rounds = run_id, node_id, rounds


class NotAwaited(CallerError):
    """The run awaits no file on this edge."""

    code = "NOT_AWAITED"


class UploadBroken(ControllerUnavailable):
    """A file went only in part. `upload_id`, given to the next call, sends what is missing."""

    def __init__(self, message: str, upload_id: str) -> None:
        super().__init__(message)
        self.upload_id = upload_id


class UploadEnded(WrongState):
    """Nothing of an upload in parts is left: it was aborted, or its store has forgotten it. Begin another one."""


class BadSignature(CallerError):
    """The webhook is not from who has the secret, was changed on its way, or is too old."""

    code = "BAD_SIGNATURE"


_CLASSES: Mapping[int, type[ApiError]] = {
    400: BadRequest,
    401: NotAuthorized,
    402: InsufficientCredits,
    403: NotAllowed,
    404: UnknownThing,
    409: WrongState,
    413: OverLimit,
    422: Unprocessable,
    429: TooManyCalls,
}
_BY_CODE: Mapping[str, type[ApiError]] = {
    "STALE_TREE": StaleTree,
    "IDEMPOTENCY_CONFLICT": IdempotencyConflict,
    "NOT_WAITING_FOR_TOOLS": NotWaitingForTools,
    "TOOL_RESULTS_MISMATCH": ToolResultsMismatch,
    "UPLOAD_ENDED": UploadEnded,
}


def api_error(status: int, body: object, text: str, request_id: str) -> ApiError:
    """The error that an answer means; `body` is its JSON, None where it has none, and then `text` is the message."""
    kind = _CLASSES.get(status, ServerFault if status >= 500 else ApiError)
    error = _error_object(body)
    if error is None:
        return kind(status, f"HTTP_{status}", text.strip()[:500] or f"the server answered {status}", (), request_id)
    details, code = error.get("details"), str(error.get("code") or f"HTTP_{status}")
    return _BY_CODE.get(code, kind)(
        status,
        code,
        str(error.get("message") or f"the server answered {status}"),
        details if isinstance(details, list) else (),
        str(error.get("requestid") or request_id),
    )


def _error_object(body: object) -> dict[str, Any] | None:
    """The `Error` member of an answer, its members in lower case; the reference routes write it in lower case."""
    if not isinstance(body, dict):
        return None
    error = {str(name).lower(): value for name, value in body.items()}.get("error")
    if isinstance(error, str):
        return {"message": error}
    return {str(name).lower(): value for name, value in error.items()} if isinstance(error, dict) else None
