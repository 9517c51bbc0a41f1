"""What is to come of commits, as services say how they compute repos: branches, how far they are, in whose name."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from pfsd.errors import InvalidError, StateError
from pfsd.filesystem import downstream
from pfsd.filesystem.store import Store
from pfsd.model import derivations
from pfsd.model.derivations import Derivation, Source
from pfsd.model.records import Commit


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Iterator[Store]:
    opened = Store(tmp_path / "root")
    yield opened
    opened.close()


def commit(store: Store, repo: str, *sources: Commit, branch: str = "master") -> Commit:
    """A finished commit."""
    made = store.commits.start(repo, branch=branch, provenance=[one.ref for one in sources])
    return store.commits.finish(repo, made.id)


def derive(store: Store, repo: str, *sources: Source, by: str = "pipeline p", branch: str = "master") -> None:
    """Say, as a service does, from what a repo is computed."""
    told = derivations.dump(Derivation(by, branch, sources))
    store.records.write({derivations.key(repo): told}, [], [], sync=False)


def look(store: Store, *commits: Commit, to: str = "") -> tuple[list[str], bool]:
    """The repos of what has come, and whether nothing is to come."""
    ready, is_done = downstream.look(store, commits, to.split())
    return [one.repo for one in ready], is_done


def test_one_commit_is_to_come_where_nobody_says_how_a_repo_is_made(store: Store) -> None:
    store.repos.create("in")
    store.repos.create("other")
    store.repos.create("out", ["in", "other"])
    given, beside = commit(store, "in"), commit(store, "other")
    assert look(store, given) == ([], False)
    commit(store, "out", given)
    assert look(store, given) == (["out"], True)
    assert look(store, given, beside) == ([], False)
    commit(store, "out", given, beside)
    assert look(store, given, beside) == (["out"], True)


def test_a_commit_on_a_branch_that_is_not_read_leads_to_nothing(store: Store) -> None:
    store.repos.create("in")
    store.repos.create("out", ["in"])
    derive(store, "out", Source("in", "master"))
    assert look(store, commit(store, "in", branch="dev")) == ([], True)
    given = commit(store, "in")
    assert look(store, given) == ([], False)
    derive(store, "out", Source("in", "master", given.id))
    assert look(store, given) == ([], True)  # it was taken, and led to nothing
    later = commit(store, "in")
    assert [look(store, given)[1], look(store, later)[1]] == [True, False]
    store.commits.delete_branch("in", "master")
    assert look(store, later) == ([], True)


def test_a_repo_that_reads_another_branch_of_a_computed_one_is_not_waited_for(store: Store) -> None:
    store.repos.create("in")
    store.repos.create("middle", ["in"])
    store.repos.create("far", ["middle"])
    derive(store, "middle", Source("in", "master"))
    derive(store, "far", Source("middle", "dev"))
    given = commit(store, "in")
    assert look(store, given, to="far") == ([], True)
    derive(store, "far", Source("middle", "master"))
    assert look(store, given, to="far") == ([], False)
    made = commit(store, "middle", given)
    derive(store, "middle", Source("in", "master", given.id))
    assert look(store, given, to="middle") == (["middle"], True)
    assert look(store, given, to="far") == ([], False)
    commit(store, "far", made)
    assert look(store, given, to="far") == (["far"], True)
    assert look(store, given) == (["far", "middle"], True)


def test_of_two_commits_what_comes_of_both_is_waited_for(store: Store) -> None:
    for repo in "ab":
        store.repos.create(repo)
    store.repos.create("out", ["a", "b"])
    derive(store, "out", Source("a", "master"), Source("b", "master"))
    a, b = commit(store, "a"), commit(store, "b")
    assert look(store, a, b) == ([], False)
    commit(store, "out", a, b)
    derive(store, "out", Source("a", "master", a.id), Source("b", "master", b.id))
    later = commit(store, "b")
    assert look(store, a, later) == ([], False)  # a is what goes with it
    newest = commit(store, "a")
    derive(store, "out", Source("a", "master", newest.id), Source("b", "master", later.id))
    assert look(store, a, later) == ([], True)  # each was taken, never both


def test_a_failure_counts_where_it_leads(store: Store) -> None:
    store.repos.create("in")
    for name in ("bad", "good"):
        store.repos.create(name, ["in"])
        derive(store, name, Source("in", "master"))
    store.repos.create("after", ["bad"])
    derive(store, "after", Source("bad", "master"))
    given = commit(store, "in")
    failed = store.commits.start("bad", branch="master", provenance=[given.ref])
    store.commits.fail("bad", failed.id, "datum /a failed")
    commit(store, "good", given)
    assert look(store, given, to="good") == (["good"], True)
    for asked in ("", "bad", "after", "good after"):
        with pytest.raises(StateError, match="will not finish: datum /a failed"):
            look(store, given, to=asked)
    with pytest.raises(StateError, match="will not finish: datum /a failed"):
        look(store, failed)


def test_what_a_deleted_repo_keeps_from_coming_is_said(store: Store) -> None:
    store.repos.create("in")
    store.repos.create("out", ["in"])
    store.repos.create("beside", ["in"])
    derive(store, "out", Source("in", "master"))
    derive(store, "beside", by="")
    given = commit(store, "in")
    for name, words in (("out", "written by pipeline p"), ("in", "read by pipeline p")):
        with pytest.raises(StateError, match=words):
            store.repos.delete(name)
    with pytest.raises(StateError, match="pipeline p would stand still"):
        store.repos.delete_all()
    store.repos.delete("out", force=True)
    with pytest.raises(StateError, match="pipeline p stands still: its output repo out was deleted"):
        look(store, given)
    assert look(store, given, to="beside") == ([], True)  # nobody computes it any more
    store.repos.create("out", ["in"])
    assert look(store, given) == ([], False)

    store.repos.create("more")
    derive(store, "out", Source("in", "master"), Source("more", "master"))
    store.repos.delete("more", force=True)
    with pytest.raises(StateError, match="pipeline p stands still: its input repo more was deleted"):
        look(store, given)


def test_who_has_left_is_forgotten_with_the_repo(store: Store) -> None:
    store.repos.create("in")
    store.repos.create("out", ["in"])
    derive(store, "out", by="")
    given = commit(store, "in")
    assert look(store, given) == ([], True)
    store.repos.delete("out")
    store.repos.create("out", ["in"])
    assert look(store, given) == ([], False)


def test_a_long_chain_is_looked_through(store: Store) -> None:
    count = 2000
    store.repos.create("r0")
    given = commit(store, "r0")
    put = {
        derivations.key(f"r{number}"): derivations.dump(
            Derivation("p", "master", (Source(f"r{number - 1}", "master"),))
        )
        for number in range(1, count)
    }
    store.records.write(put, [], [], sync=False)
    with pytest.raises(StateError, match="stands still"):  # none of their repos is there
        look(store, given)
    assert look(store, given, to="r0") == ([], True)


@pytest.mark.parametrize(
    "value",
    [b"", b"[]", b"{}", b'{"by": 1, "branch": "", "sources": []}', b'{"sources": [1]}', b"[" * 100_000],
)
def test_what_is_no_derivation_is_refused(store: Store, value: bytes) -> None:
    with pytest.raises(InvalidError, match="derived/"):
        store.records.write({derivations.key("r"): value}, [], [], sync=False)
    assert derivations.every(store.root.db) == {}
