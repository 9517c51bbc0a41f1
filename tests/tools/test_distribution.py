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
from tests.support.places import TREE

LEFT_OUT = shutil.ignore_patterns(
    ".*", "build", "dist", "demo-output", "__pycache__", "*.egg-info", "*.so", "pfs-runner", "node_modules"
)
BUILD_SECONDS = 300
FOLDERS = {
    "pfsd": "pfsd",
    "pfsdaemon": "pfsdaemon",
    "ppsd": "ppsd",
    "pfsfuse": "fuse",
    "pfsdeploy": "deploy",
    "pachctl": "tools",
}
"""The packages that are installed, and the folder of the checkout that each lies in, or is."""


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


def install(programs: pathlib.Path, archive: pathlib.Path) -> None:
    """Install a distribution of this project into an environment."""
    options = ("--no-deps", "--no-build-isolation", "--no-index")
    pip(f"--python={programs / 'python'}", "install", *options, archive, cwd=programs)


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
    wanted = {f"pachproto/{path.name}" for path in (TREE / "proto/pachproto").glob("*.p*")}
    for package, folder in FOLDERS.items():
        above = TREE if folder == package else TREE / folder
        wanted |= {str(path.relative_to(above)) for path in (above / package).rglob("*.py")}
    assert wanted - held == set()
    assert "ppsd/worker/pfs-runner" in held
    for module in ("pfsd/_core", "pfsd/_scan", "pfsfuse/_answers"):
        assert any(name.startswith(f"{module}.") and name.endswith(".so") for name in held)


def test_the_wheels_names_are_the_projects_own(wheel: pathlib.Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name.partition("/")[0] for name in archive.namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {*FOLDERS, "pachproto"}


def test_it_is_installed_beside_a_package_that_is_called_fuse(wheel: pathlib.Path, tmp_path: pathlib.Path) -> None:
    programs = fresh_environment(tmp_path / "environment")  # has fusepy
    install(programs, wheel)
    script = "import fuse, pfsfuse.mount; print(fuse.FUSE.__name__, pfsfuse.__file__)"
    name, path = run("env", "FUSE_LIBRARY_PATH=libfuse3.so.3", programs / "python", "-c", script, cwd=tmp_path).split()
    assert name == "FUSE"
    assert path.startswith(str(tmp_path))


@pytest.mark.parametrize("kind", ["sdist", "wheel"])
def test_it_is_installed_and_serves(request: pytest.FixtureRequest, tmp_path: pathlib.Path, kind: str) -> None:
    programs = fresh_environment(tmp_path / "environment")
    install(programs, request.getfixturevalue(kind))
    for program in ("pfsd", "ppsd"):
        assert run(programs / program, "--version", cwd=tmp_path).startswith(f"{program} {VERSION} ")
    where = run(programs / "python", "-c", "import pfsd, pachctl; print(pfsd.__file__, pachctl.__file__)", cwd=tmp_path)
    assert all(name.startswith(str(tmp_path)) for name in where.split())
    runner = next((tmp_path / "environment").glob("lib/python*/site-packages/ppsd/worker/pfs-runner"))
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
