"""Content and messages for the tests of PutFiles."""

from __future__ import annotations

import random

from pachproto import pfs_pb2, pfsd_pb2

FilePut = pfsd_pb2.FilePut
BODY = random.Random(11).randbytes(6_000_000)


def request(at: pfs_pb2.Commit, *files: pfsd_pb2.FilePut) -> pfsd_pb2.PutFilesRequest:
    return pfsd_pb2.PutFilesRequest(commit=at, files=files)
