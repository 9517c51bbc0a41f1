"""The benchmarks run; what they measure is nobody's promise."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from pfsfuse.kernel.mounts import present


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
    assert "processes below the daemon: 18;" in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0 or not os.access("/dev/fuse", os.W_OK), reason="needs root and /dev/fuse")
def test_the_mount_benchmark_prints_every_table_and_leaves_nothing(tmp_path: pathlib.Path) -> None:
    result = run_bench(tmp_path, "mount", "--quick")
    assert result.returncode == 0, result.stderr
    for title in (
        "cat of 1 MiB, cold",
        "50 random reads in 1 MiB, cold",
        "cat of 50 files of 1 KiB, again",
        "ls -l of 50 files, again",
        "tar c of 30 source files, cold",
        "cp of 1 MiB, synced",
        "tar x of 30 source files",
        "rm -rf of 50 tiny files",
        "beside the targets",
    ):
        assert title in result.stdout
    for row in ("find -ls over", "calls", "cp -r of 50 tiny files", "create 1.0", "into /pfs/out", "the whole job"):
        assert row in result.stdout
    assert list(tmp_path.iterdir()) == []
    assert not [mount for mount in present() if mount.target.startswith(str(tmp_path))]


@pytest.mark.skipif(os.getuid() != 0 or not os.access("/dev/fuse", os.W_OK), reason="needs root and /dev/fuse")
def test_a_part_of_the_mount_benchmark_runs_alone(tmp_path: pathlib.Path) -> None:
    result = run_bench(tmp_path, "mount/untar", "--quick")
    assert result.returncode == 0, result.stderr
    assert "tar x of 30 source files" in result.stdout
    assert "cat of" not in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_load_benchmark_prints_its_table_and_leaves_nothing(tmp_path: pathlib.Path) -> None:
    result = run_bench(tmp_path, "load", "--quick")
    assert result.returncode == 0, result.stderr
    for row in ("idle", "64 puts from URLs", "a glob with many stars", "--split json", "a commit of many files"):
        assert row in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_benchmark_is_refused(tmp_path: pathlib.Path) -> None:
    result = run_bench(tmp_path, "stroe")
    assert result.returncode == 2
    assert "there is no benchmark stroe: name some of store" in result.stderr
