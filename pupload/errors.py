"""Every exception that leaves a function of ours, and the one table that says what each means outside.

An exception means that the caller cannot go on; its class decides the policy. Expected results (findings, stale
steps, container exits) are returned, never raised.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass


class PuploadError(Exception):
    """Base of all errors of ours. `str()` of it is the message that the user reads: what is wrong, and what to do."""

    code: str = "INTERNAL"
    """Names what went wrong, for programs; a raiser may give one of its own."""

    def __init__(self, message: str, *, code: str | None = None, details: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.details = tuple(details)


class CallerError(PuploadError):
    """The request cannot be carried out as it was made; sending it again changes nothing."""

    code = "BAD_REQUEST"


class Malformed(CallerError):
    """The body is not what the content type says it is."""

    code = "MALFORMED"


class InvalidRequest(CallerError):
    """The request has the wrong shape: an unknown member, a wrong type, a value out of range."""

    code = "INVALID_REQUEST"


class InvalidFlow(CallerError):
    """The flow has findings of severity error; `details` holds all of them."""

    code = "INVALID_FLOW"


class Unauthorized(CallerError):
    """No valid key came with the request."""

    code = "UNAUTHORIZED"


class InsufficientCredits(CallerError):
    """The account cannot pay for this."""

    code = "INSUFFICIENT_CREDITS"


class Forbidden(CallerError):
    """The key, token or reference does not allow this."""

    code = "FORBIDDEN"


class NotFound(CallerError):
    """There is no such thing, or the caller may not know of it."""

    code = "NOT_FOUND"


class Gone(CallerError):
    """The thing was there, and is not any more."""

    code = "GONE"


class Conflict(CallerError):
    """The thing is in a state that does not allow this, now."""

    code = "CONFLICT"


class LostLease(Conflict):
    """The attempt belongs to somebody else now, or has ended: drop everything that was made for it."""

    code = "LOST_LEASE"


class TooLarge(CallerError):
    """More bytes than the limit that the message names."""

    code = "TOO_LARGE"


class TooSlow(CallerError):
    """The client has not sent in time what it announced."""

    code = "TOO_SLOW"


class TooMany(CallerError):
    """More calls, runs or bytes than the limit that the message names; `retry_after_s` is when to try again."""

    code = "TOO_MANY"

    def __init__(self, message: str, *, code: str, retry_after_s: float) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class InvalidConfig(PuploadError):
    """The configuration does not allow a start; the message lists every problem."""

    code = "INVALID_CONFIG"


class Unavailable(PuploadError):
    """Something that we stand on does not answer; the same call may go through later."""

    code = "UNAVAILABLE"


class DatabaseUnavailable(Unavailable):
    """PostgreSQL does not answer or broke the connection."""

    code = "DATABASE_UNAVAILABLE"


class StoreUnavailable(Unavailable):
    """The object store does not answer, or answers with a fault of its own."""

    code = "STORE_UNAVAILABLE"


class EngineUnavailable(Unavailable):
    """The Docker engine does not answer."""

    code = "ENGINE_UNAVAILABLE"


class ControllerUnavailable(Unavailable):
    """The controller does not answer."""

    code = "CONTROLLER_UNAVAILABLE"


class Defect(PuploadError):
    """A fault of this program: loud, never retried."""

    code = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Policy:
    """What an error class means outside: HTTP status, log level, and whether trying again can help."""

    status: int
    level: int
    retry: bool = False


_POLICIES: dict[type[PuploadError], Policy] = {
    PuploadError: Policy(500, logging.ERROR),
    CallerError: Policy(400, logging.INFO),
    Malformed: Policy(400, logging.INFO),
    InvalidRequest: Policy(422, logging.INFO),
    InvalidFlow: Policy(422, logging.INFO),
    Unauthorized: Policy(401, logging.INFO),
    InsufficientCredits: Policy(402, logging.INFO),
    Forbidden: Policy(403, logging.INFO),
    NotFound: Policy(404, logging.INFO),
    Gone: Policy(410, logging.INFO),
    Conflict: Policy(409, logging.INFO),
    TooLarge: Policy(413, logging.INFO),
    TooSlow: Policy(408, logging.INFO),
    TooMany: Policy(429, logging.INFO),
    Unavailable: Policy(503, logging.WARNING, retry=True),
    Defect: Policy(500, logging.ERROR),
}


def policy_of(error: PuploadError) -> Policy:
    """The policy of the nearest class in the table, from the error's own class upwards."""
    return next(_POLICIES[cls] for cls in type(error).__mro__ if cls in _POLICIES)
