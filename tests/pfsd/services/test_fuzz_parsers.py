"""Whatever text or bytes a parser is given: it gives what it is for, or raises the error that its description names.

`PFSD_FUZZ=100 pytest tests/pfsd/services/test_fuzz_parsers.py` tries a hundred times as many, others each time.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pachproto import pps_pb2
from pfsd import clouds
from pfsd.errors import CorruptError, FormatError, InvalidError, NotFoundError, PfsError
from pfsd.fetching import urls
from pfsd.fetching.reach import Reach
from pfsd.filesystem import objects
from pfsd.model import records
from pfsd.names import paths, pfsurls, sizes
from ppsd.engine import cron
from ppsd.specs import durations, egressurls, quantities, schedules, spec, specjson
from ppsd.storage import codec
from ppsd.storage.records import FORM, JobRecord, PipelineRecord, ProgressRecord
from tests.support.fuzzing import examples, fits, texts

DEEP = 50_000
LONG = 10_000


# --- names -------------------------------------------------------------------------------------------------


@examples(300)
@given(texts("ab/.~^\0é🗎 ", "..", "//", "a" * 300))
def test_paths_and_names(text: str) -> None:
    parts = fits(paths.parse, text, InvalidError)
    if parts is not None:
        assert paths.parse(paths.join(parts)) == parts
    fits(paths.parse_file, text, InvalidError)
    fits(paths.check_repo_name, text, InvalidError)
    fits(paths.check_branch_name, text, InvalidError)
    fits(objects.parse_hash, text, NotFoundError)


@examples(300)
@given(texts("ab/:@%[]?#.0", "s3://", "gs://", "http://", "https://", "pfs://", "[::1]", "\t", "//", "℀", "a@b"))
def test_addresses(text: str) -> None:
    fits(clouds.parse, text, InvalidError)
    fits(lambda url: egressurls.check(url, "egress.URL"), text, InvalidError)
    if not clouds.is_object(text) and "http" not in text.lower() and not pfsurls.is_pfs(text):
        fits(lambda url: asyncio.run(urls.fetch(url, lambda _: None, Reach("127.0.0.1:1"))), text, PfsError)
    fits(pfsurls.parse, text, InvalidError)


# --- amounts and times -------------------------------------------------------------------------------------

NUMBERS = st.sampled_from(["0", "1", "1.5", ".5", "1e9", "9" * 20, "9" * 400, "9" * LONG, "1" + "0" * 400, "٣", "-1"])


@examples(300)
@given(texts("0123456789.eE-+ ", "K", "Ki", "M", "G", "T", "P", "Ei", "B", "h", "m", "s", "ns", "µs", "9" * LONG))
def test_amounts(text: str) -> None:
    fits(lambda one: quantities.parse(one, "memory"), text, InvalidError)
    fits(lambda one: durations.parse(one, "timeout"), text, InvalidError)
    fits(sizes.parse, text, ValueError)


@examples(200)
@given(NUMBERS, st.sampled_from(["", "K", "Ki", "E", "Ei", "Y", "h", "s", "ns"]))
def test_large_amounts(number: str, unit: str) -> None:
    assert (fits(lambda one: quantities.parse(one, "memory"), number + unit, InvalidError) or 0) < 1 << 63
    assert (fits(lambda one: durations.parse(one, "timeout"), number + unit, InvalidError) or 0) < 1 << 63
    assert (fits(sizes.parse, number + unit, ValueError) or 0) < 1 << 63


FIELD = st.one_of(
    st.sampled_from(["*", "*/5", "0", "59", "31", "L", "l5", "*/0", "5-1", "1-5/2", "60", "-1", "jan", "mon#2", "?"]),
    st.sampled_from(
        ["1," * 5000 + "1", "9" * 500, "9" * 5000, "0-" + "9" * 5000, "*/" + "9" * 5000, "0" * 5000, "r", "h"]
    ),
    texts("0123456789*/,-#?LW", "jan", "mon"),
)
SCHEDULES = st.one_of(
    st.lists(FIELD, min_size=5, max_size=6).map(" ".join),
    st.lists(FIELD, max_size=9).map(" ".join),
    st.sampled_from(
        ["@yearly", "@hourly", "@daily", "@reboot", "@", "@every", "@every 0s", "@every 1e99h", "@midnight"]
    ),
    st.tuples(NUMBERS, st.sampled_from(["h", "s", "ns", "", "y"])).map(lambda one: f"@every {one[0]}{one[1]}"),
    texts("0123456789*/,- @", "every", "\t", "\n"),
)
TIMES_NS = st.sampled_from([0, 1, 10**9, int(1.7e18), 4 * 10**18, 9 * 10**18, schedules.LAST_NS]) | st.integers(
    0, schedules.LAST_NS
)


def checked_schedule(text: str, start_ns: int) -> schedules.Schedule:
    """A schedule that was found to be one."""
    schedules.check(text, "spec")
    return schedules.Schedule(text, start_ns)


@examples(200)
@given(SCHEDULES, TIMES_NS, TIMES_NS)
def test_schedules(text: str, start: int, after: int) -> None:
    schedule = fits(lambda one: checked_schedule(one, start), text, InvalidError)
    if schedule is None:
        return
    now = time.time_ns()
    assert schedules.next_tick(schedule, now) > now or start > now
    assert len(schedules.ticks(schedule, after, now, 5)) <= 5


@examples(200)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.from_regex(
            r"\A\"?[0-9]{1,5}-[0-9]{1,2}-[0-9]{1,2}T[0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(\.[0-9]{1,40})?[+-Z][0-9:]{0,6}\Z"
        ).map(str.encode),
        st.sampled_from([b'"9999-12-31T23:59:59-23:59"', b"0001-01-01T00:00:00+23:59", b"1" * LONG]),
    )
)
def test_times_of_ticks(data: bytes) -> None:
    told = cron.told_time(data)
    assert told is None or 0 <= told <= schedules.LAST_NS


# --- JSON --------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.sampled_from(
            [10**400, -(10**400), 2**64, 1e308, "10" * 3000, "1e5", "NaN", "-0", "1h", "9" * 30 + "h", "\ud800"]
        ),
        st.text(max_size=5),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [field.name for field in pps_pb2.CreatePipelineRequest.DESCRIPTOR.fields]
INNER = ["name", "repo", "glob", "cmd", "stdin", "env", "cross", "union", "atom", "cron", "spec", "start", "constant"]
INNER += ["coefficient", "memory", "cpu", "gpu", "URL", "internal_port", "secrets", "accept_return_code", "from"]
OBJECTS = st.dictionaries(
    st.sampled_from(FIELDS), JSON | st.dictionaries(st.sampled_from(INNER), JSON, max_size=4), max_size=5
)
NUMBER_TEXTS = ("9" * LONG, "-" + "9" * LONG, "1e400", "NaN", "Infinity", "-Infinity", "0" * LONG, "1." + "9" * LONG)


def read_spec(text: str) -> None:
    """As `pachctl create-pipeline` and the service together do."""
    for request in specjson.parse_requests(text, "spec.json"):
        spec.validate(request)


@examples(300)
@given(OBJECTS, st.data())
def test_specs_as_json(fields: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(fields)
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(text)))
        text = (
            text[:at] + data.draw(st.sampled_from(['"', "{", "}", "[", "]", ",", ":", "\0", *NUMBER_TEXTS])) + text[at:]
        )
    fits(read_spec, text, InvalidError)


@pytest.mark.parametrize(
    "text",
    [
        "[" * DEEP,
        '{"a":' * DEEP,
        "[" * DEEP + "]" * DEEP,
        '{"input":' + '{"cross":[' * DEEP + "]}" * DEEP + "}",
        '{"input":' + '{"cross":[' * 300 + "]}" * 300 + "}",
        *(f'{{"pipeline": {number}}}' for number in NUMBER_TEXTS),
        *(f'{{"parallelism_spec": {{"constant": {number}}}}}' for number in NUMBER_TEXTS),
        *(f'{{"parallelism_spec": {{"constant": "{number}"}}}}' for number in NUMBER_TEXTS),
        *(f'{{"resource_spec": {{"cpu": {number}}}}}' for number in NUMBER_TEXTS),
        '{"input": {"cron": {"start": "9999-12-31T23:59:59Z"}}}',
        '{"input": {"cron": {"start": "0001-01-01T00:00:00.0000000000000000001Z"}}}',
        "\ud800",
    ],
    ids=lambda text: text[:40],
)
def test_absurd_specs(text: str) -> None:
    with pytest.raises(InvalidError):
        read_spec(text)


@examples(200)
@given(JSON, st.sampled_from([PipelineRecord, JobRecord, ProgressRecord]))
def test_kept_records(value: Any, kind: type[Any]) -> None:
    fits(lambda data: codec.load(kind, data, FORM), json.dumps(value).encode(), CorruptError, FormatError)
    fits(
        lambda data: codec.load(kind, data, FORM), json.dumps({"v": 1, "x": value}).encode(), CorruptError, FormatError
    )
    for load in (records.load_repo, records.load_commit):
        fits(load, json.dumps(value).encode(), CorruptError)


@pytest.mark.parametrize("data", [b"[" * DEEP, b'{"v":' + b"[" * DEEP, b'{"v":' + b"9" * LONG + b"}", b"\xff", b""])
def test_absurd_records(data: bytes) -> None:
    for load in (records.load_repo, records.load_commit, lambda one: codec.load(JobRecord, one, FORM)):
        with pytest.raises(CorruptError):
            load(data)
