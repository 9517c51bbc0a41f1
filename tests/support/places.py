"""Where things of this project are that tests read."""

from __future__ import annotations

import pathlib

TREE = pathlib.Path(__file__).resolve().parents[2]
"""The checkout."""
TOOLS = TREE / "tools"
DATA = TREE / "tests" / "data"
