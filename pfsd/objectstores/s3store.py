"""Packs in S3, or in anything that speaks as it does.

Below the prefix lie `README.txt`, for people, and `v1/`: all that this version of the format has. `v1/OWNER` names the
root whose packs these are; every other root is refused.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import logging
import os
import pathlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, TypeVar

from pfsd import clouds
from pfsd.clouds import s3
from pfsd.errors import CorruptError, NotFoundError, PfsError, StateError, UnavailableError
from pfsd.objectstores.objectstore import SIGNED_SECONDS, Tally
from pfsd.objectstores.signedreads import read_signed
from pfsd.runtime.persistence import persistently, streamed

log = logging.getLogger(__name__)

T = TypeVar("T")

VERSION = "v1"
"""The format of what is stored, a part of every name."""
PART_BYTES = 8 << 20
"""Larger files travel in parts of this size, several at a time."""
PARTS_AT_ONCE = 8
PATIENCE_SECONDS = 75.0
"""For which a request is made again where the store does not answer."""
START_PATIENCE_SECONDS = 3.0
PUT_PATIENCE_SECONDS = 2.0
"""For a request that stores: who puts a pack tries it all again, and says meanwhile what is wrong."""
LISTED_AT_ONCE = 1000

README = """\
This belongs to pfsd, a versioned file system for data. It holds the content of one root in packs:

  {version}/OWNER            the id of the root whose packs these are
  {version}/packs/XX/PACK    32 MiB each, or less: pieces of files, each stored once, in the order of their coming

Names, commits and branches are in the root's own directory, on the machine where pfsd runs: without it the packs can't
be put together to files again. Change or remove nothing here by hand. ARCHITECTURE.md of pfsd gives the format.
"""


class S3ObjectStore:
    """Objects below a prefix of a bucket."""

    is_remote = True

    def __init__(self, url: str) -> None:
        """Raises InvalidError for what is not an address in S3, RefusedError where AWS settings can't be used."""
        place = clouds.parse(url, "s3")
        self.url = place.at(place.key.strip("/")).url
        self._bucket = place.bucket
        self._prefix = place.key.strip("/") + "/" if place.key.strip("/") else ""
        self._client = s3.client()
        self._closing = threading.Event()
        self._parts = ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="s3-part")
        self._patience = START_PATIENCE_SECONDS
        self._claiming = threading.Lock()
        self.tally = Tally()
        self._unclaimed = ""
        self._broken: deque[tuple[str, str]] = deque()
        """Uploads in parts, each a key and an id, that broke off: what has gone up is to be removed."""

    def claim(self, owner: str, *, take_over: bool = False) -> None:
        """Let the root with the id `owner` keep its packs here; looks whether the store can be used at all.

        Raises StateError where another root does, unless it is to be taken over, NotFoundError where there is no
        bucket, UnavailableError, after a few seconds, where the store can't be used.
        """
        text = f"pfsd {VERSION} {owner}\n"
        present = self._owner()
        if present is None:
            self._put("README.txt", README.format(version=VERSION).encode())
            self._put(f"{VERSION}/OWNER", text.encode(), IfNoneMatch="*")
            present = self._owner()
        elif present != text and take_over:
            log.warning("%s is taken over from %s", self.url, present.strip())
            self._put(f"{VERSION}/OWNER", text.encode())
            present = text
        if present != text:
            raise StateError(
                f"{self.url} has the packs of another root ({(present or '').strip()}): name another prefix, "
                "or, when that root is given up, start once with --take-over"
            )
        read_signed(self.signed("OWNER"), self.url, 0, len(text))  # a wrong region shows only here
        self._abort_uploads()
        self._patience = PATIENCE_SECONDS

    def claim_later(self, owner: str) -> None:
        """Claim for a root whose packs were here, and which can't be asked for now, before anything is changed."""
        self._unclaimed = owner

    def _claim_now(self) -> None:
        with self._claiming:
            if self._unclaimed:
                self.claim(self._unclaimed)
                self._unclaimed = ""

    def check_owner(self, owner: str) -> None:
        """For readers: raises StateError where these are not the packs of the root `owner`."""
        if self._owner() != f"pfsd {VERSION} {owner}\n":
            raise StateError(f"{self.url} does not have the packs of the root {owner}")
        self._patience = PATIENCE_SECONDS

    def put_file(self, name: str, source: pathlib.Path) -> None:
        self._claim_now()
        key = self._key(name)
        with source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= PART_BYTES:
                self._put(f"{VERSION}/{name}", file.read())
            else:
                self._put_parts(key, file.fileno(), size)
        source.unlink()

    def read(self, name: str, offset: int, size: int) -> bytes:
        data = self.read_fresh(name, offset, size)
        if len(data) != size:
            raise CorruptError(f"object {name} in {self.url} ends before byte {offset + size}")
        return data

    def read_fresh(self, name: str, offset: int, size: int) -> bytes:
        return self._wanted(name, lambda: self._range(name, offset, size))

    def stream(self, name: str, offset: int, size: int, piece: int, take: Callable[[bytes], None]) -> None:
        try:
            self.stream_present(name, offset, size, piece, take, self._patience)
        except NotFoundError as error:
            raise self._missing(name) from error

    def stream_present(
        self, name: str, offset: int, size: int, piece: int, take: Callable[[bytes], None], patience: float
    ) -> None:
        """The same for what may not be there, which raises NotFoundError; tried for `patience` seconds at most."""

        def begin(done: int, took: Callable[[bytes], None]) -> None:
            with self.tally.request(), s3.explained(self.url):
                self._pieces(name, offset + done, size - done, piece, took)

        streamed(begin, take, patience, self._closing)

    def forget(self, name: str, offset: int, size: int) -> bool:
        return False

    def size(self, name: str) -> int:
        head = self._wanted(name, lambda: self._client.head_object(Bucket=self._bucket, Key=self._key(name)))
        return int(head["ContentLength"])

    def names(self, prefix: str) -> Iterator[str]:
        start = self._key(prefix.rstrip("/") + "/")
        asked: dict[str, Any] = {"Bucket": self._bucket, "Prefix": start, "MaxKeys": LISTED_AT_ONCE}
        while True:
            page = self._again(lambda: self._client.list_objects_v2(**asked))
            for item in page.get("Contents", ()):
                yield item["Key"].removeprefix(f"{self._prefix}{VERSION}/")
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def delete(self, name: str) -> None:
        self._claim_now()
        self._again(lambda: self._client.delete_object(Bucket=self._bucket, Key=self._key(name)))

    def disown(self, names: Iterable[str]) -> None:
        """Remove these objects, all that there are, and what says whose they are: another root may come."""
        for name in (*names, "OWNER"):
            self.delete(name)
        self._again(lambda: self._client.delete_object(Bucket=self._bucket, Key=f"{self._prefix}README.txt"))

    def signed(self, name: str) -> str:
        """An address at which everybody can read an object for SIGNED_SECONDS."""
        address: str = self._client.generate_presigned_url(
            "get_object", Params={"Bucket": self._bucket, "Key": self._key(name)}, ExpiresIn=SIGNED_SECONDS
        )
        return address

    def close(self) -> None:
        self._closing.set()
        self._parts.shutdown(wait=False)

    # --- requests

    def _key(self, name: str) -> str:
        return f"{self._prefix}{VERSION}/{name}"

    def _again(self, call: Callable[[], T], patience: float | None = None) -> T:
        def attempt() -> T:
            with self.tally.request(), s3.explained(self.url):
                return call()

        return persistently(attempt, self._patience if patience is None else patience, self._closing)

    def _wanted(self, name: str, call: Callable[[], T]) -> T:
        """Like `_again`, for what reads an object that has to be there."""
        try:
            return self._again(call)
        except NotFoundError as error:
            raise self._missing(name) from error

    def _missing(self, name: str) -> CorruptError:
        return CorruptError(f"object {name} is missing from {self.url}")

    def _range(self, name: str, offset: int, size: int) -> bytes:
        parts: list[bytes] = []
        self._pieces(name, offset, size, size, parts.append)
        return b"".join(parts)

    def _pieces(self, name: str, offset: int, size: int, piece: int, take: Callable[[bytes], None]) -> None:
        from botocore.exceptions import ClientError

        if size <= 0:
            return
        try:
            answer = self._client.get_object(
                Bucket=self._bucket, Key=self._key(name), Range=f"bytes={offset}-{offset + size - 1}"
            )
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("InvalidRange", "416"):
                return  # the object ends before
            raise
        with answer["Body"] as body:
            if not str(answer.get("ContentRange", "")).startswith(f"bytes {offset}-"):
                raise UnavailableError(f"{self.url} answers with other bytes than were asked for")
            left = answer["ContentLength"]
            while left:
                data: bytes = body.read(min(piece, left))
                if len(data) != min(piece, left):
                    raise UnavailableError(f"an answer of {self.url} broke off")
                left -= len(data)
                take(data)

    def _put(self, key: str, data: bytes, **options: Any) -> None:
        """Store a small object. With `IfNoneMatch`, one that is there already stays."""
        from botocore.exceptions import ClientError

        def put() -> None:
            try:
                self._client.put_object(
                    Bucket=self._bucket, Key=self._prefix + key, Body=data, ContentMD5=_md5(data), **options
                )
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") not in ("PreconditionFailed", "412"):
                    raise

        self._again(put, PUT_PATIENCE_SECONDS)

    def _put_parts(self, key: str, fd: int, size: int) -> None:
        target = {"Bucket": self._bucket, "Key": key}
        begin = functools.partial(self._client.create_multipart_upload, **target)
        upload = self._again(begin, PUT_PATIENCE_SECONDS)["UploadId"]

        def part(number: int) -> dict[str, object]:
            data = os.pread(fd, PART_BYTES, (number - 1) * PART_BYTES)
            answer = self._again(
                lambda: self._client.upload_part(
                    **target, UploadId=upload, PartNumber=number, Body=data, ContentMD5=_md5(data)
                ),
                PUT_PATIENCE_SECONDS,
            )
            return {"PartNumber": number, "ETag": answer["ETag"]}

        parts: list[Future[dict[str, object]]] = []
        try:
            parts += (self._parts.submit(part, number) for number in range(1, -(-size // PART_BYTES) + 1))
            listed = {"Parts": [each.result() for each in parts]}
            self._again(
                lambda: self._client.complete_multipart_upload(**target, UploadId=upload, MultipartUpload=listed),
                PUT_PATIENCE_SECONDS,
            )
        except BaseException as error:
            for each in parts:
                each.cancel()
            wait(parts)
            self._broken.append((key, upload))
            if isinstance(error, RuntimeError):
                raise UnavailableError(f"{self.url} is being closed") from error
            raise
        self._abort_broken()

    def _abort_broken(self) -> None:
        """Remove what has gone up of uploads that broke off; what can't be removed now, the next start removes."""
        with suppress(IndexError, PfsError):
            while True:
                self._abort(*self._broken.popleft())

    def _abort(self, key: str, upload: str) -> None:
        asked = {"Bucket": self._bucket, "Key": key, "UploadId": upload}
        with suppress(NotFoundError):  # it is gone already
            self._again(functools.partial(self._client.abort_multipart_upload, **asked), PUT_PATIENCE_SECONDS)

    def _abort_uploads(self) -> None:
        """Remove what a former run has uploaded in part: nothing can go on with it."""
        asked = {"Bucket": self._bucket, "Prefix": self._key("packs/")}
        while True:
            found = self._again(functools.partial(self._client.list_multipart_uploads, **asked))
            for upload in found.get("Uploads", ()):
                log.info("removing the parts of %s that were uploaded and never put together", upload["Key"])
                self._abort(upload["Key"], upload["UploadId"])
            if not found.get("IsTruncated"):
                return
            asked |= {"KeyMarker": found["NextKeyMarker"], "UploadIdMarker": found.get("NextUploadIdMarker", "")}

    def _owner(self) -> str | None:
        """What OWNER reads; None where there is none. Raises NotFoundError where there is no bucket."""
        key = self._key("OWNER")
        try:
            answer = self._again(lambda: self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read())
        except NotFoundError:
            self._again(lambda: self._client.list_objects_v2(Bucket=self._bucket, MaxKeys=1))  # is there a bucket?
            return None
        return bytes(answer).decode(errors="replace")


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
