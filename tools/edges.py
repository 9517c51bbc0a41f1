"""Find the edges in every picture below /pfs/images and write them, as PNG, to /pfs/out.

Takes OpenCV where it is installed; without it, Python alone does for PNG. `edges.json` holds these lines as its stdin.
"""

import os
import pathlib
import struct
import zlib

try:
    import cv2

    HAS_OPENCV = True
except ImportError:
    HAS_OPENCV = False

CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
STRONG = 96


def grey_rows(data: bytes, name: pathlib.Path) -> list[list[int]]:
    """The brightness of each pixel of a PNG, row by row."""
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29].ljust(13, b"\0"))
    if data[:8] != b"\x89PNG\r\n\x1a\n" or depth != 8 or kind not in CHANNELS or interlaced:
        raise SystemExit(f"{name} is no plain PNG: for other pictures, OpenCV has to be installed")
    at, packed = 8, list[bytes]()
    while at < len(data):
        size, what = struct.unpack(">I4s", data[at : at + 8])
        packed += [data[at + 8 : at + 8 + size]] if what == b"IDAT" else []
        at += size + 12
    raw, step = zlib.decompress(b"".join(packed)), CHANNELS[kind]
    line, above, rows = width * step, bytearray(width * step), list[list[int]]()
    for top in range(0, height * (line + 1), line + 1):
        how, row = raw[top], bytearray(raw[top + 1 : top + 1 + line])
        for i in range(line):
            left, over = (row[i - step], above[i - step]) if i >= step else (0, 0)
            up = above[i]
            if how == 1:
                row[i] = row[i] + left & 255
            elif how == 2:
                row[i] = row[i] + up & 255
            elif how == 3:
                row[i] = row[i] + (left + up) // 2 & 255
            elif how == 4:
                near = sorted((left, up, over), key=lambda one: abs(left + up - over - one))
                row[i] = row[i] + near[0] & 255
        above = row
        rows.append(list(row[::step]) if step < 3 else [sum(row[i : i + 3]) // 3 for i in range(0, line, step)])
    return rows


def edges_of(picture: pathlib.Path) -> bytes:
    """The edges in a picture, as a PNG."""
    if HAS_OPENCV:
        image = cv2.imread(str(picture))
        if image is None:
            raise SystemExit(f"{picture} is not a picture that OpenCV reads")
        return bytes(cv2.imencode(".png", cv2.Canny(image, 100, 200))[1])
    rows = grey_rows(picture.read_bytes(), picture)
    lines = [bytes(len(rows[0]))]
    for above, row, below in zip(rows, rows[1:], rows[2:], strict=False):
        steep = [abs(row[x + 1] - row[x - 1]) + abs(below[x] - above[x]) > STRONG for x in range(1, len(row) - 1)]
        lines.append((b"\0" + bytes(255 * one for one in steep) + b"\0")[: len(row)])
    lines = (lines + lines[:1])[: len(rows)]
    made = b"\x89PNG\r\n\x1a\n"
    for what, data in (
        (b"IHDR", struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + line for line in lines))),
        (b"IEND", b""),
    ):
        made += struct.pack(">I", len(data)) + what + data + struct.pack(">I", zlib.crc32(what + data))
    return made


for directory, _, names in os.walk("/pfs/images"):
    for name in names:
        picture = pathlib.Path(directory, name)
        found = edges_of(picture)
        pathlib.Path("/pfs/out", picture.stem + ".png").write_bytes(found)
        print(f"{picture}: {len(found)} bytes of edges")
