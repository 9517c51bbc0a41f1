"""The source distribution and the wheel: built from the tree, installed in fresh environments, and used there."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import site
import subprocess
import sys
import zipfile

import pytest

from pfsd.version import VERSION

TREE = pathlib.Path(__file__).resolve().parent.parent
LEFT_OUT = shutil.ignore_patterns(
    ".*", "build", "dist", "demo-output", "__pycache__", "*.egg-info", "*.so", "pfs-runner", "node_modules"
)
BUILD_SECONDS = 300
SOURCES = ("pfsd", "fuse", "deploy", "ppsd", "tools")


def run(*command: str | pathlib.Path, cwd: pathlib.Path) -> str:
    """What a command prints; it does not find this tree by itself."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    result = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def pip(*arguments: str | pathlib.Path, cwd: pathlib.Path) -> None:
    """pip without a network: what is needed is in this Python's environment."""
    run(sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The source distribution, built from a copy of the tree."""
    place = tmp_path_factory.mktemp("sdist")
    shutil.copytree(TREE, place / "tree", ignore=LEFT_OUT)
    build = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", build, str(place), cwd=place / "tree")
    (found,) = place.glob("*.tar.gz")
    return found


@pytest.fixture(scope="module")
def wheel(sdist: pathlib.Path) -> pathlib.Path:
    """The wheel, built from the source distribution alone."""
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", sdist.parent, sdist, cwd=sdist.parent)
    (found,) = sdist.parent.glob("*.whl")
    return found


def fresh_environment(place: pathlib.Path) -> pathlib.Path:
    """An environment that has what this one has of others' packages, and nothing of this project; its `bin`."""
    run(sys.executable, "-m", "venv", "--without-pip", place, cwd=place.parent)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return place / "bin"


def test_the_wheel_holds_every_module_and_what_is_made_of_c(wheel: pathlib.Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    wanted = {str(path.relative_to(TREE)) for folder in SOURCES for path in (TREE / folder).rglob("*.py")}
    wanted |= {str(path.relative_to(TREE / "proto")) for path in (TREE / "proto/pachproto").glob("*.p*")}
    assert wanted - held == set()
    assert "ppsd/pfs-runner" in held
    for module in ("pfsd/_core", "pfsd/_scan", "fuse/_answers"):
        assert any(name.startswith(f"{module}.") and name.endswith(".so") for name in held)


@pytest.mark.parametrize("kind", ["sdist", "wheel"])
def test_it_is_installed_and_serves(request: pytest.FixtureRequest, tmp_path: pathlib.Path, kind: str) -> None:
    archive = request.getfixturevalue(kind)
    programs = fresh_environment(tmp_path / "environment")
    pip(
        f"--python={programs / 'python'}",
        *("install", "--no-deps", "--no-build-isolation", "--no-index", archive),
        cwd=tmp_path,
    )
    for program in ("pfsd", "ppsd"):
        assert run(programs / program, "--version", cwd=tmp_path).startswith(f"{program} {VERSION} ")
    where = run(programs / "python", "-c", "import pfsd, tools; print(pfsd.__file__, tools.__file__)", cwd=tmp_path)
    assert all(name.startswith(str(tmp_path)) for name in where.split())
    runner = next((tmp_path / "environment").glob("lib/python*/site-packages/ppsd/pfs-runner"))
    assert os.access(runner, os.X_OK)
    daemon = subprocess.Popen(
        [programs / "pfsd", "--root", "root", "--listen", "127.0.0.1:0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert daemon.stdout is not None
        address = daemon.stdout.readline().split()[-1]
        (tmp_path / "file").write_bytes(b"content\n" * 1000)
        environment = f"ADDRESS={address}"
        for line in ("create-repo r", "put-file r master f -c -f file"):
            run("env", environment, programs / "pachctl", *line.split(), cwd=tmp_path)
        assert run("env", environment, programs / "pachctl", "get-file", "r", "master", "f", cwd=tmp_path) == (
            "content\n" * 1000
        )
    finally:
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0
        if daemon.stdout is not None:
            daemon.stdout.close()
