"""How an attempt ends without a result."""

from pupload.errors import PuploadError
from pupload.flow.plan import Reason


class NodeFailure(PuploadError):
    """The attempt has failed. `final`: another try cannot help."""

    code = "NODE_FAILED"

    def __init__(self, reason: Reason, message: str, *, final: bool = False, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.final = final
        self.exit_code = exit_code


class Stopped(Exception):
    """The attempt was told to end."""
