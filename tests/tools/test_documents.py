"""What the documents name is there: modules and what is in them, files of this tree, links and their anchors."""

from __future__ import annotations

import importlib
import pathlib
import re

import pytest

from tests.support.places import TREE

DOCUMENTS = sorted([*TREE.glob("*.md"), *(TREE / "docs").glob("*.md")])
MODULE = re.compile(r"(?<![\w/.])(?:pfsd|pfsdaemon|ppsd|pfsfuse|pfsdeploy|pachctl|tools|tests)(?:\.\w+)+")
FILE = re.compile(r"(?<![\w/.~-])(?:csrc|tests|tools|proto|deploy|docs|pfsd|fuse|ppsd|pfsdaemon)/[\w./-]*\w")
SUFFIXES = (".py", ".proto", ".c", ".md", ".json", ".slice")
OTHERS = {
    "pfsd.main",  # the changelog's: what it was called before
    "pfsd.NAMESPACE",  # an address
}
IMAGE = "pfsd/pfsd"
SERVICES = re.compile(r"(?:pfsd|ppsd)\.(?:Store|Records|Admin|Edits|Workers)")


def ids(document: pathlib.Path) -> str:
    return str(document.relative_to(TREE))


def code(document: pathlib.Path) -> list[str]:
    """What stands in backquotes."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL))


def is_there(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def anchors(document: pathlib.Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_modules_are_there(document: pathlib.Path) -> None:
    names = {name for text in code(document) for name in MODULE.findall(text) if not name.endswith(SUFFIXES)}
    assert [name for name in sorted(names - OTHERS) if not SERVICES.fullmatch(name) and not is_there(name)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_files_are_there(document: pathlib.Path) -> None:
    names = {name for text in code(document) for name in FILE.findall(text) if not name.startswith(IMAGE)}
    assert [name for name in sorted(names) if not (TREE / name).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_links_lead_somewhere(document: pathlib.Path) -> None:
    lost = []
    for link in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []
