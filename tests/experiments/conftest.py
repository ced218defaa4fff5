"""A stand-in for the training tool, and runs whose predictions were never predicted."""

from typing import Optional, Sequence

import numpy as np
import pytest

from tsdd_d2.data.files import write_json
from tsdd_d2.experiments import run as run_module
from tsdd_d2.experiments import training as training_module
from tsdd_d2.experiments.groups import Entry, group, in_order
from tsdd_d2.experiments.run import Result, Run

# Counts its calls; fails or sleeps where a file beside the run's folder tells it to.
STAND_IN = """
import json, os, sys, time
words = [x for x in sys.argv[1:] if x not in ("--eval-only", "--resume")]
options = dict(zip(words[::2], words[1::2]))
folder = options["OUTPUT_DIR"]
name, val = (f"{options.get('--data')}_fold{options.get('--fold')}_{split}" for split in ("test", "val"))
name = options.get("DATASETS.TEST", f"  {name}   ")[2:-3]
def write(path, content):
    os.makedirs(os.path.dirname(os.path.join(folder, path)), exist_ok=True)
    with open(os.path.join(folder, path), "w") as file:
        json.dump(content, file)
def predictions(malignancy):
    image = {"image_id": 21, "file_name": "images/021.png", "patient_id": "p10", "label": 0}
    found = {"malignancy": malignancy, "box": [1.23456789, 2, 30, 123.456789], "score": 0.987654321}
    nothing = {"image_id": 22, "malignancy": 0.5, "box": None, "score": None}
    return {"youden_threshold": None, "predictions": [{**image, **found}, {**image, **nothing}]}
if "--eval-only" in sys.argv:
    write(f"inference/found_box/diagnosis_{name}.json", predictions(0.1))
    sys.exit()
with open(os.path.join(folder, "calls"), "a") as file:
    file.write("x")
if os.path.exists(folder + ".fails"):
    print("error: DATASETS.TRAIN is missing")
    sys.exit(2)
if os.path.exists(folder + ".sleeps"):
    time.sleep(1.5)
write(f"inference/diagnosis_{val}.json", {"youden_threshold": 0.43, "predictions": []})
write(f"inference/model_final/manual_roi/diagnosis_{name}.json", predictions(0.9))
write(f"inference/model_final/found_box/diagnosis_{name}.json", predictions(0.123456789))
write("config.yaml", {})
write("model_final.pth", {})
write("results.json", {})
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch, tiny_dataset):
    """The data set "tiny", and the stand-in instead of the training tool in this process."""
    (tmp_path / "tool.py").write_text(STAND_IN)
    for module in (run_module, training_module):
        monkeypatch.setattr(module, "TRAIN_TOOL", str(tmp_path / "tool.py"))


@pytest.fixture
def run(tmp_path):
    """A run on the tiny data set."""
    return Run(str(tmp_path / "out"), "retinanet", "tiny", "cpu", 1, 0.5, 0)


def calls(run):
    """How often the stand-in was called for a run."""
    with open(f"{run.folder}/calls") as file:
        return len(file.read())


def prediction(image_id, label, malignancy, patient=None, **fields):
    record = {
        "image_id": image_id,
        "file_name": f"images/{image_id:03d}.png",
        "patient_id": patient or f"patient {image_id}",
        "label": label,
        "malignancy": malignancy,
        "box": [10.0, 12.0, 40.0, 44.0],
        "score": 0.5,
        "roi": [12.0, 12.0, 38.0, 40.0],
        **fields,
    }
    return {"num_rois": int(record["roi"] is not None), **record}


def write_predictions(run, **fields):
    """Makes a run a finished one; returns what its predictions.json holds."""
    content = {
        **run.descriptor,
        "overrides": list(run.overrides),
        "seconds": 3700.0,
        "versions": {"torch": "2"},
        "git_revision": "0123456789abcdef",
        "youden_threshold": 0.4,
        "predictions": {run.split("test"): [prediction(1, 0, 0.2), prediction(2, 1, 0.7)]},
        **fields,
    }
    write_json(f"{run.folder}/predictions.json", content)
    return content


def run_of(method, fold=1, p=0.2, seed=0):
    return Run("/nowhere", method, "tiny", "cpu", fold, p, seed)


def entry(method, malignancies: Sequence[float], labels: Sequence[int], fold=1, threshold=0.5, **fields):
    """A finished run: image i of a fold is 100 * fold + i, of patient i // 2 of the fold."""
    run = run_of(method, fold, **fields)
    records = [
        prediction(100 * fold + i, label, malignancy, f"fold {fold}, patient {i // 2}")
        for i, (malignancy, label) in enumerate(zip(malignancies, labels, strict=True))
    ]
    result = Result(3700.0, "0123456789abcdef", 0.4, [], {}, {run.split("test"): records})
    return Entry(run, "finished", result, threshold)


def missing(method, fold=1, status="missing", **fields):
    return Entry(run_of(method, fold, **fields), status, None, 0.5)


LABELS = [0, 0, 1, 1] * 6


def random_entry(method, fold=1, strength=1.0, threshold: Optional[float] = 0.5, **fields):
    rng = np.random.default_rng([fold, *map(ord, method)])
    scores = strength * np.array(LABELS) + rng.normal(0, 0.8, len(LABELS)) - strength / 2
    return entry(method, (1 / (1 + np.exp(-scores))).tolist(), LABELS, fold, threshold, **fields)


def groups_of(*entries):
    return group(in_order(entries))


def small_experiment():
    """Three methods on two folds with the first stages of one: Faster R-CNN failed on fold 2, RetinaNet is missing there."""
    ours = ("tsddnet", "tsdd_b_sd", "tsddnet_stage1", "tsdd_b_stage1")
    entries = [random_entry(method, fold) for method in ours for fold in (1, 2)]
    entries += [random_entry("retinanet"), random_entry("faster_rcnn")]
    return in_order([*entries, missing("faster_rcnn", 2, "failed"), missing("retinanet", 2)])


@pytest.fixture
def experiment():
    """See :func:`small_experiment`."""
    return small_experiment()
