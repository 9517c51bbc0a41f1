"""Find the edges in every picture below /pfs/images and write them, as PNG, to /pfs/out."""

import os
import pathlib

import cv2

for directory, _, names in os.walk("/pfs/images"):
    for name in names:
        picture = pathlib.Path(directory, name)
        image = cv2.imread(str(picture))
        if image is None:
            raise SystemExit(f"{picture} is not a picture that OpenCV reads")
        edges = cv2.Canny(image, 100, 200)
        cv2.imwrite(str(pathlib.Path("/pfs/out", picture.stem + ".png")), edges)
        print(f"{picture}: {image.shape[1]}x{image.shape[0]}, {(edges > 0).mean():.1%} edges")
