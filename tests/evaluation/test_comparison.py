import numpy as np
import pytest
from scipy import stats

from tsdd_d2.evaluation.comparison import delong_test, holm, mcnemar_test
from tsdd_d2.evaluation.statistics import diagnosis_metrics, patient_bootstrap


def test_delong_by_hand():
    labels = [1, 1, 1, 0, 0]
    a = [0.9, 0.4, 0.3, 0.5, 0.1]  # the malignant images are above 1, 1/2, 1/2 of the benign: AUC 2/3
    b = [0.2, 0.8, 0.9, 0.5, 0.1]  # above 1/2, 1, 1: AUC 5/6
    result = delong_test(labels, a, b)
    assert (result.auc_a, result.auc_b) == pytest.approx((2 / 3, 5 / 6))
    # differences of the malignant images: 1/2, -1/2, -1/2, variance 1/3; of the benign: 1/3 - 2/3, 1 - 1, variance 1/18
    variance = 1 / 3 / 3 + 1 / 18 / 2
    assert result.z == pytest.approx(-1 / 6 / variance**0.5)
    assert result.p_value == pytest.approx(2 * stats.norm.cdf(-(5**-0.5)))  # the z above is -1 / sqrt(5)


@pytest.mark.parametrize("decimals", [1, 6])  # one decimal: many ties
def test_delong_equals_mlstatkit(decimals):
    oracle = pytest.importorskip("MLstatkit").Delong_test
    rng = np.random.default_rng(decimals)
    for _ in range(10):
        labels = rng.permutation(np.arange(50) % 3 == 0).astype(int)
        a, b = np.round(rng.normal(labels * [[1.0], [0.5]], 1), decimals)
        result = delong_test(labels, a, b)
        z, p_value, auc_b, auc_a = oracle(labels, b, a, return_ci=False)  # its z is of the second less the first
        assert result == pytest.approx((auc_a, auc_b, z, p_value), abs=1e-12)


def test_delong_without_variance():
    labels = [1, 1, 0, 0]
    same = delong_test(labels, [0.9, 0.4, 0.5, 0.1], [0.8, 0.3, 0.6, 0.2])  # the same ranks
    assert same == pytest.approx((0.75, 0.75, 0, 1))
    perfect_and_constant = delong_test(labels, [0.9, 0.8, 0.2, 0.1], [0.5] * 4)
    assert perfect_and_constant == pytest.approx((1, 0.5, np.nan, np.nan), nan_ok=True)
    one_malignant = delong_test([1, 0, 0], [0.9, 0.2, 0.3], [0.25, 0.2, 0.3])
    assert one_malignant == pytest.approx((1, 0.5, np.nan, np.nan), nan_ok=True)
    with pytest.raises(ValueError, match="shape"):
        delong_test(labels, [0.5] * 3, [0.5] * 3)


def test_mcnemar_by_hand():
    right_a = [True] * 9 + [False] + [True, False] * 20
    right_b = [False] * 9 + [True] + [True, False] * 20
    result = mcnemar_test(right_a, right_b)
    assert result[:2] == (9, 1)
    assert result.p_value == pytest.approx(2 * (1 + 10) / 2**10)  # nine or more of ten coins on one side
    assert mcnemar_test([True, False], [True, False]) == (0, 0, 1.0)
    with pytest.raises(ValueError, match="shape"):
        mcnemar_test([True], [True, False])


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # 3 x 0.01, then 2 x 0.03 holds for 0.04 too
    assert holm([0.6, 0.005, 0.5]) == pytest.approx([1, 0.015, 1])
    assert holm([0.02, np.nan, 0.01]) == pytest.approx([0.02, np.nan, 0.02], nan_ok=True)  # a family of two
    assert holm([]) == []


def random_pair(num_patients=40):
    rng = np.random.default_rng(0)
    labels = np.arange(num_patients) % 2
    return [f"p{i}" for i in range(num_patients)], labels, *rng.uniform(0, 0.6, (2, num_patients)) + 0.3 * labels


def test_copies_of_images_narrow_delong_but_not_the_bootstrap_over_patients():
    patients, labels, a, b = random_pair()
    copies = [np.repeat(x, 4) for x in (labels, a, b)]
    once, repeated = delong_test(labels, a, b), delong_test(*copies)
    assert abs(repeated.z) > 1.9 * abs(once.z) > 0  # as if there were four times as many patients

    def interval(patients, labels, a):
        return patient_bootstrap(patients, lambda weights: diagnosis_metrics(labels, a, weights=weights), 200)["AUC"]

    assert interval(np.repeat(patients, 4), *copies[:2]) == pytest.approx(interval(patients, labels, a))
