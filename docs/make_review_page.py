#!/usr/bin/env python
"""Makes docs/review_page.png: the review page of phantom images, taken by Chromium (Debian: chromium).

No network is trained for it. The page goes through the same code as that of a run, but D-Net's boxes are made up, on the
way from the coarse manual box to the true one, and so are C-Net's scores.

    $ python docs/make_review_page.py
"""

import os
import sys
import tempfile

import numpy as np
import torch
from screenshot import require_chromium, take

from tsdd_d2.modeling.contract import ScoredBoxes
from tsdd_d2.refinement import refine_rois, select_rois
from tsdd_d2.review import write_review_page

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, os.pardir, "datasets"))
from phantom import generate_phantom  # noqa: E402 (a script, not a part of the package)

PICTURE = os.path.join(HERE, "review_page.png")
WINDOW = "1200,720"


def made_up_scores(bbui, progress, rng):
    """What the networks might find in a round: one box for each image, ``progress`` of the way to the true one."""
    scored = {}
    rois = {annotation["image_id"]: annotation for annotation in bbui["annotations"]}
    for image in bbui["images"]:
        roi = rois[image["id"]]
        manual, true = (np.array(x) for x in (roi.get("manual_bbox", roi["bbox"]), image["true_bbox"]))
        x, y, width, height = manual + progress * (true - manual) + rng.normal(0, 3, 4)
        before, after = rng.uniform(0.3, 0.7), rng.uniform(0.4, 0.95)
        box = torch.tensor([[x, y, x + width, y + height]], dtype=torch.float32).clamp(0, image["width"])
        scored[image["id"]] = ScoredBoxes(box, of_true_class(after, image), of_true_class(before, image))
    return scored


def of_true_class(score, image):
    """(1, 2) probabilities of benign and malignant in which the class of the image has ``score``."""
    return torch.tensor([[score, 1 - score] if image["category_id"] == 1 else [1 - score, score]])


def main() -> int:
    require_chromium()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        rounds = [generate_phantom(folder, num_patients=12, images_per_patient=1, num_workers=1)]
        for number, progress in enumerate((0.5, 0.9), start=1):
            scored = made_up_scores(rounds[-1], progress, rng)
            refined, _ = refine_rois(rounds[-1], scored, select_rois, round_number=number, num_candidates=1)
            rounds.append(refined)
        page = os.path.join(folder, "review.html")
        write_review_page(page, rounds, "phantom_fold1_train", folder)
        take(page, PICTURE, WINDOW)
    return 0


if __name__ == "__main__":
    sys.exit(main())
