"""Whatever a client sends to whatever method: it is told what is wrong with it, and nobody else notices.

`PFSD_FUZZ=100 pytest tests/pfsd/services/test_fuzz_calls.py` tries a hundred times as many requests, others each time.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator
from random import Random
from typing import Any

import grpc
import pytest
from blake3 import blake3
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.empty_pb2 import Empty
from hypothesis import given
from hypothesis import strategies as st

from pachproto import edits_pb2, grpc_health_pb2, health_pb2, pfs_pb2, pfsd_pb2, pps_pb2, ppsd_pb2, versionpb_pb2
from tests.support.daemons import Daemon, commit, running
from tests.support.fuzzing import Messages, examples
from tests.support.pipelines import jobs, spec, until

MODULES = (pfs_pb2, pfsd_pb2, edits_pb2, pps_pb2, ppsd_pb2, versionpb_pb2, health_pb2, grpc_health_pb2)
METHODS = [
    method
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
METHODS_BY_NAME = {method.full_name: method for method in METHODS}
CALL_SECONDS = 60.0
"""Only what hangs takes longer."""
STREAM_SECONDS = 0.1
"""Streams that go on are left then."""
WAITS = {"pps.API.InspectJob"}
"""Calls with one answer that may wait for something to happen."""
DEFECTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
BAD_LOG = re.compile(r"Traceback| ERROR | CRITICAL |never retrieved|was never awaited")


DONE, OPEN, JOB, SALT = (letter * 32 for letter in "DOJS")
"""Stand in requests for ids that the daemon draws, which are as long."""
HASH = blake3(b"a\n").hexdigest()
ROOT = b"R" * 32
"""Stands for the root of a directory."""
RAW = [bytes.fromhex(HASH), ROOT, b"\0" * 32, b"", b"x"]
ENTRIES = [
    b"\1\0\0\0",  # an empty file
    b"\1\2\0\1" + RAW[0] + b"\2",  # a file of one chunk
    b"\1\5\0\1" + RAW[0] + b"\5",  # which is not so large
    b"\1\5\0\1" + RAW[0] + b"\2",
    b"\1\0\0\1" + RAW[0] + b"\0",
    b"\1\x80\x80\x80\x80\x80\x80\x80\x80\x40\0\1" + RAW[0] + b"\x80\x80\x80\x80\x80\x80\x80\x80\x40",
    b"\1" + b"\x80" * 100 + b"\1\0\0",
    b"\1\5\0\1" + RAW[2] + b"\5",  # of a chunk that nobody has
    b"\1\5\1\x20" + ROOT,  # a directory in the place of a list of chunks
    b"\1\5\1\x20" + RAW[2],
    b"\2" + ROOT + b"\0\0\0",  # a directory that holds more
    b"\2" + ROOT + b"\xd2\x0f\2\1",
    b"\2" + RAW[0] + b"\0\0\0",  # no directory
    b"\2" + RAW[2] + b"\0\0\0",
    b"\2" + ROOT,
    b"\3",
    b"\3\1a",  # a link, to a file, and in a circle
    b"\3\1a\5LINKLINK",
    b"\4\1\0",  # a named pipe
    b"\1\0\0\0\1\xed\3",  # an executable file
    b"\2" + ROOT + b"\xd2\x0f\2\1\6\1\7" + ROOT,  # a directory with links, as it is not
    b"",
]
ATTRIBUTES = [
    b"",
    b"\1\xed\3",
    b"\2\1\2\3\4",
    b"\4\1\1a\1b\5LINKLINK",
    b"\6\1",
    b"\7" + ROOT,
    b"\1",
    b"\xff",
    b"\1\xff\xff\3",
]
REPOS = [*["in"] * 9, "kept", "kept", "other", "__spec__"]
BRANCHES = ["master", "open", "new", DONE, ""]
COMMITS = [*["master", "open", DONE, OPEN] * 3, "master~1", "open^", DONE[:8], ""]
PATHS = ["a", "/a", "d", "d/b", "/", "", "new", "d/new/x", "a/x"]
KEYS = ["k", "derived/x", "derived/kept", "pps/", "pps/log", "other/x", "\0"]
MESSAGES = Messages(
    {
        "Repo.name": REPOS,
        "Pipeline.name": ["kept", "kept", "kept", "new", "in"],
        "AtomInput.name": ["", "x", "y", "z"],
        "AtomInput.glob": ["*", "/*", "/", "["],
        "AtomInput.commit": [""],
        "CreateJobRequest.pipeline": [],
        "AtomInput.repo": REPOS,
        "CronInput.name": ["tick"],
        "CronInput.spec": ["@every 1h", "* * * * *", "@every 1e99h", "0 0 31 2 *", "9" * 500 + " * * * *"],
        "CreatePipelineRequest.pipeline": [],
        "CreatePipelineRequest.transform": [],
        "CreatePipelineRequest.input": [],
        "CreatePipelineRequest.update": [True, False],
        "Transform.cmd": ["true", "true", "no-such-program"],
        "Transform.stdin": ["", "x"],
        "accept_return_code": [0, 1, 255, 256],
        "repo": REPOS,
        "branch": BRANCHES,
        "output_branch": ["", "master", "x"],
        "from_commit": ["", "", DONE, "master"],
        "commit": ["", "", DONE],
        "Commit.id": COMMITS,
        "Job.id": [JOB, JOB, JOB, "0" * 32],
        "path": PATHS,
        "from": PATHS,
        "to": PATHS,
        "make_directory": PATHS,
        "make_directories": PATHS,
        "also": PATHS,
        "attributes": ATTRIBUTES,
        "other": [b"", b"", *ENTRIES],
        "pattern": ["*", "/*", "**", "d/*", "{a,b}", "[a", "/"],
        "ChunkReference.hash": RAW,
        "Object.hash": [HASH, HASH[:-1], "00" * 32, "zz"],
        "hashes": RAW,
        "root": RAW,
        "constant": [0, 1, 2, 1001, 2**63, 2**64 - 1],
        "coefficient": [0.0, 0.5, 1.0, -1.0, float("nan"), float("inf"), 1e300],
        "url": ["", "", "", "http://127.0.0.1:9/x", "http://[::1", "gopher://x", "http://\0", "http://a b/"],
        "URL": ["", "x", "http://127.0.0.1:9/", "s3://"],
        "tags": ["t", "u"],
        "PutTreeRequest.tag": ["t", "u"],
        "Tag.name": ["t", "u", "datum/"],
        "tag": ["t", "u", ""],
        "order": ["o", "p", ""],
        "base": ["", "t"],
        "result": ["", "t", "r"],
        "prefix": ["t", "", "pps/logs/kept", "x"],
        "LeaseRequest.name": ["l", "ppsd"],
        "key": KEYS,
        "delete": KEYS,
        "delete_prefix": ["k", "other/"],
        "entry": ENTRIES,
        "salt": [SALT, SALT, ""],
        "worker_id": ["w", "kept-0"],
        "Hello.pipeline": ["kept"],
        "session": ["s", ""],
        "MountMessage.attach": [],
        "writes": [OPEN, ""],
        "memory": ["", "64M", "1e9", "9" * 400 + "E", "1KiB"],
        "size_bytes": [0, 1, 10, 2**62],
        "delimiter": [0, 1, 2, 3, -1],
        "all": [False, False, False, False, True],
        "force": [False, True],
    }
)


class World:
    """A daemon with something of everything."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.ids: dict[str, str] = {}
        self.root = ROOT
        self.read_to = 0
        self.restore()

    def restore(self) -> None:
        """Make what is not there, or was deleted by a request."""
        daemon = self.daemon
        if not self.exists(daemon.pfs.InspectRepo, pfs_pb2.InspectRepoRequest(repo=pfs_pb2.Repo(name="in"))):
            daemon.create_repo("in")
        if not self.is_finished("master"):
            for branch in ("master", "open"):
                self.exists(daemon.pfs.DeleteBranch, pfs_pb2.DeleteBranchRequest(repo={"name": "in"}, branch=branch))
            self.ids[DONE] = daemon.commit_files("in", {"a": b"a\n", "d/b": b"b\n" * 1000}).id
        if self.is_finished("open") is not False:
            self.exists(daemon.pfs.DeleteBranch, pfs_pb2.DeleteBranchRequest(repo={"name": "in"}, branch="open"))
            self.ids[OPEN] = daemon.start_commit("in", "open").id
        self._restore_pipeline()

    def _restore_pipeline(self) -> None:
        daemon, kept = self.daemon, pps_pb2.InspectPipelineRequest(pipeline=pps_pb2.Pipeline(name="kept"))
        if not self.exists(daemon.pps.InspectPipeline, kept):
            self.exists(daemon.pfs.DeleteRepo, pfs_pb2.DeleteRepoRequest(repo={"name": "kept"}, force=True))
            daemon.pps.CreatePipeline(spec("kept", stdin=["cp /pfs/in/* /pfs/out/ || true"]))
            until(lambda: jobs(daemon, "kept"))
            self.ids[JOB] = jobs(daemon, "kept")[0].job.id
        daemon.pps.StartPipeline(pps_pb2.StartPipelineRequest(pipeline=kept.pipeline))
        if not self.exists(daemon.pps.InspectJob, pps_pb2.InspectJobRequest(job=pps_pb2.Job(id=self.ids[JOB]))):
            commit_of = pps_pb2.AtomInput(repo="in", commit="master")
            again = pps_pb2.CreateJobRequest(pipeline=kept.pipeline, input=pps_pb2.Input(atom=commit_of))
            self.ids[JOB] = daemon.pps.CreateJob(again).id
        self.root = daemon.store.GetCommitTree(commit("in", "master")).root
        self.ids[SALT] = daemon.pps.InspectPipeline(kept).salt

    def exists(self, method: Any, request: Any) -> bool:
        """Whether a call finds what it is about."""
        try:
            method(request, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION):
                raise
            return False
        return True

    def is_finished(self, branch: str) -> bool | None:
        """None where there is no such branch."""
        request = pfs_pb2.InspectCommitRequest(commit=commit("in", branch))
        if not self.exists(self.daemon.pfs.InspectCommit, request):
            return None
        return bool(self.daemon.pfs.InspectCommit(request).HasField("finished"))

    def call(self, method: MethodDescriptor, requests: list[bytes]) -> grpc.StatusCode:
        """Call a method with these bytes; how it ended."""
        kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
        function = getattr(self.daemon.channel, kind)(f"/{method.containing_service.full_name}/{method.name}")
        seconds = STREAM_SECONDS if method.server_streaming or method.full_name in WAITS else CALL_SECONDS
        sent = [self.with_ids(data) for data in requests]
        failure = None
        try:
            answer = function(iter(sent) if method.client_streaming else sent[0], timeout=seconds)
            if method.server_streaming:
                for _ in answer:
                    pass
        except grpc.RpcError as error:
            failure = error
        code: grpc.StatusCode = grpc.StatusCode.OK if failure is None else failure.code()
        assert code not in DEFECTS, (method.full_name, failure)
        assert seconds != CALL_SECONDS or code is not grpc.StatusCode.DEADLINE_EXCEEDED, method.full_name
        return code

    def with_ids(self, data: bytes) -> bytes:
        """A request with the ids that stand for themselves."""
        for name, present in self.ids.items():
            data = data.replace(name.encode(), present.encode())
        return data.replace(ROOT, self.root)

    def check(self) -> None:
        """The daemon answers, and has not logged a defect."""
        self.restore()
        new = self.new_log()
        found = BAD_LOG.search(new)
        assert found is None, new[max(0, found.start() - 500) : found.start() + 6000]

    def new_log(self) -> str:
        """What the daemon has logged since the last time."""
        with self.daemon.log_file.open("rb") as file:
            file.seek(self.read_to)
            data = file.read()
        self.read_to += len(data)
        return data.decode(errors="replace")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root: pathlib.Path = tmp_path_factory.mktemp("fuzz") / "root"
    with running(root) as daemon:
        made = World(daemon)
        yield made
        daemon.pps.DeleteAll(Empty(), timeout=CALL_SECONDS)
        assert daemon.stop() == 0
        made_log = made.new_log()
        assert not BAD_LOG.search(made_log), made_log


@pytest.mark.parametrize("method", METHODS, ids=[method.full_name for method in METHODS])
def test_no_request_is_a_defect(world: World, method: MethodDescriptor) -> None:
    @examples(12)
    @given(number=st.integers(0, 2**64))
    def try_one(number: int) -> None:
        random = Random(f"{method.full_name} {number}")
        count = random.choice((1, 1, 2, 4, 0)) if method.client_streaming else 1
        world.call(method, [MESSAGES.encoded(random, method.input_type) for _ in range(count)])
        world.check()

    try_one()


@examples(40)
@given(number=st.integers(0, 2**64))
def test_no_pipeline_is_a_defect(world: World, number: int) -> None:
    """A good spec with some of its fields replaced; some of these pipelines run, for others' commits too."""
    random = Random(f"spec {number}")
    request = spec("new", stdin=["true"])
    other = MESSAGES.message(random, METHODS_BY_NAME["pps.API.CreatePipeline"].input_type)
    for field, value in random.sample(other.ListFields(), min(len(other.ListFields()), random.choice((1, 2, 3)))):
        request.ClearField(field.name)
        if field.is_repeated:
            getattr(request, field.name).extend(value)
        elif field.message_type is not None:
            getattr(request, field.name).CopyFrom(value)
        else:
            setattr(request, field.name, value)
    create = METHODS_BY_NAME["pps.API.CreatePipeline"]
    if world.call(create, [request.SerializeToString()]) is grpc.StatusCode.OK:
        for method in ("InspectPipeline", "ListJob", "GetLogs", "RerunPipeline", "CreateJob"):
            pipeline = pps_pb2.PipelineInfo(pipeline=request.pipeline).SerializeToString()
            world.call(METHODS_BY_NAME[f"pps.API.{method}"], [pipeline])
        if random.random() < 0.5:
            world.daemon.pps.InspectPipeline(pps_pb2.InspectPipelineRequest(pipeline=request.pipeline))
            world.check()
        gone = pps_pb2.DeletePipelineRequest(pipeline=request.pipeline, delete_jobs=True, delete_repo=True)
        world.call(METHODS_BY_NAME["pps.API.DeletePipeline"], [gone.SerializeToString()])
    world.check()
