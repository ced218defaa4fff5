#!/usr/bin/env python
"""Makes docs/report_page.png: the report of made-up predictions on phantom images, by Chromium (Debian: chromium).

Nothing is trained or predicted for it: malignancies and boxes are drawn at random, and the page says so. It goes
through the same code as the report of an experiment.

    $ python docs/make_report_page.py
"""

import dataclasses
import os
import sys
import tempfile

import numpy as np
from scipy.special import expit
from screenshot import require_chromium, take

from tsdd_d2.data import register_bbui_instances
from tsdd_d2.data.files import write_json
from tsdd_d2.experiments.catalogue import EXPERIMENTS, View, render
from tsdd_d2.experiments.groups import read_entries
from tsdd_d2.experiments.page import write_report
from tsdd_d2.experiments.plan import planned_runs
from tsdd_d2.experiments.run import PREDICTIONS

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, os.pardir, "datasets"))
from phantom import generate_phantom  # noqa: E402 (a script, not a part of the package)

PICTURE = os.path.join(HERE, "report_page.png")
WINDOW = "1000,1500"
NOTICE = "All predictions on this page are made up at random: it shows what a report looks like, and no result."
# Method -> how far apart its scores of the classes are.
METHODS = {"cnet_oracle": 2.4, "retinanet": 1.4, "faster_rcnn": 1.6, "tsddnet": 2.0}
MISSING = ("faster_rcnn", 2)
FOLDS = (1, 2)


def made_up(run, bbui, rng):
    """The predictions.json of a run that never was."""
    boxes = {x["image_id"]: np.array(x["bbox"]) for x in bbui["annotations"]}
    predictions = []
    for image in bbui["images"]:
        manual = boxes[image["id"]] + np.concatenate([[0, 0], boxes[image["id"]][:2]])
        label = image["category_id"] - 1
        predictions.append(
            {
                "image_id": image["id"],
                "file_name": image["file_name"],
                "patient_id": image["patient_id"],
                "label": label,
                "malignancy": float(expit(1.5 * (METHODS[run.method] * (label - 0.5) + rng.normal()))),
                "box": (manual + rng.normal(0, 8, 4)).clip(0, image["width"]).tolist(),
                "score": 0.5,
                "roi": manual.tolist(),
            }
        )
    return {
        **run.descriptor,
        "overrides": [],
        "seconds": float(rng.uniform(600, 900)),
        "git_revision": None,
        "youden_threshold": None,
        "predictions": {run.split("test"): predictions},
    }


def main() -> int:
    require_chromium()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "runs")
        plan = {"methods": tuple(METHODS), "folds": FOLDS, "p": (0.2,)}
        experiments = [dataclasses.replace(EXPERIMENTS[x], **plan) for x in ("table1", "roc", "fig6")]
        runs = planned_runs(experiments[0], output, "phantom", "cpu")
        for fold in FOLDS:
            root = os.path.join(folder, f"fold{fold}")
            bbui = generate_phantom(root, num_patients=20, images_per_patient=2, seed=fold, num_workers=1)
            for image in bbui["images"]:
                image["patient_id"] += f" of fold {fold}"
            write_json(os.path.join(root, "test.json"), bbui)
            register_bbui_instances(f"phantom_fold{fold}_test", os.path.join(root, "test.json"), root)
            for run in runs:
                if run.fold == fold and (run.method, fold) != MISSING:
                    write_json(os.path.join(run.folder, PREDICTIONS), made_up(run, bbui, rng))
        views = [View(x, read_entries(runs), os.path.join(folder, "report")) for x in experiments]
        page = write_report([render(x) for x in views], views[0].output_dir, views[0].bootstrap.resamples, NOTICE)
        take(page, PICTURE, WINDOW)
    return 0


if __name__ == "__main__":
    sys.exit(main())
