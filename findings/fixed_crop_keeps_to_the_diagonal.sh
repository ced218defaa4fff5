#!/usr/bin/env bash
# Detectron2's FixedSizeCrop (sal-detectron2 0.7.2), the crop of its large-scale jitter, draws one number for both axes. The random
# crop that it documents moves only from the upper left to the lower right; no other place is ever cut out.
# A lesion of 80x80 pixels in a square image, crops of half its side:
#   lesion upper left:  whole in 34% of the crops; 11% if they were anywhere, as RandomCrop's are
#   lesion upper right: whole in none of them, cut in 26%; 13% and 26% if they were anywhere
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
pip=("$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" torch==2.14.1 torchvision==0.29.1 fvcore==0.1.5.post20221221 iopath==0.1.9 pycocotools==2.0.11 numpy==2.4.6 \
    pillow==13.0.0 tabulate "setuptools<82" cloudpickle omegaconf matplotlib termcolor tensorboard
# plain Python, though its wheel says that it is for 3.10
"${pip[@]}" --no-deps --only-binary :all: --python-version 3.10 --target "$folder/detectron2" sal-detectron2==0.7.2
cd "$folder"
PYTHONPATH="$folder/detectron2" venv/bin/python -W ignore - <<'END'
import numpy as np

from detectron2.data.transforms import FixedSizeCrop, RandomCrop

SIZE, CROP, TIMES = 600, 300, 5000
LESIONS = {"upper left": (100, 100, 180, 180), "upper right": (400, 100, 480, 180)}  # x1, y1, x2, y2
image = np.zeros((SIZE, SIZE, 3), np.uint8)


def corners(augmentation):
    """Upper left corners of many crops, as x and y."""
    found = []
    for _ in range(TIMES):
        transform = augmentation.get_transform(image)
        crop = transform.transforms[0] if hasattr(transform, "transforms") else transform
        assert transform.apply_image(image).shape == (CROP, CROP, 3)
        found.append((crop.x0, crop.y0))
    return np.array(found)


def seen(corners, lesion):
    """Shares of the crops that have the whole lesion, and a part of it alone."""
    x1, y1, x2, y2 = lesion
    x, y = corners.T
    whole = (x <= x1) & (y <= y1) & (x + CROP >= x2) & (y + CROP >= y2)
    touched = (x < x2) & (y < y2) & (x + CROP > x1) & (y + CROP > y1)
    return whole.mean(), (touched & ~whole).mean()


np.random.seed(0)
offsets = np.arange(SIZE - CROP + 1)
everywhere = np.stack(np.meshgrid(offsets, offsets), axis=-1).reshape(-1, 2)  # each crop that there is, once
fixed, random = corners(FixedSizeCrop((CROP, CROP))), corners(RandomCrop("absolute", (CROP, CROP)))
for name, lesion in LESIONS.items():
    for kind, of in (("FixedSizeCrop", fixed), ("RandomCrop", random), ("all crops", everywhere)):
        print(f"lesion {name}, {kind}: whole in {seen(of, lesion)[0]:.2f}, cut in {seen(of, lesion)[1]:.2f}")
    assert np.allclose(seen(random, lesion), seen(everywhere, lesion), atol=0.03)
print(f"FixedSizeCrop: x equals y in {(fixed[:, 0] == fixed[:, 1]).mean():.2f} of the crops")
assert (fixed[:, 0] == fixed[:, 1]).all() and len(np.unique(fixed[:, 0])) > 250
assert seen(fixed, LESIONS["upper right"])[0] == 0 and seen(everywhere, LESIONS["upper right"])[0] > 0.13
END
