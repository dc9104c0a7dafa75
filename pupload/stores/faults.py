"""Faults of S3 clients in our own terms: the one place where they are translated.

No message repeats what the client said, which may hold an address with a signature.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from pupload.errors import Defect, Forbidden, InvalidRequest, NotFound, PuploadError, StoreUnavailable
from pupload.stores.base import StoreAddress

_PASSING = frozenset(
    {"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "XMinioServerNotInitialized"}
)
_CLOCK = "RequestTimeTooSkewed"
_MOST_APART = timedelta(minutes=5)


@contextmanager
def translated(address: StoreAddress, about: str) -> Iterator[None]:
    """Turns what an S3 client raises inside into our errors; `about` says what was tried, such as `read a/b`."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        raise refusal(address, about, status_of(error), _CLOCK if _is_of_another_time(error) else code) from error
    except (HTTPClientError, IncompleteReadError, BotoConnectionError) as error:
        with refused_connections(address):
            if isinstance(error.__context__, PuploadError):
                raise error.__context__ from None
        raise unreachable(address, about, type(error).__name__) from error
    except (ResponseParserError, LookupError, TypeError, ValueError, AttributeError) as error:
        # What is no answer of S3, or lacks what every one has. Its words go no further.
        raise StoreUnavailable(
            f"store {address.name!r} at {address.endpoint} does not answer as S3 does: could not {about} "
            f"({type(error).__name__}). Check that Endpoint is that of an S3 server"
        ) from error
    except BotoCoreError as error:
        raise Defect(f"store {address.name!r}: could not {about} ({type(error).__name__})") from error


@contextmanager
def refused_connections(address: StoreAddress) -> Iterator[None]:
    """Turns the refusal of the address's guard into an error about the store."""
    try:
        yield
    except InvalidRequest as error:
        raise Forbidden(
            f"store {address.name!r} at {address.endpoint} is not asked: {error}; name a store of the public internet, "
            "or let the operator add it to url_allow",
            code="STORE_NOT_ALLOWED",
        ) from error


def status_of(error: ClientError) -> int:
    """The HTTP status of the server's answer; 0 where it had none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _is_of_another_time(error: ClientError) -> bool:
    """True for a refusal that our clock explains, told or not: an answer to HEAD has no body to tell it in.

    Source: Amazon S3, RequestTimeTooSkewed: more than 15 minutes; rclone allows 5.
    """
    if status_of(error) not in {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN}:
        return False
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    with suppress(ValueError, TypeError):
        return abs(datetime.now(UTC) - parsedate_to_datetime(str(headers.get("date", "")))) > _MOST_APART
    return False


def unreachable(address: StoreAddress, about: str, why: str) -> StoreUnavailable:
    """The error for a server that does not answer."""
    return StoreUnavailable(
        f"store {address.name!r} at {address.endpoint} does not answer: could not {about} ({why}). "
        "Check that it runs and that Endpoint and Secure are right"
    )


def refusal(address: StoreAddress, about: str, status: int, code: str) -> PuploadError:
    """The error for an answer that is no success."""
    place = f"store {address.name!r} at {address.endpoint}"
    if code == _CLOCK:
        return StoreUnavailable(f"{place}: its clock and ours differ by too much; set the clocks")
    if code in _PASSING or status in {0, HTTPStatus.TOO_MANY_REQUESTS} or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return StoreUnavailable(f"{place} failed: could not {about} ({status} {code})")
    if code == "NoSuchBucket":
        return missing_bucket(address)
    if status == HTTPStatus.NOT_FOUND:
        return NotFound(f"{place}: could not {about}: there is no such object in bucket {address.bucket!r}")
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return Forbidden(
            f"{place} refuses to {about} ({status} {code}). Check AccessKey and SecretKey, and that they may use "
            f"bucket {address.bucket!r}"
        )
    return Defect(f"{place} did not take our request to {about} ({status} {code})")


def missing_bucket(address: StoreAddress) -> NotFound:
    """The error for a bucket that is not there."""
    return NotFound(
        f"store {address.name!r} at {address.endpoint} has no bucket {address.bucket!r}: create it, or set BucketName"
    )
