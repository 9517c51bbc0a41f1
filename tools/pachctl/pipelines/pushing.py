"""`--push-images` of create-pipeline and update-pipeline."""

from __future__ import annotations

import argparse
import getpass
import pathlib
import sys
from collections.abc import Sequence

from pachctl.terminal.command import Arguments, UsageError
from pachctl.terminal.output import remark
from pachproto import pps_pb2

DEFAULT_REGISTRY = "docker.io"


def add_push_options(parser: argparse.ArgumentParser) -> None:
    """The options of the commands that push images."""
    parser.add_argument(
        "-p",
        "--push-images",
        action="store_true",
        help="push the pipelines' local images as REGISTRY/USERNAME/NAME:TAG, with a tag of their own, and use those",
    )
    parser.add_argument(
        "-r", "--registry", metavar="HOST", default="", help=f"push to this registry (default {DEFAULT_REGISTRY})"
    )
    parser.add_argument(
        "-u", "--username", metavar="NAME", default="", help="push as this user (default: as docker login, or your own)"
    )
    parser.add_argument(
        "--password",
        metavar="TEXT",
        default="",
        help="the registry's password (default: of docker login, or asked for)",
    )
    parser.add_argument(
        "--image-archive", metavar="FILE", default="", help="push from what docker save wrote, not from a Docker engine"
    )


def check_push_options(arguments: Arguments) -> None:
    """Raise UsageError for options of a push where none is asked for."""
    for option in ("registry", "username", "password", "image_archive"):
        if getattr(arguments, option) and not arguments.push_images:
            raise UsageError(f"--{option.replace('_', '-')} is for --push-images, which is not given")


def push_images(requests: Sequence[pps_pb2.CreatePipelineRequest], arguments: Arguments) -> None:
    """Push the images of the specs, each once, and name in the specs what was pushed."""
    from pfsdeploy.pushing import Destination, push

    to = Destination(arguments.registry or DEFAULT_REGISTRY, arguments.username, arguments.password)
    archive = pathlib.Path(arguments.image_archive) if arguments.image_archive else None
    pushed: dict[str, str] = {}
    for request in requests:
        image = request.transform.image
        if image not in pushed:
            remark(f"pushing {image or 'the image'} of {request.pipeline.name} to {to.registry}")
            pushed[image] = push(image, to, _ask, archive)
            remark(f"pushed {pushed[image]}")
        request.transform.image = pushed[image]


def _ask(question: str) -> str:
    return getpass.getpass(question) if sys.stdin.isatty() else ""
