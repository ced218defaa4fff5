#!/usr/bin/env bash
# Detectron2 (sal-detectron2 0.7.2) shrinks an image of bytes by Pillow, which averages all pixels, and one of any other number
# type by torch's interpolate without antialiasing, which looks at 2 x 2 pixels and skips the others. The same picture as
# float32 (made of 16 bits, normalised, or blended with noise) is another picture for the network: the speckle
# that shrinking averages away stays. Nothing warns, and DefaultPredictor and the augmentations take both.
# An image of 800 x 600 with a darker lesion in speckle, shrunk to 200 x 150 by ResizeShortestEdge(150):
#   uint8:    speckle of 4.9 grey levels, and a lesion pixel is darker than a tissue pixel in 99 % of all pairs
#   float32:  speckle of 15.1 grey levels, 76 %
#   meant:    4.9 and 99 %, as Pillow gives them for the float32 image
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
pip=("$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" torch==2.14.1 torchvision==0.29.1 fvcore==0.1.5.post20221221 iopath==0.1.9 pycocotools==2.0.11 numpy==2.4.6 \
    pillow==13.0.0 opencv-python-headless==5.0.0.93 tabulate "setuptools<82" cloudpickle omegaconf matplotlib termcolor tensorboard
# plain Python, though its wheel says that it is for 3.10
"${pip[@]}" --no-deps --only-binary :all: --python-version 3.10 --target "$folder/detectron2" sal-detectron2==0.7.2
cd "$folder"
PYTHONPATH="$folder/detectron2" venv/bin/python -W ignore - <<'END'
import numpy as np
from PIL import Image

from detectron2.data import transforms as T

SPECKLE, CONTRAST = 30, 15
random = np.random.RandomState(0)
image = random.normal(128, SPECKLE, (600, 800))
image[200:400, 300:500] -= CONTRAST
image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
inside = np.zeros((150, 200), bool)
inside[52:98, 77:123] = True
outside = np.ones((150, 200), bool)
outside[48:102, 73:127] = False


def judged(small):
    """Returns the speckle, and the share of pairs of a lesion and a tissue pixel where the lesion pixel is darker."""
    lesion, tissue = np.sort(small[inside].astype(float)), np.sort(small[outside].astype(float))
    darker = np.searchsorted(lesion, tissue, "left") + np.searchsorted(lesion, tissue, "right")
    return tissue.std(), darker.mean() / 2 / lesion.size


def resized(pixels):
    return T.ResizeShortestEdge(150, 1000).get_transform(pixels).apply_image(pixels)


pillow = np.asarray(Image.fromarray(image.astype(np.float32)).resize((200, 150), Image.BILINEAR))
results = {
    "uint8": judged(resized(image)), "float32": judged(resized(image.astype(np.float32))), "meant": judged(pillow),
}
for name, (speckle, share) in results.items():
    print(f"{name}: speckle of {speckle:.1f} grey levels; a lesion pixel is darker in {100 * share:.0f} % of all pairs")
# by hand: a triangle over eight pixels in each direction, and the mean of two
triangle = np.array([1, 3, 5, 7, 7, 5, 3, 1]) / 32
assert abs(results["meant"][0] - SPECKLE * (triangle**2).sum()) < 0.3
assert abs(results["float32"][0] - SPECKLE / 2) < 0.3
assert abs(results["uint8"][0] - results["meant"][0]) < 0.1 and results["meant"][1] > 0.97 and results["uint8"][1] > 0.97
assert results["float32"][1] < 0.8
END
