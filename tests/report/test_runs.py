import numpy as np
import pytest

from tsdd_d2.errors import InputError
from tsdd_d2.experiments import METHODS
from tsdd_d2.report.methods import first_stage_method
from tsdd_d2.report.runs import cases, external_sets, group, match

from .conftest import descriptor, matched, random_run, run


def test_groups_are_ordered_and_know_what_is_missing(experiment):
    groups = group(match(*experiment, "0.5"))
    assert [(x.method, x.stage) for x in groups] == [
        ("retinanet", None), ("faster_rcnn", None), ("tsdd_b_sd", 2), ("tsddnet", 2)
    ]  # fmt: skip
    assert [x.extent for x in groups] == ["1 of 2 folds", "1 of 2 folds", "2 folds", "2 folds"]
    assert [x.remark for x in groups] == [" [1/2 folds]", " [1/2 folds]", "", ""]
    assert [x.status for x in groups[1].planned] == ["finished", "failed"]


def test_a_fold_without_one_of_its_seeds_is_said():
    (x,) = group(matched([random_run("retinanet")], [descriptor("retinanet", seed=1)]))
    assert (x.extent, x.remark) == ("1 fold, 1 of 2 runs", " [1/2 runs]")


def test_what_was_not_planned_is_ignored_and_a_lost_file_is_missing():
    planned = [descriptor("retinanet", 1, status="finished"), descriptor("retinanet", 2, status="missing")]
    (x,) = group(match(planned, [random_run("retinanet", 3)], "0.5"))
    assert x.runs == [] and [y.status for y in x.planned] == ["finished, predictions missing", "missing"]
    # finished since the plan was made
    (x,) = group(match(planned, [random_run("retinanet", 2)], "0.5"))
    assert x.folds == [2] and x.planned[1].status == "finished"


def test_thresholds():
    runs = [random_run("retinanet", 1, youden_threshold=0.3), random_run("retinanet", 2, youden_threshold=None)]
    (fixed,) = group(matched(runs))
    assert [x.threshold for x in fixed.runs] == [0.5, 0.5]
    (youden,) = group(matched(runs, threshold="youden-val"))
    assert [x.threshold for x in youden.runs] == [0.3]
    assert youden.planned[1].status == "no threshold from validation" and youden.extent == "1 of 2 folds"


def test_variants_of_one_rule_share_their_first_stage():
    planned = [descriptor(x, stage=1, status="missing") for x in ("tsdd_b", "tsdd_b_sd", "tsdd_b_cs", "tsddnet")]
    entries = match(planned, [random_run("tsdd_b_cs", stage=1)], "0.5")
    assert [(x.key.method, x.status) for x in entries] == [("tsdd_b_sd", "missing"), ("tsddnet", "finished")]


def test_a_method_of_another_package_does_not_rename_our_first_stage(monkeypatch):
    peer = METHODS["tsdd_b_sd"]._replace(name="my_peer")
    monkeypatch.setitem(METHODS, "my_peer", peer)
    assert first_stage_method("tsdd_b") == first_stage_method("my_peer") == "tsdd_b_sd"
    monkeypatch.setitem(METHODS, "my_peer", peer._replace(starts_from="my_first_stage"))
    assert first_stage_method("my_peer") == "my_peer"


def test_cases():
    content = run("retinanet", [0.2, 0.5, 0.5, 0.9], [0, 0, 1, 1])
    ((entry,),) = [x.planned for x in group(matched([content]))]
    x = cases(entry.run)
    assert x.image_ids.tolist() == [100, 101, 102, 103] and x.labels.tolist() == [0, 0, 1, 1]
    assert x.right.tolist() == [True, False, True, True]
    assert len(np.unique(x.patient_ids)) == 2


def test_other_test_sets_are_external():
    content = random_run("retinanet")
    content["predictions"]["clinic_all"] = content["predictions"]["tiny_fold1_test"]
    assert external_sets(group(matched([content]))) == ["clinic_all"]


@pytest.mark.parametrize(
    "planned, runs, threshold, words",
    [
        ([], [], "0.5", "an empty plan"),
        ([descriptor("a")], [], "0.4", "not '0.4'"),
        ([{"method": "a"}], [], "0.5", "lacks stage, data"),
        ([descriptor("a"), {**descriptor("a"), "data": "other"}], [], "0.5", "one data set in one profile"),
        ([descriptor("a")], [descriptor("a")], "0.5", "a, p = 0.2, fold 1, seed 0: its file holds no predictions"),
    ],
)
def test_plans_that_cannot_be_shown(planned, runs, threshold, words):
    with pytest.raises(InputError, match=words):
        match(planned, runs, threshold)


@pytest.mark.parametrize("malignancy", [1.5, float("nan")])
def test_a_malignancy_that_is_no_probability(malignancy):
    content = run("retinanet", [0.2, malignancy], [0, 1])
    (x,) = group(matched([content]))
    with pytest.raises(InputError, match="retinanet, p = 0.2, fold 1, seed 0: .*of image 101 is no probability"):
        cases(x.runs[0])


def test_predictions_that_cannot_be_used():
    content = random_run("retinanet")
    del content["predictions"]["tiny_fold1_test"][3]["label"]
    (x,) = group(matched([content]))
    with pytest.raises(InputError, match="retinanet, p = 0.2, fold 1, seed 0: the predictions for tiny_fold1_test"):
        cases(x.runs[0])
    with pytest.raises(InputError, match="no predictions for tiny_fold2_test, only for .'tiny_fold1_test'."):
        cases(x.runs[0], "tiny_fold2_test")
