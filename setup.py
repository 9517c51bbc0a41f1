"""Builds what setup.cfg can't name: the C extensions, and the static runner that starts user code."""

import pathlib
import subprocess

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

WARNINGS = ["-Wall", "-Wextra", "-Werror"]


def files(program: str, suffix: str) -> list[str]:
    """Those of a program that has a folder of its own."""
    return sorted(str(path) for path in pathlib.Path("csrc", program).glob(f"*{suffix}"))


class BuildNative(build_ext):
    """Compiles the extension, then links the runner statically so that it works in any root file system."""

    def run(self) -> None:
        super().run()
        base = pathlib.Path(".") if self.inplace else pathlib.Path(self.build_lib)
        target = base / "ppsd" / "worker" / "pfs-runner"
        target.parent.mkdir(parents=True, exist_ok=True)
        command = [
            "gcc",
            "-std=gnu11",
            "-O2",
            *WARNINGS,
            "-static",
            "-o",
            str(target),
            *files("runner", ".c"),
        ]
        subprocess.run(command, check=True)


setup(
    ext_modules=[
        Extension(
            "pfsd._core",
            files("core", ".c"),
            depends=files("core", ".h"),
            extra_compile_args=["-std=gnu11", "-O3", "-flto", *WARNINGS],
            extra_link_args=["-O3", "-flto"],  # its files call each other for every row of a node
        ),
        Extension("pfsd._scan", ["csrc/scan.c"], extra_compile_args=["-std=gnu11", "-O3", *WARNINGS]),
        Extension(
            "pfsfuse._answers",
            files("answers", ".c"),
            depends=files("answers", ".h"),
            libraries=["fuse3"],
            extra_compile_args=["-std=gnu11", "-O2", *WARNINGS],
        ),
    ],
    cmdclass={"build_ext": BuildNative},
)
