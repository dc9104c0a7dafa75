"""The client of a controller, for programs and for the command line: `Client`, and `AsyncClient` for event loops."""

from pupload.client.backoff import Backoff
from pupload.client.blocking import Client, Job, Output, PausedResult, RunResult, RunStream, StepThrough
from pupload.client.client import AsyncClient
from pupload.client.errors import (
    ApiError,
    BadRequest,
    BadSignature,
    CallTimeout,
    IdempotencyConflict,
    InsufficientCredits,
    NotAllowed,
    NotAuthorized,
    NotAwaited,
    NotWaitingForTools,
    OverLimit,
    RunFailed,
    ServerFault,
    ServerUnreachable,
    StaleTree,
    ToolCallLimitError,
    ToolResultsMismatch,
    TooManyCalls,
    UnknownThing,
    Unprocessable,
    UploadBroken,
    UploadEnded,
    WrongState,
)
from pupload.client.following import AsyncRunStream
from pupload.client.how import How, Input, Json, ToolHandler
from pupload.client.jobs import AsyncJob
from pupload.client.results import AsyncOutput, AsyncPausedResult, AsyncRunResult
from pupload.client.stepping import AsyncStepThrough, Step
from pupload.client.webhooks import verify_webhook
from pupload.flow.overrides import Override
from pupload.flow.request import Attachment, EvalsWish, FileInput

__all__ = [
    "ApiError",
    "AsyncClient",
    "AsyncJob",
    "AsyncOutput",
    "AsyncPausedResult",
    "AsyncRunResult",
    "AsyncRunStream",
    "AsyncStepThrough",
    "Attachment",
    "Backoff",
    "BadRequest",
    "BadSignature",
    "CallTimeout",
    "Client",
    "EvalsWish",
    "FileInput",
    "How",
    "IdempotencyConflict",
    "Input",
    "InsufficientCredits",
    "Job",
    "Json",
    "NotAllowed",
    "NotAuthorized",
    "NotAwaited",
    "NotWaitingForTools",
    "Output",
    "OverLimit",
    "Override",
    "PausedResult",
    "RunFailed",
    "RunResult",
    "RunStream",
    "ServerFault",
    "ServerUnreachable",
    "StaleTree",
    "Step",
    "StepThrough",
    "TooManyCalls",
    "ToolCallLimitError",
    "ToolHandler",
    "ToolResultsMismatch",
    "UnknownThing",
    "Unprocessable",
    "UploadBroken",
    "UploadEnded",
    "WrongState",
    "verify_webhook",
]  # fmt: skip
