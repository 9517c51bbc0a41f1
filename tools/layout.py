"""`python -m tools.layout` checks what linters don't know of the layout; `make lint` runs it.

No module has over `MODULE_LINES` lines and no function over `FUNCTION_LINES`, no package has over `PACKAGE_MODULES`
modules, and no modules import each other in a circle, tests included. Code that is generated does not count.
"""

from __future__ import annotations

import ast
import graphlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import grimp

TREE = Path(__file__).resolve().parents[1]
PACKAGES = ("pfsd", "pfsdaemon", "pfsdeploy", "pfsfuse", "ppsd", "pachctl", "tools", "tests")
FOLDERS = ("csrc", "deploy", "fuse", "pfsd", "pfsdaemon", "ppsd", "tests", "tools")
MODULE_LINES = 500
FUNCTION_LINES = 60
PACKAGE_MODULES = 15

EXCEPTIONS: dict[str, str] = {}
"""What may be longer, by its name as findings give it, each with the reason."""


def main() -> int:
    """Print what is found; the exit status is 1 where something is."""
    findings = [*sizes(TREE), *circles(PACKAGES)]
    for finding in findings:
        print(finding)
    return 1 if findings else 0


def sizes(tree: Path) -> Iterator[str]:
    """A sentence for each module, function and package of a checkout that is too large."""
    files = [path for folder in FOLDERS for path in sorted((tree / folder).rglob("*")) if path.suffix in (".py", ".c")]
    modules = Counter(path.parent for path in files if path.suffix == ".py" and path.name != "__init__.py")
    for package, count in modules.items():
        name = str(package.relative_to(tree))
        if count > PACKAGE_MODULES and name not in EXCEPTIONS:
            yield f"{name} has {count} modules, and may have {PACKAGE_MODULES}: group them in subpackages"
    for path in files:
        name, text = str(path.relative_to(tree)), path.read_text()
        lines = text.count("\n")
        if lines > MODULE_LINES and name not in EXCEPTIONS:
            yield f"{name} has {lines} lines, and may have {MODULE_LINES}: split it"
        if path.suffix == ".py":
            yield from long_functions(name, text)


def long_functions(name: str, text: str) -> Iterator[str]:
    """A sentence for each function of a module that is too long."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES and f"{name}:{node.name}" not in EXCEPTIONS:
                yield f"{name}:{node.name} has {lines} lines, and may have {FUNCTION_LINES}: split it"


def circles(packages: Sequence[str]) -> Iterator[str]:
    """A sentence for a circle of modules that import each other, if there is one; imports for types count."""
    graph = grimp.build_graph(*packages, cache_dir=None)
    imported = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        graphlib.TopologicalSorter(imported).prepare()
    except graphlib.CycleError as error:
        yield f"modules import each other in a circle: {' <- '.join(error.args[1])}"


if __name__ == "__main__":
    sys.exit(main())
