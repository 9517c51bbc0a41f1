"""Pods without a cluster: a worker's sidecar and a user's container in mount namespaces, as a node makes them.

The volume lies on a shared mount; the sidecar's namespace shares it in both directions, the user's container has its
own root directory and gets mounts from the volume only. The root directory holds the static runner and one program.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ppsd.worker import runner
from tests.support.ending import end
from tests.support.pipelines import until

USER = 1234
"""The image's user."""
STOP_SECONDS = 10

PROGRAM = r"""
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Copies the files of /pfs/in in capitals to /pfs/out, once /own/gate is gone; says what it finds around it. */
int main(void)
{
    char path[4096], line[4096];
    DIR *in = opendir("/pfs/in");
    fclose(fopen("/own/began", "a"));
    while (!access("/own/gate", F_OK))
        usleep(10000);
    for (struct dirent *one; in && (one = readdir(in));) {
        if (*one->d_name == '.')
            continue;
        snprintf(path, sizeof path, "/pfs/in/%s", one->d_name);
        FILE *from = fopen(path, "r");
        snprintf(path, sizeof path, "/pfs/out/%s", one->d_name);
        FILE *to = fopen(path, "w");
        if (!from || !to)
            return 3;
        for (int c; (c = getc(from)) != EOF;)
            putc(toupper(c), to);
        if (fclose(to) || fclose(from))
            return 4;
    }
    if (!in || symlink("/image/own", "/pfs/out/own"))
        return 5;
    printf("%s %s %s %d\n", getcwd(line, sizeof line), getenv("OF_IMAGE"), getenv("OF_SPEC"), (int)getuid());
    return 0;
}
"""


class Pod:
    """One worker: a node's mounts, a sidecar and a user's container, each of which can be killed and started."""

    def __init__(self, directory: pathlib.Path, address: str, pipeline: str, salt: str) -> None:
        self._worker = ["--address", address, "--pipeline", pipeline, "--salt", salt, "--worker-id", directory.name]
        self._directory = directory
        self.volume, self.root, self.work = directory / "volume", directory / "root", directory / "root/own"
        for made in (self.volume / "pfs", self.root / "pfs", self.root / "image", self.work):
            made.mkdir(parents=True)
        os.chown(self.work, USER, USER)
        (self.root / "image/own").write_bytes(b"of the image\n")
        shutil.copy(pathlib.Path(runner.__file__).with_name("pfs-runner"), self.root / "pfs-runner")
        (directory / "program.c").write_text(PROGRAM)
        compiler = ["gcc", "-static", "-o", str(self.root / "program"), str(directory / "program.c")]
        subprocess.run(compiler, check=True)
        shared = f"mount --bind {self.volume} {self.volume} && mount --make-shared {self.volume}"
        hold = f"{shared} && echo ready && exec cat"
        self._node = subprocess.Popen(
            ["unshare", "-m", "sh", "-ec", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._node.stdout is not None
        assert self._node.stdout.readline() == "ready\n"
        self.sidecar: subprocess.Popen[bytes] | None = None
        self.container: subprocess.Popen[bytes] | None = None

    def start_sidecar(self) -> None:
        command = [sys.executable, "-m", "ppsd.worker.sidecar", *self._worker, "--runner", str(self.work / "socket")]
        command += ["--mountpoint", str(self.volume / "pfs"), "--scratch", str(self._directory / "scratch")]
        with (self._directory / "log").open("ab") as log:
            self.sidecar = subprocess.Popen([*self._namespace("unchanged"), *command], stderr=log)

    def start_container(self) -> None:
        start = f"cd {self.root} && mount --rbind {self.volume}/pfs pfs && cd {self.root} && exec "
        start += f"{shutil.which('chroot')} --userspec={USER}:{USER} {self.root} /pfs-runner --socket /own/socket"
        environment = {"PATH": "/usr/bin:/bin", "OF_IMAGE": "image", "OF_SPEC": "image"}
        with (self._directory / "log").open("ab") as log:
            self.container = subprocess.Popen(
                [*self._namespace("slave"), "sh", "-ec", start], env=environment, stderr=log
            )

    def close_gate(self) -> None:
        """Have the program wait."""
        (self.work / "began").unlink(missing_ok=True)
        (self.work / "gate").touch()

    def began(self) -> None:
        """Wait until the program has begun."""
        until((self.work / "began").exists)

    def open_gate(self) -> None:
        (self.work / "gate").unlink()

    def mounts(self) -> list[str]:
        """What is mounted on the node below the volume."""
        lines = pathlib.Path(f"/proc/{self._node.pid}/mountinfo").read_text().splitlines()
        return [path for line in lines if (path := line.split()[4]).startswith(f"{self.volume}/")]

    def log(self) -> str:
        """What the processes said."""
        return (self._directory / "log").read_text(errors="replace")

    def _namespace(self, propagation: str) -> list[str]:
        join = ["nsenter", "--target", str(self._node.pid), "--mount"]
        return [*join, "unshare", "--mount", "--propagation", propagation]

    def end(self) -> None:
        """Stop what runs; the mounts go with the namespaces."""
        for process in (self.sidecar, self.container):
            if process is not None:
                end(process, STOP_SECONDS)
        assert self._node.stdin is not None
        assert self._node.stdout is not None
        self._node.stdin.close()
        self._node.stdout.close()
        self._node.wait()


@contextmanager
def pod(directory: pathlib.Path, address: str, pipeline: str, salt: str) -> Iterator[Pod]:
    """A pod, with nothing started in it, that is gone at the end."""
    directory.mkdir()
    made = Pod(directory, address, pipeline, salt)
    try:
        yield made
    finally:
        made.end()
