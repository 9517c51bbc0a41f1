"""What holds the datums of the tests of pipelines up."""

from __future__ import annotations

import pathlib

import pytest

from tests.support.pipelines import Gate


@pytest.fixture
def gate(tmp_path: pathlib.Path) -> Gate:
    return Gate(tmp_path / "gate")
