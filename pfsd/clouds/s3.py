"""S3: the client, and errors in words. boto3 is imported when the first client is made.

Endpoint, region and credentials come from where boto3 takes them: the AWS variables and files.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pfsd.errors import InvalidError, NotFoundError, PfsError, RefusedError, UnavailableError

CONNECT_SECONDS = 5
READ_SECONDS = 20
"""For which a store may stay silent."""
CONNECTIONS = 32
"""Requests that one client makes at a time."""

_making = threading.Lock()  # a boto3 session is not made for many threads; the clients that come out of it are


@functools.cache
def client() -> Any:
    """The S3 client of this process. It makes each request once: its user decides what is tried again.

    Raises UnavailableError when the AWS settings can't be used.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    common = {
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "max_pool_connections": CONNECTIONS,
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "signature_version": "s3v4",
        "request_checksum_calculation": "when_required",  # not all stores know the newer ones
        "response_checksum_validation": "when_required",
    }
    try:
        with _making:
            session = boto3.session.Session()
            region = os.environ.get("AWS_REGION") or session.region_name or "us-east-1"
            made = session.client("s3", region_name=region, config=Config(**common))
            if "amazonaws.com" not in made.meta.endpoint_url:  # other stores rarely have a host name for each bucket
                made = session.client(
                    "s3", region_name=region, config=Config(**common, s3={"addressing_style": "path"})
                )
    except (BotoCoreError, ValueError) as error:
        raise RefusedError(f"the AWS settings can't be used: {error}") from error
    return made


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn a failed request for what is at `url` into a PfsError.

    NotFoundError where a key or bucket is missing, RefusedError where trying again is of no use, else UnavailableError.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        raise refused(url, error.response) from error
    except BotoCoreError as error:
        raise unreachable(url, error) from error
    except HTTPError as error:  # botocore lets it through where a body ends too early
        raise UnavailableError(f"an answer of {url} broke off") from error
    except OSError as error:
        raise UnavailableError(f"{url} does not answer: {error}") from error


_UNKNOWN_KEY = "does not know the access key: look at AWS_ACCESS_KEY_ID or the credentials file"
_REFUSED = {
    "InvalidAccessKeyId": _UNKNOWN_KEY,
    "XAdminUserNotFound": _UNKNOWN_KEY,  # versitygw says it so
    "SignatureDoesNotMatch": "says that the secret key is wrong: look at AWS_SECRET_ACCESS_KEY or the credentials file",
    "ExpiredToken": "says that the credentials have expired: renew them",
    "InvalidToken": "does not take the session token: look at AWS_SESSION_TOKEN",
    "RequestTimeTooSkewed": "says that this machine's clock is wrong: set it",
    "AccessDenied": "is forbidden to these credentials: give them the right to it, or use others",
    "403": "is forbidden to these credentials: look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and their rights",
}
_PASSING = (408, 409, 425, 429)
"""HTTP statuses that say no for now."""
_ELSEWHERE = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}


def refused(url: str, response: Any) -> PfsError:
    """What a store's error answer, as botocore gives it, means for a user."""
    answer = response.get("Error", {})
    code = str(answer.get("Code", ""))
    if code in _REFUSED:
        return RefusedError(f"{url} {_REFUSED[code]}")
    said = str(answer.get("Message") or "no reason was given").rstrip(".")
    if code in _ELSEWHERE or (code == "AuthorizationQueryParametersError" and "region" in said):
        headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        region = answer.get("Region") or headers.get("x-amz-bucket-region")
        where = f"is in the region {region}" if region else "is in another region"
        return RefusedError(f"{url} {where}: set AWS_REGION")
    if code == "NoSuchBucket":
        return NotFoundError(f"{url}: there is no such bucket")
    if code in ("NoSuchKey", "404"):
        return NotFoundError(f"{url} is not there")
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
    lasts = isinstance(status, int) and 400 <= status < 500 and status not in _PASSING
    kind = RefusedError if lasts else UnavailableError
    asked = str(response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after", ""))
    return kind(f"{url} answers {status or code}: {said}", retry_after=int(asked) if asked.isdecimal() else 0)


def unreachable(url: str, error: Exception) -> PfsError:
    """What a request that got no answer, a botocore error, means for a user."""
    from botocore import exceptions

    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return RefusedError(f"there are no credentials for {url}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if isinstance(error, exceptions.CredentialRetrievalError | exceptions.TokenRetrievalError):
        return RefusedError(f"the credentials for {url} can't be had: {error}")
    if isinstance(error, exceptions.ParamValidationError):
        return InvalidError(f"{url} can't be used: {error}")
    if isinstance(error, exceptions.IncompleteReadError | exceptions.ResponseStreamingError):
        return UnavailableError(f"an answer of {url} broke off")
    if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError):
        return UnavailableError(f"{url} does not answer at {client().meta.endpoint_url}")
    return RefusedError(f"{url} can't be used: {error}")
