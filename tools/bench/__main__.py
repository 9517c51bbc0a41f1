"""The entry point of the benchmarks."""

from __future__ import annotations

import argparse
import os
import pathlib
import signal
import sys
import tempfile

from tools.bench import load, mount, pipeline, remote, store
from tools.bench.measure import Bench

BENCHMARKS = {
    "store": store.run,
    "mount": mount.run_all,
    "pipeline": pipeline.run,
    "remote": remote.run,
    "load": load.run,
}
PARTS = {f"mount/{name}": mount.run_group(name) for name in mount.GROUPS}


def main() -> int:
    """Run the benchmarks that the command line names, or all."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is stopped then too
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description="Measure pfsd beside other tools.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)} (default: all), {', '.join(PARTS)}"
    )
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--large", action="store_true", help="the full sizes too: takes long, and tens of gigabytes")
    scale.add_argument("--quick", action="store_true", help="tiny sizes, to see that the benchmarks run")
    parser.add_argument("--cpu", type=int, help="the core that everything runs on (default: the last one)")
    parser.add_argument("--directory", type=pathlib.Path, help="where temporary files go (default: TMPDIR or /tmp)")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS | PARTS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]}: name some of {', '.join(BENCHMARKS)}")
    cpu = max(os.sched_getaffinity(0)) if arguments.cpu is None else arguments.cpu
    try:
        os.sched_setaffinity(0, {cpu})  # child processes inherit it
    except OSError:
        parser.error(f"--cpu {cpu}: there is no such core, or it may not be used")
    with tempfile.TemporaryDirectory(prefix="pfsd-bench-", dir=arguments.directory) as directory:
        bench = Bench(pathlib.Path(directory))
        print(f"pinned to core {cpu}; medians; 'x pfsd' is time over that of pfsd in the same round", flush=True)
        for name in arguments.names or BENCHMARKS:
            (BENCHMARKS | PARTS)[name](bench, arguments.large, arguments.quick)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
