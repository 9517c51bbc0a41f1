"""Pipeline specs: their JSON, their rules, and how records of them are kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pachproto import pps_pb2
from pfsd.errors import CorruptError, FormatError, InvalidError
from ppsd.specs import durations, quantities
from ppsd.specs.inputs import AtomSpec, CrossSpec, UnionSpec
from ppsd.specs.limits import Limits
from ppsd.specs.spec import PipelineSpec, TransformSpec, same_computation, validate
from ppsd.specs.specjson import parse_requests
from ppsd.storage import codec
from ppsd.storage.filesystem import CommitRef
from ppsd.storage.records import Deletion, JobIds, JobRecord, JobState, PipelineRecord, ProgressRecord, Stats

EDGES: dict[str, Any] = {
    "pipeline": {"name": "edges"},
    "transform": {"cmd": ["python3", "/edges.py"], "image": "pachyderm/opencv"},
    "input": {"atom": {"repo": "images", "glob": "/*"}},
}


def parse(data: Any) -> pps_pb2.CreatePipelineRequest:
    [request] = parse_requests(json.dumps(data), "spec.json")
    return request


def changed(**fields: Any) -> dict[str, Any]:
    return {**EDGES, **fields}


def test_the_tutorials_spec_gets_the_documented_defaults() -> None:
    assert validate(parse(EDGES)) == PipelineSpec(
        name="edges",
        transform=TransformSpec(("python3", "/edges.py"), "pachyderm/opencv"),
        input=AtomSpec("images", "images", "master", "/*"),
        output_branch="master",
    )


def test_every_accepted_field_reaches_the_spec() -> None:
    made = validate(
        parse(
            changed(
                description="d",
                transform={"cmd": ["x"], "stdin": ["a", "b"], "env": {"B": "2", "A": "1"}, "accept_return_code": [1]},
                parallelism_spec={"constant": "4"},
                resource_spec={"memory": "1G", "cpu": 0.5},
                input={
                    "atom": {
                        "name": "n",
                        "repo": "r",
                        "branch": "b",
                        "glob": "/",
                        "lazy": True,
                        "from_commit": "c",
                    }
                },
                outputBranch="o",
                scale_down_threshold="1h30m",
            )
        )
    )
    assert made.transform == TransformSpec(("x",), "", ("a", "b"), (("A", "1"), ("B", "2")), (1,))
    assert made.input == AtomSpec("n", "r", "b", "/", True, "c")
    assert (made.output_branch, made.description, made.constant) == ("o", "d", 4)
    assert made.scale_down_ns == 5400 * 10**9
    assert made.limits() == Limits(10**9, 0.5)
    assert made.unapplied() == []


@pytest.mark.parametrize("start", [{"id": "c"}, "c"])
def test_the_old_form_of_inputs_is_understood(start: object) -> None:
    old = {key: value for key, value in EDGES.items() if key != "input"}
    old["inputs"] = [{"name": "n", "repo": {"name": "r"}, "branch": "b", "glob": "/*", "lazy": True, "from": start}]
    assert validate(parse(old)).input == AtomSpec("n", "r", "b", "/*", True, "c")


def test_the_old_form_with_several_inputs_is_a_cross() -> None:
    old = {key: value for key, value in EDGES.items() if key != "input"}
    old["inputs"] = [{"repo": {"name": "a"}, "glob": "/*"}, {"repo": {"name": "b"}, "glob": "/"}]
    made = validate(parse(old)).input
    assert made == CrossSpec((AtomSpec("a", "a", "master", "/*"), AtomSpec("b", "b", "master", "/")))


def test_inputs_nest_and_members_of_a_union_may_share_a_name() -> None:
    one, other = ({"atom": {"repo": repo, "glob": "/*"}} for repo in "ab")
    made = validate(parse(changed(input={"cross": [{"union": [one, one]}, other]}))).input
    a, b = (AtomSpec(repo, repo, "master", "/*") for repo in "ab")
    assert made == CrossSpec((UnionSpec((a, a)), b))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"parallelism_spec": {"constant": 7}}, True),
        ({"resource_spec": {"cpu": 1}, "description": "d", "scale_down_threshold": "1m"}, True),
        ({"input": {"atom": {"repo": "images", "glob": "/*", "from_commit": "c"}}}, True),
        ({"transform": {**EDGES["transform"], "debug": True}}, True),
        ({"transform": {"cmd": ["python3", "/edges.py"], "image": "other"}}, False),
        ({"input": {"atom": {"repo": "images", "glob": "/*/*"}}}, False),
    ],
)
def test_what_keeps_the_computation(change: dict[str, Any], same: bool) -> None:
    assert same_computation(validate(parse(EDGES)), validate(parse(changed(**change)))) is same


def test_several_specs_follow_one_another() -> None:
    text = json.dumps(EDGES) + "\n\n" + json.dumps(changed(pipeline={"name": "more"}))
    assert [request.pipeline.name for request in parse_requests(text, "x")] == ["edges", "more"]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (changed(input={"atom": {"repo": "images", "globb": "/*"}}), "unknown field input.atom.globb"),
        (changed(nonsense=1), "unknown field nonsense"),
        (changed(transform={"cmd": "sh"}), "transform.cmd should be a list of strings"),
        (changed(transform={"cmd": ["sh", 1]}), "transform.cmd should be a list of strings"),
        (changed(transform=[]), "transform should be an object"),
        (changed(transform={"cmd": ["x"], "env": {"A": 1}}), "transform.env should be an object of strings"),
        (changed(transform={"cmd": ["x"], "accept_return_code": ["x"]}), "should be a list of integers"),
        (changed(parallelism_spec={"constant": 1.5}), "parallelism_spec.constant should be an integer"),
        (changed(parallelism_spec={"constant": -1}), "parallelism_spec.constant should be between 0"),
        (changed(input={"atom": {"repo": "r", "glob": "/", "lazy": "yes"}}), "lazy should be true or false"),
        (changed(scale_down_threshold="soon"), "scale_down_threshold should be a duration"),
        (changed(description=3), "description should be a string"),
        ([], "a pipeline spec should be a JSON object"),
    ],
)
def test_a_malformed_spec_is_refused_by_the_fields_name(data: Any, complaint: str) -> None:
    with pytest.raises(InvalidError) as refused:
        parse(data)
    assert complaint in str(refused.value)
    assert str(refused.value).startswith("spec.json")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{\n  // the name\n  "pipeline": {}}', "'//' comments are not JSON (line 2"),
        ('{"pipeline": }', "not valid JSON"),
        ("{\n", "not valid JSON"),
        ("  \n", "holds no pipeline spec"),
        ('{"description": "a", "description": "b"}', "field description is given twice"),
    ],
)
def test_text_that_is_not_json_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InvalidError) as refused:
        parse_requests(text, "spec.json")
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (changed(pipeline={}), "pipeline.name is missing"),
        (changed(pipeline={"name": "a/b"}), "pipeline.name 'a/b' is invalid"),
        (changed(transform={}), "transform.cmd is missing"),
        (changed(transform={"cmd": [""]}), "transform.cmd is missing"),
        (changed(transform={"cmd": ["x"], "env": {"A=B": "c"}}), "transform.env"),
        (changed(transform={"cmd": ["x"], "accept_return_code": [256]}), "accept_return_code"),
        (changed(transform={"cmd": ["x"], "secrets": [{"name": "s"}]}), "transform.secrets[0].mount_path"),
        (changed(transform={"cmd": ["x"], "secrets": [{"name": "..", "mount_path": "/s"}]}), "secrets[0].name"),
        (changed(transform={"cmd": ["x"], "secrets": [{"name": "s", "mount_path": "/pfs/s"}]}), "outside of /pfs"),
        (changed(transform={"cmd": ["x"], "secrets": [{"name": "s", "mount_path": "/a/../b"}]}), "mount_path"),
        (changed(input={}), "input is missing"),
        (changed(input={"atom": {"glob": "/"}}), "input.atom.repo is missing"),
        (changed(input={"atom": {"repo": "r"}}), "input.atom.glob is missing"),
        (changed(input={"atom": {"repo": "r", "glob": "/["}}), "input.atom.glob is invalid"),
        (changed(input={"atom": {"repo": "edges", "glob": "/"}}), "its own output"),
        (changed(input={"atom": {"repo": "r", "name": "out", "glob": "/"}}), "can't be out"),
        (changed(input={"cross": [{"atom": {"repo": "r"}}]}), "input.cross[0].atom.glob is missing"),
        (changed(input={"union": [{}]}), "input.union[0] is missing"),
        (changed(input={"cross": [{"atom": {"repo": "r", "glob": "/"}}] * 2}), "two inputs that are called r"),
        (changed(input={"cross": [{"atom": {"repo": "edges", "glob": "/"}}]}), "its own output"),
        (changed(input={"cron": {"name": "c", "spec": "daily"}}), "input.cron.spec should"),
        (changed(input={"cron": {"spec": "@daily"}}), "input.cron.name is missing"),
        (changed(input={"cron": {"name": "out", "spec": "@daily"}}), "input.cron.name can't be out"),
        (changed(input={"cron": {"name": "c", "spec": "@daily", "repo": "a/b"}}), "input.cron.repo 'a/b' is invalid"),
        (changed(input={"cron": {"name": "c", "spec": "@daily", "start": "1969-01-01T00:00:00Z"}}), "cron.start"),
        (changed(input={"cron": {"name": "c", "spec": "@daily", "repo": "edges"}}), "its own output"),
        (changed(inputs=[{"repo": {"name": "r"}}]), "can't both be given"),
        (changed(egress={}), "egress.URL is missing"),
        (changed(egress={"URL": "http://b/d"}), "egress.URL should be s3://BUCKET/DIRECTORY, gs://BUCKET/"),
        (changed(egress={"URL": "s3:///d"}), "egress.URL should be s3://BUCKET/DIRECTORY"),
        (changed(parallelism_spec={"constant": 1, "coefficient": 1}), "not both"),
        (changed(parallelism_spec={"coefficient": -1}), "parallelism_spec.coefficient should be a number above 0"),
        (changed(parallelism_spec={"constant": 10**6}), "parallelism_spec asks for more than 1000 workers"),
        (changed(resource_spec={"memory": "64"}), "resource_spec.memory should be at least"),
        (changed(resource_spec={"memory": "much"}), "resource_spec.memory should be an amount of memory"),
        (changed(resource_spec={"cpu": -1}), "resource_spec.cpu should not be negative"),
        (changed(resource_spec={"cpu": 0.001}), "resource_spec.cpu should be at least 0.01"),
        (changed(resource_spec={"gpu": -1}), "resource_spec.gpu should not be negative"),
        (changed(transform={"cmd": ["x"], "image_pull_secrets": ["a/b"]}), "transform.image_pull_secrets[0]"),
        (changed(output_branch="a/b"), "output_branch"),
        (changed(scale_down_threshold="0s"), "scale_down_threshold should be above 0"),
    ],
)
def test_what_can_not_run_is_refused_by_the_fields_name(data: Any, complaint: str) -> None:
    with pytest.raises(InvalidError) as refused:
        validate(parse(data))
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("spec", "nodes", "workers"),
    [({}, 1, 1), ({}, 3, 3), ({"constant": 5}, 1, 5), ({"coefficient": 0.5}, 1, 1), ({"coefficient": 2.0}, 3, 6)],
)
def test_parallelism_follows_the_number_of_nodes(spec: dict[str, float], nodes: int, workers: int) -> None:
    assert validate(parse(changed(parallelism_spec=spec))).workers(nodes) == workers


@pytest.mark.parametrize(
    ("text", "seconds"), [("300ms", 0.3), ("1.5h", 5400), ("2h45m", 9900), ("5400s", 5400), (".5s", 0.5)]
)
def test_durations_are_gos_and_protobufs(text: str, seconds: float) -> None:
    assert durations.parse(text, "field") == round(seconds * 10**9)


@pytest.mark.parametrize("text", ["", "5", "h", "1h ", "-1s", "1d", "1e9s", "99999999h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="field"):
        durations.parse(text, "field")


@pytest.mark.parametrize(
    ("text", "size"),
    [("512M", 512 * 10**6), ("1.5Gi", 3 << 29), ("1.2GB", 12 * 10**8), ("64Ki", 1 << 16), ("7", 7), ("2k", 2000)],
)
def test_amounts_of_memory_have_units(text: str, size: int) -> None:
    assert quantities.parse(text, "field") == size


@pytest.mark.parametrize("text", ["", "M", "1i", "1m", "1 G", "-1G", "1GiBs", "0x10"])
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="field should be an amount of memory"):
        quantities.parse(text, "field")


# --- records ---------------------------------------------------------------------------------------------

texts = st.text(max_size=8)
specs = st.builds(
    PipelineSpec,
    name=texts,
    transform=st.builds(
        TransformSpec,
        cmd=st.tuples(texts),
        env=st.lists(st.tuples(texts, texts), max_size=2).map(tuple),
        accept_return_code=st.lists(st.integers(), max_size=2).map(tuple),
    ),
    input=st.recursive(
        st.builds(AtomSpec, name=texts, repo=texts, branch=texts, glob=texts, lazy=st.booleans()),
        lambda below: st.builds(CrossSpec, st.tuples(below, below)) | st.builds(UnionSpec, st.tuples(below)),
        max_leaves=4,
    ),
    coefficient=st.floats(allow_nan=False, allow_infinity=False),
)
refs = st.builds(CommitRef, repo=texts, id=texts)
job_records = st.builds(
    JobRecord,
    id=texts,
    spec=specs,
    pipeline_id=texts,
    pipeline_version=st.integers(),
    salt=texts,
    inputs=st.tuples(refs, refs),
    started_ns=st.integers(),
    state=st.sampled_from(JobState),
    output=st.none() | refs,
    verdict=st.none() | st.sampled_from(JobState),
    stats=st.builds(Stats, st.integers(), upload_bytes=st.integers()),
)


@given(job_records)
def test_a_record_is_read_as_it_was_written(job: JobRecord) -> None:
    assert codec.load(JobRecord, codec.dump(job, 1), 1) == job


def test_records_of_form_1_are_read() -> None:
    text = {
        "v": 1,
        "id": "j",
        "spec": {
            "name": "p",
            "transform": {"cmd": ["x"]},
            "input": {"name": "n", "repo": "r", "branch": "b", "glob": "/"},
        },
        "pipeline_id": "i",
        "pipeline_version": 1,
        "salt": "s",
        "input": {"repo": "r", "id": "c"},
        "started_ns": 5,
    }
    job = json.dumps(text).encode()
    read = codec.load(JobRecord, job, 2)
    assert read.inputs == (CommitRef("r", "c"),)
    assert read.spec.input == AtomSpec("n", "r", "b", "/")
    progress = codec.load(ProgressRecord, b'{"v":1,"cursor":"c","counts":[[3,1]]}', 2)
    assert progress == ProgressRecord(("c",), (), ((3, 1),))


def test_records_that_can_not_be_read_say_so() -> None:
    spec = validate(parse(EDGES))
    data = codec.dump(PipelineRecord(spec, "i", 1, "s", 5, Deletion(True, False)), 2)
    assert codec.load(PipelineRecord, data, 2).deletion == Deletion(True, False)
    with pytest.raises(FormatError, match="newer version"):
        codec.load(PipelineRecord, data, 1)
    for broken in (b"", b"[]", b'{"v": 1}', b'{"v": 1, "spec": 3}'):
        with pytest.raises(CorruptError):
            codec.load(PipelineRecord, broken, 2)


def test_job_ids_ascend_even_after_those_of_a_faster_clock() -> None:
    ids = JobIds("f" * 11 + "0" + "a" * 20)
    drawn = [ids.draw() for _ in range(10)]
    assert drawn == sorted(drawn)
    assert drawn[0] > "f" * 11 + "0" + "a" * 20
    assert all(len(one) == 32 and int(one, 16) >= 0 for one in drawn)


def test_a_record_from_when_two_stars_recursed_goes_on_recursing() -> None:
    for glob, recursive in [("/**/*.csv", True), ("/*", False)]:
        written = {"v": 1, "name": "a", "repo": "a", "branch": "master", "glob": glob}
        assert codec.load(AtomSpec, json.dumps(written).encode(), 1).recursive is recursive
        kept = AtomSpec("a", "a", "master", glob)
        assert codec.load(AtomSpec, codec.dump(kept, 1), 1) == kept
