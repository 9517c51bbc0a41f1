"""Where things of this project are that tests read."""

from __future__ import annotations

import pathlib
import tempfile

TREE = pathlib.Path(__file__).resolve().parents[2]
"""The checkout."""
TOOLS = TREE / "tools"
DATA = TREE / "tests" / "data"


def let_others_in(path: pathlib.Path) -> None:
    """Allow other users to go to a directory of a test, which pytest makes below some that are its user's alone."""
    temporary = pathlib.Path(tempfile.gettempdir())
    for above in (path, *path.parents):
        if above == temporary:
            break
        above.chmod(0o755)
