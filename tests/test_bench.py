"""The benchmarks run; what they measure is nobody's promise."""

from __future__ import annotations

import pathlib
import subprocess
import sys


def run_bench(directory: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.bench", "--directory", str(directory), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_the_store_benchmark_prints_every_table_and_leaves_nothing(tmp_path: pathlib.Path) -> None:
    result = run_bench(tmp_path, "store", "--quick")
    assert result.returncode == 0, result.stderr
    for title in ("put one file of 1 MiB", "put 50 tiny files", "a commit of 200 files", "2 versions of a file"):
        assert title in result.stdout
    for row in ("pfsd, pachctl put-file", "cp -r", "start, put, finish", "pachctl glob-file", "of plain"):
        assert row in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_pipeline_benchmark_prints_every_table_and_leaves_nothing(tmp_path: pathlib.Path) -> None:
    result = run_bench(tmp_path, "pipeline", "--quick")
    assert result.returncode == 0, result.stderr
    for row in ("xargs -P2, the same command", "a job with few changes", "from the commit to the last output"):
        assert row in result.stdout
    assert "processes below the daemon: 12;" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_benchmark_is_refused(tmp_path: pathlib.Path) -> None:
    result = run_bench(tmp_path, "stroe")
    assert result.returncode == 2
    assert "there is no benchmark stroe: name some of store" in result.stderr
