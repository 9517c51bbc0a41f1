"""Datums, the pool that hands them out, and what workers say of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pachproto import ppsd_pb2
from pfsd.errors import InvalidError
from pfsd.trees import entries
from pfsd.trees.entries import Chunk, FileEntry
from ppsd.engine.pool import MAX_LOSSES, CallOff, HandOut, Outcome, Pool, Session, Task
from ppsd.specs import datums
from ppsd.specs.datums import AtomChange, Datum, DatumInput
from ppsd.specs.inputs import AtomSpec, CrossSpec, InputSpec, UnionSpec, atoms
from ppsd.specs.spec import PipelineSpec, TransformSpec
from ppsd.storage.filesystem import CommitRef
from ppsd.storage.records import JobRecord, MergeRecord, Stats
from ppsd.worker.userlog import MAX_LINE_BYTES, UserLog


def entry(content: bytes) -> bytes:
    return entries.encode(FileEntry(1, (Chunk(content.ljust(32, b"."), 1),), None, 1))


names = st.text(min_size=1, max_size=5)
inputs = st.builds(DatumInput, name=names, path=names, entry=st.binary(max_size=9).map(entry))


@given(st.text(max_size=5), st.lists(inputs, min_size=1, max_size=2), st.text(max_size=5), st.lists(inputs, max_size=2))
def test_datums_are_the_same_exactly_when_salt_and_inputs_are(
    salt: str, one: list[DatumInput], other_salt: str, other: list[DatumInput]
) -> None:
    first, second = datums.make(salt, tuple(one)), datums.make(other_salt, tuple(other))
    assert len(first.id) == 64
    assert (first.id == second.id) == (salt == other_salt and one == other)
    assert datums.make(salt, tuple(one)).id == first.id


def test_a_datums_identity_is_what_it_always_was() -> None:
    made = datums.make("salt", (DatumInput("in", "/a", entry(b"a")), DatumInput("é", "/b/c", entry(b"b"))))
    assert made.id == "a6cc16273ed394bff327cbf4d3563f5dc92267ddf1af911959ac2545bbaa844f"
    assert made.inputs[0].hash == entries.content_hash(entries.decode(made.inputs[0].entry))


def test_datums_come_in_the_order_of_their_paths_bytes() -> None:
    matches = [(path, entry(b"x")) for path in ("/é", "/b", "/a/c", "/Z")]
    found = datums.enumerate_all("salt", AtomSpec("in", "in", "master", "/*"), [matches])
    assert [one.inputs[0].path for one in found] == ["/Z", "/a/c", "/b", "/é"]
    assert datums.tag("salt", found[0].id) == f"datum/salt/{found[0].id}"
    assert datums.tag("salt", found[0].id).startswith(datums.tag_prefix("salt"))


def datums_in_words(spec: InputSpec, *files: str) -> list[str]:
    """The datums of an input whose atoms match these files, each file a letter."""
    matches = [[(f"/{letter}", entry(letter.encode())) for letter in letters] for letters in files]
    found = datums.enumerate_all("salt", spec, matches)
    return ["".join(f"{one.name}{one.path[1:]}{one.atom}" for one in datum.inputs) for datum in found]


def atom(name: str) -> AtomSpec:
    return AtomSpec(name, "repo", "master", "/*")


def test_a_cross_has_every_tuple_and_its_first_member_varies_slowest() -> None:
    crossed = CrossSpec((atom("x"), atom("y")))
    assert datums_in_words(crossed, "ab", "cd") == ["xa0yc1", "xa0yd1", "xb0yc1", "xb0yd1"]
    assert datums_in_words(crossed, "ab", "") == []


def test_a_union_has_one_members_datums_after_the_others_also_those_that_are_the_same() -> None:
    assert datums_in_words(UnionSpec((atom("x"), atom("y"))), "ab", "a") == ["xa0", "xb0", "ya1"]
    assert datums_in_words(UnionSpec((atom("x"), atom("x"))), "ab", "bc") == ["xa0", "xb0", "xb1", "xc1"]


def test_inputs_nest_to_any_depth() -> None:
    spec = CrossSpec((UnionSpec((atom("x"), atom("y"))), CrossSpec((atom("z"), UnionSpec((atom("u"), atom("v")))))))
    assert datums_in_words(spec, "a", "b", "c", "d", "e") == [
        "xa0zc2ud3",
        "xa0zc2ve4",
        "yb1zc2ud3",
        "yb1zc2ve4",
    ]


def test_a_product_beyond_measure_is_refused() -> None:
    matches = [(f"/{number}", entry(b"x")) for number in range(400)]
    with pytest.raises(InvalidError, match="64000000 datums"):
        datums.enumerate_all("salt", CrossSpec((atom("x"), atom("y"), atom("z"))), [matches] * 3)


atom_specs = st.sampled_from("xyz").map(atom)
input_specs: st.SearchStrategy[InputSpec] = st.recursive(
    atom_specs,
    lambda below: st.one_of(
        st.lists(below, min_size=1, max_size=3).map(lambda found: CrossSpec(tuple(found))),
        st.lists(below, min_size=1, max_size=3).map(lambda found: UnionSpec(tuple(found))),
    ),
    max_leaves=4,
)
FILES = st.dictionaries(st.sampled_from(["/a", "/a!", "/a/b", "/b"]), st.sampled_from([b"1", b"2"]).map(entry))


@given(st.data(), input_specs)
def test_changes_are_what_two_enumerations_differ_in(data: st.DataObject, spec: InputSpec) -> None:
    width = len(atoms(spec))
    old, new = ([data.draw(FILES) for _ in range(width)] for _ in range(2))
    if data.draw(st.booleans()):  # more often, most atoms stay the same
        new[1:] = old[1:]
    whole = [
        AtomChange(
            [(path, one) for path, one in before.items() if after.get(path) != one],
            [(path, one) for path, one in after.items() if before.get(path) != one],
            [(path, one) for path, one in after.items() if before.get(path) == one],
        )
        for before, after in zip(old, new, strict=True)
    ]
    needed = datums.needs_kept(spec, [bool(one.removed or one.added) for one in whole])
    given_changes = [one if is_needed else replace(one, kept=()) for one, is_needed in zip(whole, needed, strict=True)]
    former, present = (
        datums.enumerate_all("salt", spec, [list(files.items()) for files in matches]) for matches in (old, new)
    )
    removed, added = datums.changes("salt", spec, given_changes, len(former))
    assert removed == [one for one in former if one not in present]
    assert added == [one for one in present if one not in former]
    assert [one.order for one in present] == sorted({one.order for one in present})
    assert len(present) == len(former) + len(added) - len(removed)


def test_only_what_changes_are_crossed_with_is_listed() -> None:
    crossed = CrossSpec((atom("x"), UnionSpec((atom("y"), atom("z")))))
    assert datums.needs_kept(crossed, [False, False, False]) == [False, False, False]
    assert datums.needs_kept(crossed, [True, False, False]) == [False, True, True]
    assert datums.needs_kept(crossed, [False, True, False]) == [True, False, False]
    assert datums.needs_kept(UnionSpec((atom("x"), atom("y"))), [True, False]) == [False, False]
    assert datums.needs_kept(UnionSpec((atom("x"), atom("x"))), [True, False]) == [False, False]


def test_a_merge_of_a_version_that_had_shared_datums_once_is_no_base() -> None:
    for spec, fits in ((UnionSpec((atom("x"), atom("x"))), False), (UnionSpec((atom("x"), atom("y"))), True)):
        made = PipelineSpec("p", TransformSpec(("x",)), spec)
        job = JobRecord("job", made, "id", 1, "salt", (CommitRef("in", "1"), CommitRef("in", "1")), 0)
        former = MergeRecord(datums.merge_tag("salt", ""), spec, job.inputs, 2)
        assert former.fits(job) == fits
        assert replace(former, repeats=True).fits(job)


# --- the pool --------------------------------------------------------------------------------------------


class Load:
    """A job as the pool sees it, which notes how its tasks end."""

    def __init__(self) -> None:
        spec = PipelineSpec("p", TransformSpec(("x",)), AtomSpec("in", "in", "master", "/"))
        self.job = JobRecord("job", spec, "id", 1, "salt", (CommitRef("in", "1"),), 0)
        self.ended: list[tuple[Task, str]] = []

    def task_handed_out(self, task: Task, session: Session) -> None:
        assert session.task is task

    def task_ended(self, task: Task, session: Session | None, outcome: Outcome) -> None:
        self.ended.append((task, outcome.error))


def tasks(load: Load, count: int) -> list[Task]:
    return [Task(load, Datum(f"{index:064x}", ())) for index in range(count)]


def orders(session: Session) -> list[HandOut | CallOff]:
    """What was sent to a worker since last asked."""
    found = []
    while session.orders.statistics().current_buffer_used:
        found.append(session.orders.receive_nowait())
    return found


def test_a_task_of_a_worker_that_goes_is_the_next_to_be_handed_out() -> None:
    load, pool = Load(), Pool()
    first, second = Session("1"), Session("2")
    pool.join(first)
    given = tasks(load, 3)
    pool.submit(given)
    pool.leave(first)
    pool.join(second)
    assert second.task is given[0]
    assert pool.queue_size == 2


def test_an_outcome_under_an_old_lease_means_nothing() -> None:
    load, pool = Load(), Pool()
    worker = Session("1")
    pool.join(worker)
    pool.submit(tasks(load, 2))
    old = worker.lease
    pool.settle(worker, old, Outcome("", Stats()))
    pool.settle(worker, old, Outcome("", Stats()))
    assert len(load.ended) == 1


def test_a_worker_whose_task_was_withdrawn_gets_nothing_until_it_has_stopped() -> None:
    load, later, pool = Load(), Load(), Pool()
    worker = Session("1")
    pool.join(worker)
    pool.submit(tasks(load, 1))
    [handed] = orders(worker)
    pool.withdraw(load)
    assert orders(worker) == [CallOff(handed.lease)]
    pool.submit(tasks(later, 1))
    assert orders(worker) == []
    pool.settle(worker, handed.lease, Outcome("called off", Stats()))
    assert load.ended == []
    assert isinstance(orders(worker)[0], HandOut)


def test_a_datum_that_kills_its_workers_fails_in_the_end() -> None:
    load, pool = Load(), Pool()
    pool.submit(tasks(load, 1))
    for number in range(MAX_LOSSES):
        worker = Session(str(number))
        pool.join(worker)
        assert worker.task is not None
        pool.leave(worker)
    assert [error for _, error in load.ended] == [f"its worker was lost {MAX_LOSSES} times"]
    assert pool.queue_size == 0


def test_a_worker_of_which_nothing_is_heard_loses_its_task_and_one_that_shows_life_does_not() -> None:
    load, pool = Load(), Pool()
    lively, hung, idle = Session("1"), Session("2"), Session("3")
    given = tasks(load, 2)
    pool.submit(given)
    for worker in (lively, hung, idle):
        pool.join(worker)
    for _ in range(3):
        assert pool.silent(load, 3) == []
        lively.silence = 0
    assert pool.silent(Load(), 3) == []
    assert pool.silent(load, 3) == [hung]
    assert pool.sessions == [lively, idle]
    assert idle.task is given[1]
    pool.settle(hung, hung.lease, Outcome("", Stats()))
    assert load.ended == []


def test_a_worker_that_does_not_stop_what_was_called_off_is_given_up() -> None:
    load, pool = Load(), Pool()
    hung = Session("1")
    pool.join(hung)
    pool.submit(tasks(load, 1))
    pool.restart(hung)
    assert pool.queue_size == 1
    assert [pool.silent(load, 1) for _ in range(2)] == [[], [hung]]
    assert pool.sessions == []


def test_a_worker_is_told_of_what_is_set_aside_for_it_and_others_take_of_that_when_they_have_nothing() -> None:
    load, pool = Load(), Pool()
    one, other = Session("1"), Session("2")
    pool.join(one)
    pool.join(other)
    given = tasks(load, 12)
    pool.submit(given)
    [first], [second] = orders(one), orders(other)
    assert isinstance(first, HandOut)
    assert isinstance(second, HandOut)
    assert (first.task, *first.coming) == tuple(given[:3])
    assert (second.task, *second.coming) == tuple(given[3:6])
    assert pool.queue_size == 10
    done: list[Task] = []
    while one.task is not None:
        done.append(one.task)
        pool.settle(one, one.lease, Outcome("", Stats()))
    assert set(done) == set(given) - {given[3]}
    told = [task for order in orders(one) if isinstance(order, HandOut) for task in order.coming]
    assert len(told) == len(set(told))
    assert pool.queue_size == 0
    assert other.task is given[3]


class PoolMachine(RuleBasedStateMachine):
    """Workers that come, go, finish and fail in any order lose no task and end none twice."""

    def __init__(self) -> None:
        super().__init__()
        self.load, self.pool = Load(), Pool()
        self.submitted: list[Task] = []
        self.workers: list[Session] = []
        self.stopping: set[Session] = set()
        """Those of which something was called off, and that have not said that they stopped."""

    @rule(count=st.integers(1, 30))
    def submit(self, count: int) -> None:
        new = tasks(self.load, count)
        self.submitted += new
        self.pool.submit(new)

    @rule()
    def join(self) -> None:
        self.workers.append(Session("w"))
        self.pool.join(self.workers[-1])

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        worker = self.workers.pop(data.draw(st.integers(0, len(self.workers) - 1)))
        self.pool.leave(worker)

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), stale=st.booleans())
    def settle(self, data: st.DataObject, stale: bool) -> None:
        worker = data.draw(st.sampled_from(self.workers))
        self.pool.settle(worker, worker.lease - stale, Outcome("", Stats()))
        if not stale:
            self.stopping.discard(worker)

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.workers))
        if worker.task is not None:
            self.stopping.add(worker)
        self.pool.restart(worker)

    @invariant()
    def every_task_is_in_one_place(self) -> None:
        held = [worker.task for worker in self.workers if worker.task is not None]
        ended = [task for task, _ in self.load.ended]
        assert len(held) + len(ended) + self.pool.queue_size == len(self.submitted)
        assert len({id(task) for task in (*held, *ended)}) == len(held) + len(ended)

    @invariant()
    def nobody_idles_while_tasks_wait(self) -> None:
        busy = [worker for worker in self.workers if worker.task is not None or worker in self.stopping]
        assert not self.pool.queue_size or busy == self.workers


TestPool = PoolMachine.TestCase


# --- what user code prints -------------------------------------------------------------------------------


class Sent:
    """Keeps what a log sends."""

    def __init__(self) -> None:
        self.waiting_bytes = 0
        self.messages: list[ppsd_pb2.FromWorker] = []

    def put(self, message: ppsd_pb2.FromWorker) -> None:
        self.messages.append(message)

    @property
    def lines(self) -> list[str]:
        return [line.message for message in self.messages for line in message.log]


@given(st.lists(st.binary(max_size=20)), st.integers(1, 7))
def test_lines_are_whole_however_they_were_written(lines: list[bytes], size: int) -> None:
    written = b"".join(line.replace(b"\n", b"") + b"\n" for line in lines)
    sent = Sent()
    log = UserLog("job", "datum", sent)
    for at in range(0, len(written), size):
        log.feed(1, written[at : at + size])
    log.finish()
    assert sent.lines == [line.decode(errors="replace") for line in written.split(b"\n")[:-1]]


def test_streams_do_not_mix_and_the_last_line_needs_no_newline() -> None:
    sent = Sent()
    log = UserLog("job", "datum", sent)
    log.feed(1, b"out ")
    log.feed(2, b"err\n")
    log.feed(1, b"put")
    log.finish()
    assert sent.lines == ["err", "out put"]


def test_a_long_line_is_cut_and_a_flood_keeps_its_end() -> None:
    sent = Sent()
    log = UserLog("job", "datum", sent)
    log.feed(1, b"x" * (2 * MAX_LINE_BYTES + 1) + b"\n")
    log.finish()
    assert [len(line) for line in sent.lines] == [MAX_LINE_BYTES, MAX_LINE_BYTES, 1]

    blocked = Sent()
    blocked.waiting_bytes = 1 << 30
    log = UserLog("job", "datum", blocked)
    for number in range(100_000):
        log.feed(1, b"line %d\n" % number)
    log.finish()
    assert "lines were dropped here" in blocked.lines[0]
    assert blocked.lines[-1] == "line 99999"
    assert len(blocked.lines) < 50_000
