"""`python -m tools.imageregistry` builds the registry of images that the field uses, for the tests of `--push-images`.

It lands where `tools.s3server` puts its own. Tests against it skip where it is absent.
"""

from __future__ import annotations

import pathlib
import sys

from tools.golang import build, program_path

MODULE = "github.com/distribution/distribution/v3/cmd/registry@v3.1.2"


def registry_path() -> pathlib.Path | None:
    """The program registry; None where there is none."""
    return program_path("registry")


if __name__ == "__main__":
    sys.exit(build(MODULE, "tools.imageregistry"))
