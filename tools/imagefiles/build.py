"""Making layers out of directories, and keeping those that seldom change."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.commands import run
from tools.imagefiles.archive import Layer, layer

SITE = f"usr/local/lib/python{sys.version_info.major}.{sys.version_info.minor}/dist-packages"
"""Where Debian's Python finds what is not of Debian."""


@dataclass(frozen=True, slots=True)
class Cache:
    """Where layers are kept."""

    directory: Path


def packed(cache: Cache, name: str, fill: Callable[[Path], None], keep: bool = True) -> Layer:
    """The layer of what `fill` puts into an empty directory; where it is kept, it is only made once under that name."""
    cache.directory.mkdir(parents=True, exist_ok=True)
    target = cache.directory / f"{name}.tar"
    digest = cache.directory / f"{name}.sha256"
    with contextlib.ExitStack() as held:
        lock = held.enter_context((cache.directory / f"{name}.lock").open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        if keep and digest.exists():
            return Layer(target, digest.read_text())
        work = held.enter_context(tempfile.TemporaryDirectory(prefix="pfs-image-", dir=cache.directory))
        root = Path(work) / "root"
        root.mkdir()
        fill(root)
        new = Path(work) / "layer.tar"
        stable = ["--sort=name", "--mtime=@0", "--numeric-owner", "--format=pax"]
        stable.append("--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime")
        run(["tar", "--create", "--file", str(new), "--xattrs", *stable, "--directory", str(root), "."])
        new.rename(target)
        made = layer(target)
        digest.write_text(made.digest)
        return made


def digest_of(data: bytes) -> str:
    """A short name for data."""
    return hashlib.sha256(data).hexdigest()[:16]
