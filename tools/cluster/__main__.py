"""The command line: `python -m tools.cluster`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pfsd.errors import PfsError
from tools.cluster.cluster import Cluster
from tools.cluster.layout import MOST_NODES, layout


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m tools.cluster", description="A Kubernetes cluster on this machine.")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="build what is missing, start what does not run, wait until it is ready")
    up.add_argument("--nodes", type=int, default=1, choices=range(1, MOST_NODES + 1), help="how many nodes (default 1)")
    commands.add_parser("down", help="end everything and remove it; what was built stays")
    commands.add_parser("status", help="what runs")
    commands.add_parser("env", help='shell commands that point kubectl at the cluster: eval "$(... env)"')
    load = commands.add_parser("load", help="give the image in a tar file to every node")
    load.add_argument("archive", type=Path, metavar="IMAGE.tar")
    for name, effect in (
        ("start-node", "start a node, new or stopped"),
        ("stop-node", "end a node without warning"),
        ("remove-node", "forget a node"),
    ):
        command = commands.add_parser(name, help=effect)
        command.add_argument("number", type=int, choices=range(1, MOST_NODES + 1))
    return made


def main() -> int:
    """Do what the command line says; returns the exit status."""
    options = parser().parse_args()
    try:
        cluster = Cluster(layout())
        match options.command:
            case "up":
                cluster.up(options.nodes)
                print(f"ready: kubectl --kubeconfig={cluster.layout.kubeconfig}")
            case "down":
                cluster.down()
            case "status":
                print(cluster.status())
            case "env":
                print(f"export KUBECONFIG={cluster.layout.kubeconfig}")
                print(f"export PATH={cluster.layout.programs}:$PATH")
            case "load":
                cluster.load(options.archive)
            case "start-node":
                cluster.start(options.number)
            case "stop-node":
                cluster.stop(options.number)
            case "remove-node":
                cluster.remove(options.number)
    except PfsError as error:
        print(f"tools.cluster: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
