"""The command line: `python -m tools.image`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pfsd.errors import PfsError, RefusedError
from tools.cluster.cluster import Cluster
from tools.cluster.layout import layout
from tools.image import recipes
from tools.imagefiles.build import Cache, digest_of

_HERE = Path(__file__).parents[2]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m tools.image", description="Make container images, without a container engine."
    )
    commands = made.add_subparsers(dest="image", required=True, metavar="IMAGE")
    build = commands.add_parser("build", help=f"this project's own image, {recipes.OWN_IMAGE}")
    build.add_argument("--name", default=recipes.OWN_IMAGE, metavar="OWNER/IMAGE:TAG", help="call it that instead")
    opencv = commands.add_parser("opencv", help=f"{recipes.OPENCV_IMAGE}: Python with OpenCV, for the tutorial")
    busybox = commands.add_parser("busybox", help=f"{recipes.BUSYBOX_IMAGE}: a shell, and no Python")
    for command in (build, opencv):
        command.add_argument(
            "--from-tree", type=Path, default=_HERE, metavar="DIR", help="a source tree (default: this one)"
        )
    for command in (build, opencv, busybox):
        command.add_argument(
            "-o", "--output", type=Path, metavar="FILE", help="where the archive goes; its path is printed"
        )
        command.add_argument("--load", action="store_true", help="give it to the nodes of the cluster of tools.cluster")
    return made


def main() -> int:
    """Do what the command line says; returns the exit status."""
    options = parser().parse_args()
    try:
        if os.geteuid():
            raise RefusedError("the files of an image belong to root: run this as root")
        here = layout()
        cache = Cache(here.images)
        here.images.mkdir(parents=True, exist_ok=True)
        target = options.output or here.images / f"image-{options.image}-{digest_of(bytes(_HERE))}.tar"
        match options.image:
            case "build":
                recipes.own(cache, recipes.Tree(options.from_tree.absolute()), target, options.name)
            case "opencv":
                recipes.opencv(cache, recipes.Tree(options.from_tree.absolute()), target)
            case "busybox":
                recipes.busybox(cache, target)
        if options.load:
            Cluster(here).load(target)
        print(target)
    except PfsError as error:
        print(f"tools.image: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
