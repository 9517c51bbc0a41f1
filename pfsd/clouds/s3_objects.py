"""Objects in S3 and in what speaks as it does, with the AWS settings of this process (`pfsd.clouds.s3`)."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from boto3.s3.transfer import TransferConfig

from pfsd.clouds import BLOCK_BYTES, PART_BYTES, Objects, Place, Readable, checked, patiently, s3


class _S3Objects:
    def keys(self, below: Place) -> Iterator[str]:
        asked: dict[str, Any] = {"Bucket": below.bucket, "Prefix": below.key}
        while True:
            page = patiently(s3.explained, below.url, lambda: s3.client().list_objects_v2(**asked))
            for item in page.get("Contents", ()):
                yield item["Key"]
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def blocks(self, place: Place) -> Iterator[bytes]:
        whole = {"Bucket": place.bucket, "Key": checked(place).key}
        head = patiently(s3.explained, place.url, lambda: s3.client().head_object(**whole))
        for at in range(0, head["ContentLength"], BLOCK_BYTES):
            wanted = f"bytes={at}-{min(at + BLOCK_BYTES, head['ContentLength']) - 1}"
            asked = {**whole, "Range": wanted, "IfMatch": head["ETag"]}
            yield patiently(s3.explained, place.url, functools.partial(_body, asked))

    def put(self, place: Place, content: Readable, size: int) -> None:
        with s3.explained(place.url):
            if size <= PART_BYTES:
                s3.client().put_object(Bucket=place.bucket, Key=place.key, Body=content.read())
                return
            transfer = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False)
            s3.client().upload_fileobj(content, place.bucket, place.key, Config=transfer)


def _body(asked: dict[str, Any]) -> bytes:
    with s3.client().get_object(**asked)["Body"] as body:
        data: bytes = body.read()
    return data


OBJECTS: Objects = _S3Objects()
