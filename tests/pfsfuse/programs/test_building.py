"""What builds and installs works in an open commit, and runs from the finished one."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import zipfile

import pytest

from tests.pfsfuse.programs.work import RUN_SECONDS, Work, need

MAKEFILE = "CFLAGS = -O1\nmain: main.o other.o\n\t$(CC) -o $@ $^\nmain.o other.o: other.h\nclean:\n\trm -f main *.o\n"
SOURCES = {
    "Makefile": MAKEFILE,
    "other.h": "int other(int);\n",
    "other.c": '#include "other.h"\nint other(int n) { return n * 2; }\n',
    "main.c": '#include <stdio.h>\n#include "other.h"\nint main(void) { printf("%d\\n", other(21)); return 0; }\n',
}


def test_make_builds_a_program_that_runs(work: Work) -> None:
    need("make gcc libc6-dev", "make", "cc")
    where = work.top / "program"
    where.mkdir()
    for name, text in SOURCES.items():
        (where / name).write_text(text)
    work.run("make", "-C", where)
    assert work.run(where / "main") == "42\n"
    work.run("make", "-C", where, "-q")
    (where / "other.c").write_text(SOURCES["other.c"].replace("2", "3"))
    work.run("make", "-C", where)
    assert work.run(where / "main") == "63\n"
    with work.second() as second:
        work.run("make", "-C", second / "program", "-q")
    with work.finished() as top:
        assert work.run(top / "program/main") == "63\n"
        work.run("make", "-C", top / "program", "-q")


def make_wheel(where: pathlib.Path) -> pathlib.Path:
    """A package with a command, as pip installs it."""
    path = where / "tiny-1.0-py3-none-any.whl"
    metadata = "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
    files = {
        "tiny/__init__.py": "def main():\n    print('tiny ran')\n",
        "tiny-1.0.dist-info/METADATA": metadata,
        "tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny-1.0.dist-info/entry_points.txt": "[console_scripts]\ntiny = tiny:main\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, "tiny-1.0.dist-info/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, "tiny-1.0.dist-info/RECORD": record}.items():
            archive.writestr(name, text)
    return path


def need_own(module: str, package: str) -> None:
    """Skip where this Python lacks a part that Debian has apart."""
    command = [sys.executable, "-c", f"import {module}"]
    if subprocess.run(command, capture_output=True, timeout=RUN_SECONDS, check=False).returncode:
        pytest.skip(f"{module} not here: apt-get install {package}")


def test_pip_installs_to_a_target(work: Work) -> None:
    need_own("pip", "python3-pip")
    wheel = make_wheel(work.aside)
    install = (sys.executable, "-m", "pip", "install", "-q", "--no-index", "--target", work.top / "target")
    work.run(*install, wheel)
    work.run(*install, "--upgrade", wheel)
    script = "import sys; sys.path.insert(0, sys.argv[1]); import tiny; tiny.main(); print(tiny.__file__)"
    with work.finished() as top:
        said = work.run(sys.executable, "-c", script, top / "target")
        assert said == f"tiny ran\n{top}/target/tiny/__init__.py\n"
        assert (top / "target/bin/tiny").stat().st_mode & 0o111 == 0o111


def test_a_venv_in_a_commit(work: Work) -> None:
    need_own("ensurepip", "python3-venv")
    work.run(sys.executable, "-m", "venv", "--symlinks", work.top / "venv")
    python = work.top / "venv/bin/python"
    assert python.is_symlink()
    work.run(python, "-m", "pip", "install", "-q", "--no-index", make_wheel(work.aside))
    assert work.run(work.top / "venv/bin/tiny") == "tiny ran\n"
    script = "import sys, tiny; tiny.main(); print(sys.prefix)"
    assert work.run(python, "-c", script) == f"tiny ran\n{work.top}/venv\n"
    with work.finished() as top:
        assert work.run(top / "venv/bin/python", "-c", script) == f"tiny ran\n{top}/venv\n"


def test_ffmpeg_writes_a_film(work: Work) -> None:
    need("ffmpeg", "ffmpeg")

    def frames(film: pathlib.Path) -> str:
        return work.run("ffmpeg", "-v", "error", "-i", film, "-f", "framemd5", "-")

    def make(film: pathlib.Path) -> None:
        source = ("-f", "lavfi", "-i", "testsrc=duration=2:size=320x240:rate=15")
        # The index goes to the front at the end: all is read and written anew.
        coded = ("-c:v", "mpeg4", "-threads", "1", "-bitexact", "-movflags", "+faststart")
        work.run("ffmpeg", "-v", "error", *source, *coded, film)

    make(work.aside / "x.mp4")
    make(work.top / "x.mp4")
    assert frames(work.top / "x.mp4") == frames(work.aside / "x.mp4")
    with work.finished() as top:
        assert (top / "x.mp4").read_bytes() == (work.aside / "x.mp4").read_bytes()
        assert frames(top / "x.mp4") == frames(work.aside / "x.mp4")
