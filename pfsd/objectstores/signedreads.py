"""Reading objects of S3 at signed addresses: needs neither credentials nor boto3."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable

import urllib3

from pfsd.clouds import s3
from pfsd.errors import UnavailableError

CONNECTIONS = 16


@functools.cache
def _pool() -> urllib3.PoolManager:
    settings: dict[str, object] = {
        "maxsize": CONNECTIONS,
        "timeout": urllib3.Timeout(connect=s3.CONNECT_SECONDS, read=s3.READ_SECONDS),
        "retries": False,
    }
    if bundle := os.environ.get("AWS_CA_BUNDLE"):
        settings["ca_certs"] = bundle
    return urllib3.PoolManager(**settings)  # type: ignore[arg-type]


def read_signed(address: str, url: str, offset: int, size: int) -> bytes:
    """Up to `size` bytes from `offset` of the object at a signed address, fewer at its end; made once.

    Raises NotFoundError, RefusedError and UnavailableError, which call the store `url`.
    """
    parts: list[bytes] = []
    stream_signed(address, url, offset, size, size, parts.append)
    return b"".join(parts)


def stream_signed(address: str, url: str, offset: int, size: int, piece: int, take: Callable[[bytes], None]) -> None:
    """The same as they come, in pieces of `piece` bytes, the last of which may be shorter."""
    try:
        answer = _pool().request(
            "GET", address, headers={"Range": f"bytes={offset}-{offset + size - 1}"}, preload_content=False
        )
        try:
            if answer.status == 416:
                answer.drain_conn()
                return  # the object ends before
            if answer.status != 206:
                raise s3.refused(url, _error(answer))
            if not answer.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
                raise UnavailableError(f"{url} answers with other bytes than were asked for")
            left = int(answer.headers["Content-Length"])
            while left:
                data = answer.read(min(piece, left), decode_content=False)
                if len(data) != min(piece, left):
                    raise UnavailableError(f"an answer of {url} broke off")
                left -= len(data)
                take(data)
        finally:
            if answer.length_remaining:
                answer.close()  # there is no way to use the connection again
            answer.release_conn()
    except urllib3.exceptions.HTTPError as error:
        host = urllib3.util.parse_url(address)
        reason = "broke off an answer" if isinstance(error, urllib3.exceptions.ProtocolError) else "does not answer"
        raise UnavailableError(f"{url} {reason} at {host.scheme}://{host.netloc}") from error


def _error(answer: urllib3.BaseHTTPResponse) -> dict[str, object]:
    """An error answer as botocore would give it."""
    text = answer.data.decode(errors="replace")
    fields = dict(re.findall(r"<(Code|Message|Region)>([^<]*)<", text))
    return {
        "Error": {"Code": str(answer.status), **fields},
        "ResponseMetadata": {
            "HTTPStatusCode": answer.status,
            "HTTPHeaders": {name.lower(): value for name, value in answer.headers.items()},
        },
    }
