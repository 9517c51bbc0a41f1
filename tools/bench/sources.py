"""Trees of files to measure with, the same on every machine."""

from __future__ import annotations

import pathlib
import random

A_DIRECTORY = 1000
"""Files to a directory, where there are several."""
_SOURCES_A_DIRECTORY = 20
_POOL_BYTES = 2 << 20
_MEDIAN_BYTES, _SPREAD = 3_600, 1.28
"""Of a log-normal distribution as that of the files of large programs: 8 KiB on average."""
_MOST_BYTES = 400_000


def write_files(directory: pathlib.Path, count: int, size: int, a_directory: int = A_DIRECTORY) -> None:
    """Write files of `size` bytes, all different, into numbered directories."""
    chosen = random.Random(3)
    for number in range(count):
        path = directory / f"{number // a_directory:05d}" / f"file-{number:07d}"
        if number % a_directory == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(chosen.randbytes(size))


def write_source(directory: pathlib.Path, count: int) -> None:
    """Write `count` files of text, of sizes as those of programs: 41 MB are 5,000 of them."""
    chosen = random.Random(5)
    pool = _text(chosen)
    for number in range(count):
        part = number // _SOURCES_A_DIRECTORY
        path = directory / f"part{part // 10:02d}" / f"module{part % 10}" / f"source_{number:05d}.c"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = min(int(chosen.lognormvariate(0, _SPREAD) * _MEDIAN_BYTES) + 1, _MOST_BYTES)
        start = chosen.randrange(len(pool) - size)
        path.write_bytes(f"/* source {number} */\n".encode() + pool[start : start + size])


def _text(chosen: random.Random) -> bytes:
    letters = "abcdefghijklmnopqrstuvwxyz_"
    words = ["".join(chosen.choices(letters, k=chosen.randint(2, 12))) for _ in range(3000)]
    text: list[str] = []
    length = 0
    while length < _POOL_BYTES:
        indent = " " * (4 * chosen.randint(0, 3))
        text.append(f"{indent}{' '.join(chosen.choices(words, k=chosen.randint(1, 8)))};\n")
        length += len(text[-1])
    return "".join(text).encode()
