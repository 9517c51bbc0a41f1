"""The first process of a machine: `python -m tools.cluster.init FILE`, inside its namespaces.

It gives the machine its own /var and /run, starts its programs, starts them again where they end, and reaps what they
leave behind. When it ends, the kernel ends every process of the machine, and with them go its mounts.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

AGAIN_SECONDS = 1.0
"""Between the end of a program and its next start."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that runs for as long as the machine does."""

    name: str
    command: list[str]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a machine is made of."""

    var: str
    run: str
    logs: str
    programs: list[Program]

    def save(self, path: Path) -> None:
        """Write it where `load` finds it."""
        path.write_text(json.dumps(asdict(self), indent=1))

    @staticmethod
    def load(path: Path) -> Plan:
        """Read what `save` wrote."""
        known = json.loads(path.read_text())
        return Plan(**{**known, "programs": [Program(**program) for program in known["programs"]]})


def main() -> int:
    """Run the machine until it is killed."""
    plan = Plan.load(Path(sys.argv[1]))
    _mounts(plan)
    _soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    running: dict[int, tuple[subprocess.Popen[bytes], Program]] = {}

    def start(program: Program) -> None:
        # The Popen is kept: one that is dropped waits for its process, which this loop would then never hear of.
        process = _start(plan, program)
        running[process.pid] = process, program

    for program in plan.programs:
        start(program)
    while True:
        ended, _status = os.waitpid(-1, 0)
        found = running.pop(ended, None)
        if found is not None:
            time.sleep(AGAIN_SECONDS)
            start(found[1])


def _mounts(plan: Plan) -> None:
    """Mounts that kubelet and containerd make have to reach containers, but never the machine around."""
    _mount("--make-rshared", "/")
    for source, target in ((plan.var, "/var"), (plan.run, "/run")):
        _mount("--bind", source, target)
        _mount("--make-private", target)  # or what is mounted below it would appear below the source, too
        _mount("--make-shared", target)


def _mount(*arguments: str) -> None:
    """Run mount(8)."""
    subprocess.run(["mount", *arguments], check=True)


def _start(plan: Plan, program: Program) -> subprocess.Popen[bytes]:
    with (Path(plan.logs) / f"{program.name}.log").open("ab") as log:
        return subprocess.Popen(program.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")


if __name__ == "__main__":
    sys.exit(main())
