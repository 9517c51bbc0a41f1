"""The check of the layout: what it finds, and that it takes what is within the bounds."""

from __future__ import annotations

import pathlib
import sys

import pytest

from tools import layout


def lines(count: int) -> str:
    return "x = 1\n" * count


def function(length: int) -> str:
    return "def f():\n" + "    x = 1\n" * (length - 1)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"pfsd/a.py": lines(500), "csrc/a.c": lines(500)}, []),
        ({"pfsd/a.py": lines(501)}, ["pfsd/a.py has 501 lines"]),
        ({"csrc/a.c": lines(501)}, ["csrc/a.c has 501 lines"]),
        ({"tests/x/a.py": function(60)}, []),
        ({"tests/x/a.py": function(61)}, ["tests/x/a.py:f has 61 lines"]),
        ({"fuse/pfsfuse/a.py": "async " + function(61)}, ["fuse/pfsfuse/a.py:f has 61 lines"]),
        ({f"ppsd/{number}.py": "" for number in range(15)} | {"ppsd/__init__.py": ""}, []),
        ({f"ppsd/{number}.py": "" for number in range(16)}, ["ppsd has 16 modules"]),
    ],
)
def test_what_is_too_large(tmp_path: pathlib.Path, files: dict[str, str], found: list[str]) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    said = list(layout.sizes(tmp_path))
    assert [sentence.partition(", and may")[0] for sentence in said] == found


def test_an_exception_is_left_alone(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pfsd").mkdir()
    (tmp_path / "pfsd/a.py").write_text(lines(501) + function(61))
    monkeypatch.setattr(layout, "EXCEPTIONS", {"pfsd/a.py": "a reason", "pfsd/a.py:f": "a reason"})
    assert list(layout.sizes(tmp_path)) == []


@pytest.mark.parametrize(
    ("last", "count"),
    [
        ("", 0),
        ("from circled import one\n", 1),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from circled import one\n", 1),
        ("def f():\n    from circled import one\n", 1),
    ],
)
def test_circles(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, last: str, count: int) -> None:
    package = tmp_path / "circled"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("from circled import two\n")
    (package / "two.py").write_text("from circled import three\n")
    (package / "three.py").write_text(last)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    said = list(layout.circles(["circled"]))
    assert len(said) == count
    for sentence in said:
        assert {"circled.one", "circled.two", "circled.three"} <= set(sentence.split())
