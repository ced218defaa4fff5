import numpy as np
import pytest

from tsdd_d2.evaluation.calibration import net_benefit, reliability_curve


def test_reliability_by_hand():
    probabilities = [0.1, 0.2, 0.3, 0.6, 0.7, 0.8]
    mean, share = reliability_curve([0, 0, 1, 1, 0, 1], probabilities, bins=2)
    assert mean == pytest.approx([0.2, 0.7])
    assert share == pytest.approx([1 / 3, 2 / 3])


def test_bins_hold_equally_many_images():
    rng = np.random.default_rng(0)
    probabilities = rng.uniform(0, 0.2, 1000)  # bins of equal width would leave eight of ten empty
    mean, share = reliability_curve(rng.random(1000) < probabilities, probabilities)
    assert mean == pytest.approx(np.arange(0.01, 0.2, 0.02), abs=0.01)
    assert share == pytest.approx(mean, abs=0.1)


def test_net_benefit_by_hand():
    labels, probabilities = [1, 0, 1, 0], [0.9, 0.6, 0.4, 0.1]
    # at 0.2 and at 0.6: two and one true positives, one false positive each, which weighs 1/4 and 3/2
    expected = [2 / 4 - 1 / 4 / 4, 1 / 4 - 1 / 4 * 3 / 2]
    assert net_benefit(labels, probabilities, [0.2, 0.6]) == pytest.approx(expected)


def test_net_benefit_of_acting_on_all_and_none():
    thresholds = np.array([0.1, 0.25, 0.5])
    labels = np.arange(10) < 3
    everyone = 0.3 - 0.7 * thresholds / (1 - thresholds)
    assert net_benefit(labels, np.ones(10), thresholds) == pytest.approx(everyone)
    assert net_benefit(labels, np.zeros(10), thresholds) == pytest.approx([0, 0, 0])
    assert net_benefit(labels, labels.astype(float), thresholds) == pytest.approx([0.3] * 3)
