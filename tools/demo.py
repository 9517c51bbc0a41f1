"""The beginner tutorial, played end to end on real photographs: `make demo`.

Starts a daemon over a temporary root, runs every command of the tutorial through a shell, printing it first,
checks what must hold, and leaves nothing running. The edge images end up in `demo-output/`.
"""

from __future__ import annotations

import os
import pathlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
OUTPUT = HERE.parent / "demo-output"
START_SECONDS = 30
STOP_SECONDS = 10


class DemoError(Exception):
    """Something did not go as the tutorial says."""


def photographs() -> pathlib.Path:
    """The directory of scikit-image's sample photographs, which `make` has put beside the installed packages."""
    found = pathlib.Path(sys.prefix) / "photographs/skimage/data"
    if not found.is_dir():
        raise DemoError("the sample photographs of scikit-image are not installed: run `make demo`")
    return found


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Shell:
    """Runs commands in a directory, showing each as a user would have typed it."""

    def __init__(self, directory: pathlib.Path, environment: dict[str, str]) -> None:
        self.directory = directory
        self.environment = environment
        self.background: list[subprocess.Popen[bytes]] = []

    def run(self, command: str) -> str:
        """Show and run a command; returns what it printed. Raises DemoError when it fails."""
        print(f"\n$ {command}", flush=True)
        result = subprocess.run(
            ["bash", "-c", command],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        print(result.stdout, end="", flush=True)
        if result.returncode:
            raise DemoError(f"`{command}` ended with status {result.returncode}")
        return result.stdout

    def start(self, command: str) -> subprocess.Popen[bytes]:
        """Show a command and start it in the background."""
        print(f"\n$ {command} &", flush=True)
        process = subprocess.Popen(
            shlex.split(command), cwd=self.directory, env=self.environment, stdout=subprocess.PIPE
        )
        self.background.append(process)
        return process

    def stop_all(self) -> None:
        """Stop what still runs in the background, the latest first."""
        for process in reversed(self.background):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            if process.stdout is not None:
                process.stdout.close()


def say(text: str) -> None:
    print(f"\n# {text}", flush=True)


def expect(holds: bool, what: str) -> None:
    if not holds:
        raise DemoError(f"this should hold and does not: {what}")


def wait_until_mounted(mountpoint: pathlib.Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not os.path.ismount(mountpoint):
        if process.poll() is not None or time.monotonic() > deadline:
            raise DemoError(f"{mountpoint} was not mounted")
        time.sleep(0.05)


def tutorial(shell: Shell, photos: pathlib.Path) -> None:
    """The steps of the beginner tutorial."""
    daemon = shell.start(f"pfsd --root root --listen {shell.environment['ADDRESS']}")
    assert daemon.stdout is not None
    ready = daemon.stdout.readline().decode()
    expect(bool(ready), "pfsd says that it is ready")
    print(ready, end="", flush=True)
    shell.run("pachctl version")

    say("Create a repo and put a photograph into it")
    shell.run("pachctl create-repo images")
    shell.run("pachctl list-repo")
    shell.run(f"pachctl put-file images master coffee.png -c -f {photos}/coffee.png")
    shell.run("pachctl list-repo")
    shell.run("pachctl list-commit images")
    shell.run("pachctl list-file images master")

    say("Create a pipeline. The tutorial's image holds python3 and /edges.py; here they lie in this checkout")
    shell.run(f"sed 's|python3|{sys.executable}|; s|/edges.py|{HERE}/edges.py|' {HERE}/edges.json | tee edges.json")
    shell.run("pachctl create-pipeline -f edges.json")
    shell.run("pachctl list-pipeline")
    shell.run("pachctl flush-commit images/master")
    shell.run("pachctl list-job")
    shell.run("pachctl get-logs --pipeline=edges")
    shell.run("pachctl list-repo")
    shell.run("pachctl list-file edges master")

    say("Mount everything and read it with ordinary tools")
    shell.run("mkdir pfs")
    mount = shell.start("pachctl mount pfs")
    wait_until_mounted(shell.directory / "pfs", mount)
    shell.run("ls -l pfs pfs/images/master pfs/edges/master")
    shell.run("file pfs/images/master/coffee.png pfs/edges/master/coffee.png")
    shell.run(f"cmp pfs/images/master/coffee.png {photos}/coffee.png && echo the same, byte for byte")

    say("Put more photographs: only the new ones are processed")
    shell.run(f"pachctl put-file images master astronaut.png -c -f {photos}/astronaut.png")
    shell.run(f"pachctl put-file images master chelsea.png -c -f {photos}/chelsea.png")
    shell.run("pachctl flush-commit images/master")
    jobs = shell.run("pachctl list-job")
    expect("1 + 2 / 3" in jobs, "the last job processed 1 datum and skipped 2")
    expect(jobs.count(" success") == 3, "all three jobs succeeded")

    say("The mount shows the new head of each branch at once, and every old commit under its id")
    shell.run("ls -l pfs/edges/master")
    shell.run("ls pfs/images/master^ pfs/images/master~2")
    images = shell.run("file pfs/edges/master/*.png")
    expect(images.count("PNG image data") == 3, "three edge images can be read through the mount")
    shell.run(f"cp -f pfs/edges/master/*.png {shlex.quote(str(OUTPUT))}/")

    scripts(shell)

    say("Unmount and stop")
    shell.run("pachctl unmount pfs")
    expect(mount.wait(STOP_SECONDS) == 0, "the mount ends with status 0")
    expect(not os.path.ismount(shell.directory / "pfs"), "nothing is mounted any more")
    daemon.send_signal(signal.SIGTERM)
    print("\n$ kill %pfsd", flush=True)
    expect(daemon.wait(STOP_SECONDS) == 0, "pfsd ends with status 0")


def scripts(shell: Shell) -> None:
    """A commit that is written through the mount keeps what files are; a script runs from it."""
    say("Write a commit through the mount: it keeps modes, times and links, so programs run from it")
    shell.run("mkdir pfs/scripts && mkdir pfs/scripts/master")
    lines = r"printf '#!/bin/sh\nls \"$1\" | wc -l\n'"
    shell.run(f"{lines} > pfs/scripts/master/count && chmod +x pfs/scripts/master/count")
    shell.run("ln -s count pfs/scripts/master/how-many")
    shell.run("pachctl finish-commit scripts master")
    shell.run("ls -l pfs/scripts/master")
    counted = shell.run("pfs/scripts/master/how-many pfs/images/master")
    expect(counted.strip() == "3", "the script counts three images")


def main() -> int:
    """Run the demo; returns its exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the daemon is stopped then too
    OUTPUT.mkdir(exist_ok=True)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="pfsd-demo-"))
    binaries = pathlib.Path(sys.executable).parent
    environment = {
        **os.environ,
        "ADDRESS": f"127.0.0.1:{free_port()}",
        "PATH": f"{binaries}:{os.environ['PATH']}",
    }
    shell = Shell(directory, environment)
    try:
        tutorial(shell, photographs())
    except DemoError as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nThe demo was interrupted.", file=sys.stderr)
        return 130
    finally:
        shell.stop_all()
        shutil.rmtree(directory, ignore_errors=True)
    print(f"\nDone. The edge images are in {OUTPUT}:")
    for path in sorted(OUTPUT.glob("*.png")):
        print(f"  {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
