import logging

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from tsdd_d2.evaluation.statistics import (
    diagnosis_metrics,
    flatten_intervals,
    patient_bootstrap,
    patient_level,
    roc_points,
    sensitivity_at,
    youden_optimal_threshold,
)


def random_cases(num_images=60, num_patients=25, seed=0):
    rng = np.random.default_rng(seed)
    patients = rng.integers(0, num_patients, num_images)
    labels = patients % 2
    # one decimal: many ties, also between the classes
    probabilities = np.round(np.clip(0.3 + 0.3 * labels + 0.25 * rng.normal(size=num_images), 0, 1), 1)
    return [f"patient {p}" for p in patients], labels, probabilities


def sklearn_oracle(labels, probabilities, threshold, weights=None):
    called = np.asarray(probabilities) >= threshold
    recall = sklearn_metrics.recall_score
    sensitivity = recall(labels, called, sample_weight=weights)
    specificity = recall(labels, called, pos_label=0, sample_weight=weights)
    return {
        "AUC": sklearn_metrics.roc_auc_score(labels, probabilities, sample_weight=weights),
        "accuracy": sklearn_metrics.accuracy_score(labels, called, sample_weight=weights),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "youden_index": sensitivity + specificity - 1,
    }


def test_metrics_by_hand():
    metrics = diagnosis_metrics([1, 1, 0, 0, 0], [0.9, 0.5, 0.5, 0.2, 0.1], threshold=0.5)
    # pairs: 0.9 beats all 3; 0.5 ties with one and beats 2; the tie at the threshold is called malignant
    assert metrics == pytest.approx(
        {"AUC": 5.5 / 6, "accuracy": 4 / 5, "sensitivity": 1, "specificity": 2 / 3, "youden_index": 2 / 3}
    )


@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.5, 1.0])
def test_metrics_equal_sklearn(threshold):
    _, labels, probabilities = random_cases()
    expected = sklearn_oracle(labels, probabilities, threshold)
    assert diagnosis_metrics(labels, probabilities, threshold) == pytest.approx(expected, abs=1e-12)


def test_weighted_metrics_equal_sklearn_with_sample_weights():
    _, labels, probabilities = random_cases()
    weights = np.random.default_rng(1).integers(0, 4, size=(2, 3, len(labels)))
    metrics = diagnosis_metrics(labels, probabilities, 0.5, weights)
    for index in np.ndindex(2, 3):
        expected = sklearn_oracle(labels, probabilities, 0.5, weights[index])
        assert {name: value[index] for name, value in metrics.items()} == pytest.approx(expected, abs=1e-12)


def test_one_class_leaves_what_needs_the_other_undefined():
    metrics = diagnosis_metrics([0, 0, 0, 0], [0.1, 0.2, 0.3, 0.8])
    nan = float("nan")
    expected = {"AUC": nan, "accuracy": 0.75, "sensitivity": nan, "specificity": 0.75, "youden_index": nan}
    assert metrics == pytest.approx(expected, nan_ok=True)
    assert roc_points([1, 1], [0.2, 0.3]) == {"fpr": [], "tpr": [], "thresholds": []}
    assert np.isnan(youden_optimal_threshold([1, 1], [0.2, 0.3]))


@pytest.mark.parametrize(
    "labels, probabilities, message",
    [
        ([], [], "at least 1"),
        ([0, 1], [0.5], "same length"),
        ([0, 2], [0.5, 0.5], "0 .benign. or 1 .malignant., not .0, 2."),
        ([0, 1], [0.5, float("nan")], "entry 1 is nan"),
        ([0, 1], [1.5, 0.5], "entry 0 is 1.5"),
    ],
)
def test_bad_cases_are_refused(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        diagnosis_metrics(labels, probabilities)


def test_youden_optimal_threshold_by_hand():
    # from 0.6 on: sensitivity 2/3, specificity 1; from 0.4 on: 1 and 2/3 as well; the higher one wins
    assert youden_optimal_threshold([1, 1, 0, 1, 0, 0], [0.9, 0.6, 0.5, 0.4, 0.2, 0.1]) == 0.6


def test_youden_optimal_threshold_is_the_best_of_all():
    _, labels, probabilities = random_cases()
    best = max(sklearn_oracle(labels, probabilities, t)["youden_index"] for t in probabilities)
    threshold = youden_optimal_threshold(labels, probabilities)
    assert threshold in probabilities
    assert diagnosis_metrics(labels, probabilities, threshold)["youden_index"] == pytest.approx(best)


def test_youden_optimal_threshold_is_finite_for_a_useless_model():
    assert youden_optimal_threshold([1, 0], [0.2, 0.7]) == 0.2


def test_roc_points_enclose_the_auc():
    _, labels, probabilities = random_cases()
    roc = roc_points(labels, probabilities)
    assert (roc["fpr"][0], roc["tpr"][0], roc["fpr"][-1], roc["tpr"][-1]) == (0, 0, 1, 1)
    assert sklearn_metrics.auc(roc["fpr"], roc["tpr"]) == pytest.approx(diagnosis_metrics(labels, probabilities)["AUC"])


def test_sensitivity_at_equals_the_roc_curve():
    _, labels, probabilities = random_cases()
    fpr, tpr, _ = sklearn_metrics.roc_curve(labels, probabilities, drop_intermediate=False)
    inside = np.unique(fpr)
    upper_ends = [tpr[fpr == rate].max() for rate in inside]
    assert sensitivity_at(labels, probabilities, inside) == pytest.approx(upper_ends)
    between = (inside[:-1] + inside[1:]) / 2
    lower_ends = np.array([tpr[fpr == rate].min() for rate in inside])
    expected = (np.array(upper_ends)[:-1] + lower_ends[1:]) / 2
    assert sensitivity_at(labels, probabilities, between) == pytest.approx(expected)


def test_weighted_sensitivity_at_equals_repeated_images():
    _, labels, probabilities = random_cases()
    weights = np.random.default_rng(1).integers(0, 4, size=(2, 3, len(labels)))
    grid = np.linspace(0, 1, 11)
    curves = sensitivity_at(labels, probabilities, grid, weights)
    assert curves.shape == (2, 3, 11)
    for index in np.ndindex(2, 3):
        repeated = sensitivity_at(*(np.repeat(x, weights[index]) for x in (labels, probabilities)), grid)
        assert curves[index] == pytest.approx(repeated)
    for weights in ([1, 1, 0, 0], [0, 0, 1, 1]):  # no malignant, no benign image
        assert np.isnan(sensitivity_at([0, 0, 1, 1], [0.3, 0.6, 0.5, 0.8], grid, [weights])).all()


def test_patient_level_averages_and_takes_the_worst_label():
    patients, labels, probabilities = patient_level(["b", "a", "b", "c"], [0, 1, 1, 0], [0.2, 0.9, 0.6, 0.3])
    assert patients.tolist() == ["a", "b", "c"]
    assert labels.tolist() == [1, 1, 0]
    assert probabilities == pytest.approx([0.9, 0.4, 0.3])


def diagnosis_statistic(labels, probabilities):
    return lambda weights: diagnosis_metrics(labels, probabilities, 0.5, weights)


def test_bootstrap_equals_a_loop_over_concatenated_patients():
    patient_ids, labels, probabilities = random_cases()
    patient_ids = np.array(patient_ids)
    patients = np.unique(patient_ids)
    rng = np.random.default_rng(42)
    loop = []
    for _ in range(1500):
        images = np.concatenate([np.flatnonzero(patient_ids == patient) for patient in rng.choice(patients, len(patients))])
        called = probabilities[images] >= 0.5
        malignant = labels[images] == 1
        greater = probabilities[images][malignant][:, None] - probabilities[images][~malignant][None]
        sensitivity, specificity = called[malignant].mean(), (~called[~malignant]).mean()
        loop.append(
            [
                (np.sign(greater) / 2 + 0.5).mean(),
                (called == malignant).mean(),
                sensitivity,
                specificity,
                sensitivity + specificity - 1,
            ]
        )
    low, high = np.percentile(loop, [2.5, 97.5], axis=0)

    intervals = patient_bootstrap(patient_ids, diagnosis_statistic(labels, probabilities), resamples=4000)
    assert list(intervals) == ["AUC", "accuracy", "sensitivity", "specificity", "youden_index"]
    assert [interval["low"] for interval in intervals.values()] == pytest.approx(low, abs=0.03)
    assert [interval["high"] for interval in intervals.values()] == pytest.approx(high, abs=0.03)
    expected = sklearn_oracle(labels, probabilities, 0.5)
    assert {name: interval["value"] for name, interval in intervals.items()} == pytest.approx(expected)


def test_bootstrap_draws_patients_not_images():
    # 10 patients with 20 identical images each: the data hold 10 facts, not 200
    patient_of_image = np.repeat(np.arange(10), 20)
    right = (patient_of_image < 5).astype(float)

    def share(weights):
        return {"share": weights @ right / weights.sum(-1)}

    by_patient = patient_bootstrap(patient_of_image, share)["share"]
    by_image = patient_bootstrap(np.arange(200), share)["share"]
    # binomial quantiles of n = 10 and n = 200
    assert (by_patient["low"], by_patient["high"]) == (0.2, 0.8)
    assert (by_image["low"], by_image["high"]) == pytest.approx((0.43, 0.57), abs=0.015)


def test_bootstrap_depends_on_the_seed_only():
    patient_ids, labels, probabilities = random_cases()
    statistic = diagnosis_statistic(labels, probabilities)
    first = patient_bootstrap(patient_ids, statistic, resamples=200, seed=3)
    assert patient_bootstrap(patient_ids, statistic, resamples=200, seed=3) == first
    assert patient_bootstrap(patient_ids, statistic, resamples=200, seed=4) != first
    reverse = diagnosis_statistic(labels[::-1], probabilities[::-1])
    reordered = patient_bootstrap(patient_ids[::-1], reverse, resamples=200, seed=3)
    for name in first:
        assert reordered[name] == pytest.approx(first[name])


def test_bootstrap_in_several_batches(monkeypatch):
    patient_ids, labels, probabilities = random_cases()
    statistic = diagnosis_statistic(labels, probabilities)
    at_once = patient_bootstrap(patient_ids, statistic, resamples=50)
    monkeypatch.setattr("tsdd_d2.evaluation.statistics.MAX_WEIGHTS_PER_BATCH", 7 * len(labels))
    sizes = []

    def watched(weights):
        sizes.append(np.shape(weights))
        return statistic(weights)

    in_batches = patient_bootstrap(patient_ids, watched, resamples=50)
    assert max(size[0] for size in sizes[1:]) == 7
    for name in at_once:
        assert in_batches[name] == pytest.approx(at_once[name])


def test_resamples_without_a_class_are_left_out_and_said(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("tsdd_d2"), "propagate", True)  # a training tool's set-up stops it
    statistic = diagnosis_statistic([1, 0, 0], [0.9, 0.6, 0.1])
    with caplog.at_level(logging.WARNING):
        intervals = patient_bootstrap(["a", "b", "c"], statistic, resamples=500)
    assert intervals["accuracy"]["resamples"] == 500
    # the malignant patient is absent with probability (2/3)^3 = 0.30, both benign ones with (1/3)^3 = 0.04
    assert intervals["sensitivity"]["resamples"] == pytest.approx(500 * (1 - 8 / 27), abs=50)
    assert intervals["AUC"]["resamples"] < intervals["sensitivity"]["resamples"]
    assert (intervals["AUC"]["low"], intervals["AUC"]["high"]) == (1, 1)
    assert "lack a class" in caplog.text and "accuracy" not in caplog.text


def test_metric_undefined_in_every_resample_has_no_interval():
    interval = patient_bootstrap(["a", "b"], diagnosis_statistic([0, 0], [0.1, 0.6]), resamples=20)["AUC"]
    assert interval == pytest.approx({"value": np.nan, "low": np.nan, "high": np.nan, "resamples": 0}, nan_ok=True)


def test_one_patient_has_no_interval():
    interval = patient_bootstrap(["a", "a"], diagnosis_statistic([0, 0], [0.1, 0.6]))["accuracy"]
    expected = {"value": 0.5, "low": np.nan, "high": np.nan, "resamples": 0}
    assert interval == pytest.approx(expected, nan_ok=True)


def test_flatten_intervals():
    intervals = {"AUC": {"value": 0.9, "low": 0.8, "high": 1.0, "resamples": 7}, "AP": {"value": 0.5}}
    assert flatten_intervals(intervals) == {"AUC": 0.9, "AUC_low": 0.8, "AUC_high": 1.0, "AP": 0.5}


def test_no_resamples_no_intervals():
    intervals = patient_bootstrap(["a", "b"], diagnosis_statistic([0, 1], [0.1, 0.6]), resamples=0)
    assert set(intervals["AUC"]) == {"value"}
