#!/usr/bin/env bash
# hotcoco 1.3.0: an image that a bootstrap resample has twice or more is counted once by compare(), so that its resamples are the
# 63% of the images which were drawn at all. Standard errors are 0.76 of what they should be, and intervals too narrow by as much.
# Two detectors that find 60 of 100 lesions each, 10 of them not the same; the difference of AP50:
#   hotcoco:                                     standard error 0.034, 95% interval -0.07 to 0.07
#   by formula, or with each image as often as
#   it was drawn, under a number of its own:     standard error 0.045, 95% interval -0.09 to 0.09
# Of 120 pairs of equal detectors hotcoco's interval calls 14 different, a bootstrap by hand 4; 6 are meant.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check hotcoco==1.3.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import contextlib
import io

import hotcoco
import numpy as np

IMAGES, RESAMPLES, TRIALS = 100, 500, 120
BOX = [10, 20, 60, 50]


def truth_of(ids):
    return hotcoco.COCO(
        {
            "info": {},
            "images": [{"id": i, "width": 400, "height": 300, "file_name": f"{i}.png"} for i in ids],
            "annotations": [
                {"id": i, "image_id": i, "category_id": 1, "bbox": BOX, "area": 3000, "iscrowd": 0} for i in ids
            ],
            "categories": [{"id": 1, "name": "lesion"}],
        }
    )


def evaluated(truth, found):
    """Of a detector without false marks: found tells for each image whether the lesion has its box."""
    boxes = [{"image_id": i + 1, "category_id": 1, "bbox": BOX, "score": 0.9} for i in np.flatnonzero(found).tolist()]
    evaluation = hotcoco.COCOeval(truth, truth.load_res(boxes), "bbox")
    evaluation.evaluate()
    return evaluation


def of_copies(first, second, seed):
    """The difference of AP50 in each resample, an image that is drawn twice being two images of the data set."""
    rng = np.random.RandomState(seed)
    differences = []
    for _ in range(RESAMPLES):
        drawn = rng.randint(0, IMAGES, IMAGES)
        difference = hotcoco.compare(evaluated(truth, first[drawn]), evaluated(truth, second[drawn]))
        differences.append(difference["deltas"]["AP50"])
    return np.array(differences)


def excludes_zero(lower, upper):
    return lower > 0 or upper < 0


truth = truth_of(range(1, IMAGES + 1))
rng = np.random.RandomState(0)
# AP50 of such a detector is the share of lesions that it finds, or 0.01 more
first, second = np.arange(IMAGES) < 60, (np.arange(IMAGES) < 70) & (np.arange(IMAGES) >= 10)
wrong, wrong_by_hand = 0, 0
with contextlib.redirect_stdout(io.StringIO()):
    answer = hotcoco.compare(evaluated(truth, first), evaluated(truth, second), n_bootstrap=5000, seed=0)["ci"]["AP50"]
    copies = of_copies(first, second, 0)
    for trial in range(TRIALS):
        equal = rng.rand(2, IMAGES) < 0.7
        interval = hotcoco.compare(*(evaluated(truth, x) for x in equal), n_bootstrap=RESAMPLES, seed=trial)["ci"]["AP50"]
        wrong += excludes_zero(interval["lower"], interval["upper"])
        differences = equal[1].astype(float) - equal[0]
        drawn = differences[rng.randint(0, IMAGES, (RESAMPLES, IMAGES))].mean(axis=1)
        wrong_by_hand += excludes_zero(*np.percentile(drawn, [2.5, 97.5]))
by_formula = np.std(second.astype(float) - first) / np.sqrt(IMAGES)
drawn_once = by_formula * np.sqrt(1 / 0.632 - 1)  # without replacement, as many as there are different images in a resample
print(f"two detectors that find 60 of {IMAGES} lesions each, 10 of them not the same:")
print(f"hotcoco: standard error {answer['std_err']:.3f}, 95% interval {answer['lower']:.3f} to {answer['upper']:.3f}")
print(f"images drawn twice counted twice: {copies.std():.3f}, {np.percentile(copies, 2.5):.3f} to "
      f"{np.percentile(copies, 97.5):.3f}; by formula {by_formula:.3f}, each image once {drawn_once:.3f}")  # fmt: skip
print(f"the interval leaves out 0 for equal detectors: hotcoco {wrong} of {TRIALS}, by hand {wrong_by_hand} of {TRIALS}")
assert abs(answer["std_err"] / by_formula - np.sqrt(1 / 0.632 - 1)) < 0.05
assert abs(copies.std() / by_formula - 1) < 0.1
assert wrong >= 11 and wrong > 1.7 * wrong_by_hand
END
