"""A disk that fails when it is told to: `diskfaults.c`, preloaded into a daemon."""

from __future__ import annotations

import errno
import os
import pathlib
import subprocess
from dataclasses import dataclass

from tests.support.daemons import Daemon

SOURCE = pathlib.Path(__file__).with_name("diskfaults.c")


@dataclass(frozen=True)
class Disk:
    """What is to go wrong, and what happened."""

    directory: pathlib.Path
    library: pathlib.Path

    @classmethod
    def make(cls, directory: pathlib.Path) -> Disk:
        """A disk that does what it is asked for."""
        directory.mkdir()
        library = directory / "diskfaults.so"
        flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["gcc", *flags, "-o", library, SOURCE, "-ldl"], check=True)
        return cls(directory, library)

    def daemon(self, root: pathlib.Path, *options: str) -> Daemon:
        """A daemon over this disk, not started yet."""
        return Daemon(root, *options, wrapper=("env", f"LD_PRELOAD={self.library}", f"DISK_FAULTS={self.directory}"))

    def fail(
        self,
        call: str,
        part: str | pathlib.Path,
        *,
        skip: int = 0,
        times: int = 1,
        number: int = errno.EIO,
        mode: str = "keep",
    ) -> None:
        """Let calls on paths that hold `part` fail from now on; see the library for the rest."""
        new = self.directory / "new"
        new.write_text(f"{part} {skip} {times} {number} {mode}\n")
        new.rename(self.directory / f"fail-{call}")

    def heal(self) -> None:
        """Nothing fails any more."""
        for path in self.directory.glob("fail-*"):
            path.unlink()

    def events(self) -> list[tuple[str, str]]:
        """What was done (`sync`, `failed` or `mkdir`), each with its path."""
        lines = (self.directory / "log").read_text().splitlines()
        return [(word, path) for word, _, path in (line.partition(" ") for line in lines)]

    def cut_power(self, root: pathlib.Path) -> None:
        """After the daemon was killed: what syncs have failed to write was never on the disk."""
        lost = self.directory / "lost"
        for line in lost.read_text().splitlines() if lost.exists() else ():
            name, start, end = line.rsplit(" ", 2)
            for path in (pathlib.Path(name), *root.glob(f"objects/packs/??/{pathlib.Path(name).name}")):
                if path.exists():
                    with path.open("r+b") as file:
                        file.seek(int(start))
                        file.write(bytes(min(int(end), os.fstat(file.fileno()).st_size) - int(start)))
