"""The command line: get all suites, or run one on a directory."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pfsd.errors import PfsError
from tools.suites import places
from tools.suites.all import SUITES


def main() -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog=places.COMMAND, description="File system test suites of others.")
    commands = parser.add_subparsers(dest="command")
    run = commands.add_parser("run", help="run one suite on a directory, and print what failed, with counts")
    run.add_argument("suite", choices=[suite.name for suite in SUITES])
    run.add_argument("directory", type=Path)
    options = parser.parse_args()
    try:
        if options.command == "run":
            suite = next(suite for suite in SUITES if suite.name == options.suite)
            counts = suite.run(options.directory.resolve())
            print("\n".join(counts.lines()))
            return 1 if counts.failed else 0
        for suite in SUITES:
            print(f"{suite.name}: {suite.about}", flush=True)
            suite.get(places.directory())
    except PfsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
