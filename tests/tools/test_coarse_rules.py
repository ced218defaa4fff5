"""What tools/coarse_rules.py makes of scores, without the networks behind them."""

import numpy as np
import pytest

from tsdd_d2.experiments.coarse import FOUND, RULES, SAME, candidates_of

from .test_tools import module_of

PATIENTS = 40


@pytest.fixture(scope="module")
def tool():
    return module_of("coarse_rules")


@pytest.fixture(scope="module")
def scores():
    """Two images of each patient; C-Net is sure of the true class on D-Net's box alone, which is the true one."""
    random = np.random.default_rng(0)
    n = 2 * PATIENTS
    patient = np.repeat(np.arange(PATIENTS), 2)
    malignant = (patient // 4) % 2
    true = np.tile([100.0, 100.0, 160.0, 140.0], (n, 1)) + random.uniform(0, 20, (n, 1))
    boxes = candidates_of(true + random.normal(0, 5, (n, 4)), true, np.full((n, 2), 400))
    of_class = np.full(boxes.shape[:2], 0.5)
    of_class[:, FOUND[SAME]] = np.where(malignant == 1, 0.9, 0.1)
    return {
        "split": np.array(["seen", "train", "val", "test"])[patient % 4],
        "patient": np.char.add("p", patient.astype(str)),
        "file_name": np.array([f"{i}.png" for i in range(n)]),
        "malignant": malignant,
        "shuffled": 1 - malignant,
        "true": true,
        "boxes": boxes,
        "of_class": of_class,
        "control": of_class,
    }


def test_classes_are_shuffled_over_the_patients_of_each_split(tool, scores):
    classes, patients, splits = scores["malignant"], scores["patient"], scores["split"]
    shuffled = tool.shuffle_over_patients(classes, patients, splits, np.random.RandomState(0))
    assert (shuffled != classes).any()
    for patient in np.unique(patients):
        assert len(set(shuffled[patients == patient])) == 1
    for split in np.unique(splits):
        assert shuffled[splits == split].sum() == classes[splits == split].sum()


def test_a_row_for_each_rule_with_its_controls(tool, scores):
    rows, boxes = tool.rule_rows(scores)
    assert [x["rule"] for x in rows] == [x.title for x in RULES] == list(boxes)
    of_rule = {x["rule"]: x for x in rows}
    assert of_rule["D-Net's box"]["IoU train"] == pytest.approx(1.0, abs=1e-4)
    assert of_rule["best score of all candidates"]["IoU test"] == pytest.approx(1.0, abs=1e-4)
    # with the wrong class D-Net's box has the lowest score
    assert of_rule["best score of all candidates"]["to shuffled, train"] > 0.1
    assert "to shuffled, train" not in of_rule["D-Net's box"]


def test_scores_that_know_the_box_rank_it_and_shuffled_ones_do_not(tool, scores):
    of_class, control = (x for x in tool.ranking_rows(scores) if x["images"] == "test")
    assert of_class["IoU"] > 0.2 > -0.2 > control["IoU"]
    assert of_class["AUC, D-Net"] == 1.0 and of_class["log p, D-Net"] == pytest.approx(np.log(0.9))


def test_the_probe_is_trained_on_boxes_of_the_other_half(tool, scores):
    features = np.zeros((*scores["boxes"].shape[:2], 3), np.float16)
    features[:, FOUND[SAME], 0] = scores["malignant"]  # of D-Net's box alone
    rows = {x["trained on"]: x for x in tool.probe_rows(scores, features)}
    assert rows["D-Net's box"]["AUC test"] == 1.0 and rows["coarse box"]["AUC test"] == 0.5
    assert rows["D-Net's box"]["AUC to coarse, test"] == pytest.approx(0.5)


def test_dnets_boxes_of_images_without_a_coarse_one_are_scaled(tool, scores):
    rows = {x["boxes"]: x for x in tool.pa_rows(scores)}
    assert rows["D-Net's box"]["IoU test"] == pytest.approx(1.0, abs=1e-4)
    # the likelihood is highest at D-Net's own size
    assert rows["scaled by the size habit"]["IoU test"] == pytest.approx(1.0, abs=1e-4)
    assert rows["as large as the coarse ones"]["scale"] == pytest.approx(1.0, abs=0.05)
