"""What a call of the client may raise: one class a status, and one for a server that does not answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from pupload.errors import ControllerUnavailable, PuploadError


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


class OverLimit(ApiError):
    """413: more bytes than the server takes."""


class Unprocessable(ApiError):
    """422: the wrong shape, or an invalid flow; `details` hold the findings."""


class TooManyCalls(ApiError):
    """429: slow down."""


class ServerFault(ApiError):
    """5xx: the server's own fault."""


class ServerUnreachable(ControllerUnavailable):
    """No connection, or it broke, or no answer in time; as often as the client tries."""


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


def api_error(status: int, body: object, text: str, request_id: str) -> ApiError:
    """The error that an answer means; `body` is its JSON, None where it has none, and then `text` is the message."""
    kind = _CLASSES.get(status, ServerFault if status >= 500 else ApiError)
    error = _error_object(body)
    if error is None:
        return kind(status, f"HTTP_{status}", text.strip()[:500] or f"the server answered {status}", (), request_id)
    details = error.get("details")
    return kind(
        status,
        str(error.get("code") or f"HTTP_{status}"),
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
