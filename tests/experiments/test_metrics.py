import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from tsdd_d2.errors import InputError
from tsdd_d2.evaluation.statistics import diagnosis_metrics, patient_bootstrap
from tsdd_d2.experiments.groups import cases
from tsdd_d2.experiments.metrics import (
    Bootstrap,
    auc_of_folds,
    brier_score,
    compare,
    compare_all,
    detector_metrics,
    gain,
    group_metrics,
    localisation,
    metric_differences,
    pooled,
    roc_band,
)

from .conftest import entry, groups_of, missing, random_entry

FEW = Bootstrap(resamples=100)


def records(x):
    (found,) = x.result.predictions.values()
    return found


def accuracy_and_auc(x, threshold=0.5):
    predictions = records(x)
    labels, scores = [x["label"] for x in predictions], np.array([x["malignancy"] for x in predictions])
    return sklearn_metrics.accuracy_score(labels, scores >= threshold), sklearn_metrics.roc_auc_score(labels, scores)


def test_mean_and_deviation_over_folds():
    runs = [random_entry("retinanet", fold) for fold in (1, 2, 3)]
    (x,) = groups_of(*runs)
    result = group_metrics(x, FEW)
    for name, of_folds in zip(("accuracy", "AUC"), zip(*map(accuracy_and_auc, runs))):
        assert (result[name].mean, result[name].std) == pytest.approx((np.mean(of_folds), np.std(of_folds, ddof=1)))
        assert result[name].low < result[name].mean < result[name].high


def test_the_auc_of_each_fold_is_the_mean_over_its_seeds():
    runs = [random_entry("retinanet", 1), random_entry("retinanet", 2, seed=1), random_entry("retinanet", 2, strength=3)]
    (x,) = groups_of(*runs)
    first, second, third = (accuracy_and_auc(content)[1] for content in runs)
    assert auc_of_folds(x) == {1: pytest.approx(first), 2: pytest.approx((second + third) / 2)}


def test_each_run_has_its_own_threshold():
    runs = [random_entry("retinanet", fold, threshold=fold / 4) for fold in (1, 2)]
    (x,) = groups_of(*runs)
    expected = np.mean([accuracy_and_auc(content, fold / 4)[0] for content, fold in zip(runs, (1, 2))])
    assert group_metrics(x, FEW)["accuracy"].mean == pytest.approx(expected)


def test_one_fold_has_the_interval_of_its_patients_and_no_deviation():
    (x,) = groups_of(random_entry("retinanet"))
    of_run = cases(x.shown[0])
    expected = patient_bootstrap(
        of_run.patient_ids, lambda w: diagnosis_metrics(of_run.labels, of_run.probabilities, 0.5, w), 100
    )
    for name, interval in group_metrics(x, FEW).items():
        assert interval == pytest.approx((expected[name]["value"], None, expected[name]["low"], expected[name]["high"]))


def test_seeds_are_averaged_within_their_fold():
    runs = [random_entry("retinanet", 1), random_entry("retinanet", 2)]
    second_seed = random_entry("retinanet", 1, strength=2.0, seed=1)
    (x,) = groups_of(*runs, second_seed)
    first, other, second = (accuracy_and_auc(content)[1] for content in (*runs, second_seed))
    of_folds = [(first + second) / 2, other]
    result = group_metrics(x, FEW)["AUC"]
    assert (result.mean, result.std) == pytest.approx((np.mean(of_folds), np.std(of_folds, ddof=1)))


def test_nothing_is_invented_for_what_is_missing():
    (x,) = groups_of(missing("retinanet"))
    assert group_metrics(x, FEW) == {} and pooled(x) is None
    (x,) = groups_of(random_entry("retinanet"))
    assert group_metrics(x.tested_on("clinic_all"), FEW, "clinic_all") == {}


def test_brier_score():
    (x,) = groups_of(entry("retinanet", [0.1, 0.6, 0.7, 1.0], [0, 0, 1, 1]))
    result = brier_score(x, FEW)
    assert result.mean == pytest.approx((0.01 + 0.36 + 0.09 + 0) / 4)
    assert (result.low, result.high) == pytest.approx((0.045, 0.185))  # one of the two patients twice


def test_localisation():
    x = entry("retinanet", [0.1, 0.6, 0.7, 1.0], [0, 0, 1, 1])
    # an IoU of 1, one of 1/4, nothing found, and an image without manual ROI, which does not count
    boxes = [([0, 0, 4, 4], [0, 0, 4, 4]), ([0, 0, 2, 2], [0, 0, 4, 4]), (None, [0, 0, 4, 4]), ([0, 0, 4, 4], None)]
    for record, (box, roi) in zip(x.result.predictions["tiny_fold1_test"], boxes):
        record.update(box=box, roi=roi)
    found = localisation(groups_of(x)[0], FEW)
    assert (found["mean IoU"].mean, found["IoU ≥ 0.5"].mean) == pytest.approx((1.25 / 3, 1 / 3))


def test_ap50_is_of_the_one_box_of_each_image():
    # by falling score: on the lesion, beside it, nothing found; COCO takes the highest precision at no lower a recall
    x = entry("faster_rcnn", [0.1, 0.2, 0.9], [0, 0, 1])
    records = x.result.predictions["tiny_fold1_test"]
    for record, box, score in zip(records, ([0, 0, 10, 10], [20, 0, 30, 10], None), (0.9, 0.8, None)):
        record.update(roi=[0.0, 0.0, 10.0, 10.0], box=box, score=score)
    (found,) = groups_of(x)
    metrics = detector_metrics(found, Bootstrap(10))
    assert metrics["AP50"].mean == pytest.approx(34 / 101)  # recall 0, 0.01, ..., 0.33 at precision 1
    assert metrics["mean IoU"].mean == metrics["IoU ≥ 0.5"].mean == pytest.approx(1 / 3)


def test_roc_band_encloses_the_mean_auc():
    (x,) = groups_of(random_entry("retinanet", 1), random_entry("retinanet", 2))
    grid = np.linspace(0, 1, 2001)
    sensitivity, low, high = roc_band(x, grid, Bootstrap(20))
    assert sensitivity.mean() == pytest.approx(group_metrics(x, FEW)["AUC"].mean, abs=0.001)
    assert (low <= high).all() and (np.diff(sensitivity) >= 0).all() and sensitivity[-1] == 1
    assert ((low <= sensitivity) & (sensitivity <= high)).mean() > 0.9


def test_comparison_is_of_the_folds_that_both_have():
    ours = [random_entry("tsddnet", fold, strength=2) for fold in (1, 2, 3)]
    others = [random_entry("retinanet", fold) for fold in (2, 3, 4)]
    del records(others[0])[5]  # as of the oracle an image without a manual ROI
    b, a = groups_of(*ours, *others)
    result = compare(a, b, FEW)
    assert (result.folds, result.num_images, result.num_patients) == ((2, 3), 47, 24)

    labels, scores, differences = [], ([], []), []
    for mine, other in zip(ours[1:], others[:2]):
        by_id = {x["image_id"]: x for x in records(mine)}
        for x in records(other):
            labels.append(x["label"])
            scores[0].append(by_id[x["image_id"]]["malignancy"])
            scores[1].append(x["malignancy"])
        size = len(records(other))
        first, second = (sklearn_metrics.roc_auc_score(labels[-size:], x[-size:]) for x in scores)
        differences.append(first - second)
    areas = [sklearn_metrics.roc_auc_score(labels, x) for x in scores]
    assert (result.delong.auc_a, result.delong.auc_b) == pytest.approx(areas)
    # probabilities of two folds' models have no common scale
    assert result.difference.mean == pytest.approx(np.mean(differences)) != areas[0] - areas[1]
    right = [(np.array(x) >= 0.5) == np.array(labels) for x in scores]
    assert result.mcnemar[:2] == ((right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum())


def test_comparisons_are_corrected_together():
    contents = [random_entry(method, strength=x) for method, x in (("tsddnet", 3), ("retinanet", 1), ("spa", 1.5))]
    groups = {x.method: x for x in groups_of(*contents, random_entry("stac", fold=2))}
    ours, others = groups["tsddnet"], [groups[x] for x in ("retinanet", "spa", "stac")]
    first, second = compare_all(ours, others, FEW)  # stac has no fold in common
    smaller, larger = sorted((first.delong.p_value, second.delong.p_value))
    corrected = sorted((first.delong_holm, second.delong_holm))
    assert corrected == pytest.approx([min(1, 2 * smaller), max(min(1, 2 * smaller), larger)])
    assert first.b.method == "retinanet" and first.mcnemar_holm >= first.mcnemar.p_value


def test_of_several_seeds_the_first_is_compared():
    ours = [random_entry("tsddnet", seed=seed) for seed in (0, 1)]
    other = [random_entry("retinanet", seed=seed) for seed in (1, 2)]
    b, a = groups_of(*ours, *other)
    assert compare(a, b, FEW).num_images == 24
    (b,) = groups_of(other[1])
    assert compare(a, b, FEW) is None


@pytest.mark.parametrize("field, value", [("label", 1), ("patient_id", "x"), ("image_id", None)])
def test_models_that_were_tested_on_other_images_are_not_compared(field, value):
    ours, other = random_entry("tsddnet"), random_entry("retinanet")
    for number, x in enumerate(records(other)):
        x[field] = number if value is None else value
    b, a = groups_of(ours, other)
    with pytest.raises(InputError, match="tsddnet, p = 0.2, fold 1, seed 0 and retinanet"):
        compare(a, b, FEW)


def test_models_that_each_lack_an_image_are_not_compared():
    """The data set was prepared again between them."""
    ours, other = random_entry("tsddnet"), random_entry("retinanet")
    del records(other)[0], records(ours)[1]
    b, a = groups_of(ours, other)
    with pytest.raises(InputError, match="tiny_fold1_test"):
        compare(a, b, FEW)


def test_differences_are_paired():
    a = [random_entry("tsddnet", fold) for fold in (1, 2)]
    b = [random_entry("tsdd_b_sd", fold) for fold in (1, 2, 3)]
    second, first = groups_of(*a, *b)
    result = metric_differences(first, second, FEW)["AUC"]
    expected = [accuracy_and_auc(x)[1] - accuracy_and_auc(y)[1] for x, y in zip(a, b)]
    assert (result.mean, result.std) == pytest.approx((np.mean(expected), np.std(expected, ddof=1)))
    assert gain("CS", first, second, FEW).differences["AUC"] == result
    same = metric_differences(first, first, FEW)["accuracy"]
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_a_gain_is_the_mean_of_those_of_the_seeds_that_both_have():
    a = [random_entry("tsddnet", seed=seed, strength=strength) for seed, strength in ((0, 1.0), (1, 2.0), (2, 1.5))]
    b = [random_entry("tsdd_b_sd", seed=seed, strength=0.5) for seed in (0, 1)]
    second, first = groups_of(*a, *b)
    found = gain("CS", first, second, FEW)
    expected = {seed: accuracy_and_auc(a[seed])[1] - accuracy_and_auc(b[seed])[1] for seed in (0, 1)}
    assert found.of_seeds == pytest.approx(expected) and expected[0] != expected[1]
    assert found.differences["AUC"].mean == pytest.approx(np.mean(list(expected.values())))
    assert gain("CS", first.of_seed(2), second, FEW) is None
