#!/usr/bin/env bash
# medpy 0.5.2: obj_tpr(result, reference), called the true positive rate of detected objects, divides the found lesions
# by the marks of the result, not by the lesions of the reference, so that it is the precision. obj_fpr divides by the
# lesions: it is the share of them that is missed. Its notes say that a score of 1 tells that all objects of the
# reference are in the result. recall() and precision() of the same module, by pixels, are what their names say. Ten
# images with two lesions each, means:
#   one of the two found, no false mark:  obj_tpr 1.00, obj_fpr 0.50; sensitivity is 0.50, 0.00 of the marks are false
#   both found, and two false marks:      obj_tpr 0.50, obj_fpr 0.00; sensitivity is 1.00, 0.50 of the marks are false
#   an image where both are missed:       obj_tpr raises ZeroDivisionError, obj_fpr 1.00; sensitivity is 0.00
# So the detector that misses half of the lesions has the best sensitivity. obj_tpr(reference, result), the masks
# exchanged, is the sensitivity, and obj_fpr(reference, result) the share of false marks.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    medpy==0.5.2 SimpleITK==2.5.7 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import numpy as np
from medpy.metric.binary import obj_fpr, obj_tpr, precision, recall

LESIONS = [(20, 20), (20, 120)]  # upper left corners of two lesions of 30 x 30 pixels in 200 x 200
ELSEWHERE = [(120, 20), (120, 120)]


def mask(corners):
    image = np.zeros((200, 200), bool)
    for row, column in corners:
        image[row : row + 30, column : column + 30] = True
    return image


def by_hand(marks):
    """Sensitivity and share of false marks: each mark lies on one lesion, exactly, or on none."""
    found = len(set(marks) & set(LESIONS))
    return found / len(LESIONS), (len(marks) - found) / len(marks)


readers = {  # the marks on each of ten images
    "one of the two found": [[LESIONS[i % 2]] for i in range(10)],
    "both found, two false marks": [LESIONS + ELSEWHERE] * 10,
}
reference = mask(LESIONS)
seen = []
for name, images in readers.items():
    results = [mask(x) for x in images]
    medpy = [np.mean([f(x, reference) for x in results]) for f in (obj_tpr, obj_fpr)]
    exchanged = [np.mean([f(reference, x) for x in results]) for f in (obj_tpr, obj_fpr)]
    pixels = [np.mean([f(x, reference) for x in results]) for f in (recall, precision)]
    meant = np.mean([by_hand(x) for x in images], axis=0)
    print("{}: obj_tpr {:.2f}, obj_fpr {:.2f}; sensitivity {:.2f}, false marks {:.2f}; "
          "masks exchanged: {:.2f}, {:.2f}; recall and precision by pixels: {:.2f}, {:.2f}"
          .format(name, *medpy, *meant, *exchanged, *pixels))
    assert np.allclose(exchanged, meant) and np.allclose(pixels, [meant[0], 1 - meant[1]])
    seen.append(medpy)
assert np.allclose(seen, [[1.0, 0.5], [0.5, 0.0]])
error = None
try:
    obj_tpr(mask([]), reference)
except ZeroDivisionError as raised:
    error = raised
print(f"both missed: obj_tpr {error!r}, obj_fpr {obj_fpr(mask([]), reference):.2f}")
assert error is not None and obj_fpr(mask([]), reference) == 1
END
