"""Predictions that were never predicted: small experiments for the report."""

from typing import Sequence

import numpy as np
import pytest

from tsdd_d2.report.runs import match


def descriptor(method, fold=1, stage=None, p=0.2, seed=0, **fields):
    return {
        "method": method, "stage": stage, "data": "tiny", "profile": "cpu", "fold": fold, "p": p, "seed": seed, **fields
    }  # fmt: skip


def prediction(image_id, label, malignancy, patient=None, **fields):
    return {
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


def run(method, malignancies: Sequence[float], labels: Sequence[int], fold=1, youden_threshold=0.4, **fields):
    """The content of a predictions.json: image i of a fold is 100 * fold + i, of patient i // 2 of the fold."""
    predictions = [
        prediction(100 * fold + i, label, malignancy, f"fold {fold}, patient {i // 2}")
        for i, (malignancy, label) in enumerate(zip(malignancies, labels, strict=True))
    ]
    return {
        **descriptor(method, fold, **fields),
        "seconds": 3700.0,
        "versions": {"torch": "2"},
        "git_revision": "0123456789abcdef",
        "youden_threshold": youden_threshold,
        "predictions": {f"tiny_fold{fold}_test": predictions},
    }


LABELS = [0, 0, 1, 1] * 6


def random_run(method, fold=1, strength=1.0, **fields):
    rng = np.random.default_rng([fold, *map(ord, method), fields.get("stage") or 0])
    scores = strength * np.array(LABELS) + rng.normal(0, 0.8, len(LABELS)) - strength / 2
    return run(method, (1 / (1 + np.exp(-scores))).tolist(), LABELS, fold, **fields)


def small_experiment():
    """A plan of three methods on two folds, and its runs: Faster R-CNN failed on fold 2, RetinaNet is missing there."""
    runs = [random_run(method, fold, stage=2) for method in ("tsddnet", "tsdd_b_sd") for fold in (1, 2)]
    runs += [random_run(method, fold, stage=1) for method in ("tsddnet", "tsdd_b_sd") for fold in (1, 2)]
    runs += [random_run("retinanet"), random_run("faster_rcnn")]
    status = {"status": "finished", "log": "runs/log <1>.txt"}
    planned = [{**{key: x[key] for key in descriptor("")}, **status} for x in runs]
    planned.append(descriptor("faster_rcnn", 2, status="failed", log="runs/failed.txt"))
    planned.append(descriptor("retinanet", 2, status="missing", log=None))
    return planned, runs


@pytest.fixture
def experiment():
    """See :func:`small_experiment`; a test may change it."""
    return small_experiment()


def matched(runs, more=(), threshold="0.5"):
    """The plan that consists of these runs, and of others that are missing."""
    return match([*runs, *more], runs, threshold)
