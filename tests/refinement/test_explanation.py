import pytest
import torch

from tsdd_d2.refinement.explanation import candidate_quality, incumbent_advantage, replacement


def test_candidate_quality_by_hand():
    scores = [torch.tensor([0.2, 0.9, 0.5]), torch.tensor([0.6, 0.1]), torch.tensor([0.7])]
    overlaps = [torch.tensor([0.8, 0.1, 0.3]), torch.tensor([0.4, 0.6]), torch.tensor([0.5])]
    figures = candidate_quality(scores, overlaps)
    assert figures["iou_first"] == pytest.approx((0.8 + 0.4 + 0.5) / 3)
    assert figures["iou_guided"] == pytest.approx((0.1 + 0.4 + 0.5) / 3)
    assert figures["iou_best"] == pytest.approx((0.8 + 0.6 + 0.5) / 3)
    # all three pairs of the first image and the one pair of the second are in the opposite order
    assert figures["rank_correlation"] == pytest.approx(-1)


def test_single_candidates_have_no_rank_correlation():
    assert "rank_correlation" not in candidate_quality([torch.tensor([0.7])], [torch.tensor([0.5])])


def test_scores_within_a_hundredth_of_the_ends_are_saturated():
    scores = [torch.tensor([0.0, 0.009, 0.02]), torch.tensor([0.985, 0.995])]
    assert candidate_quality(scores, [torch.zeros(3), torch.zeros(2)])["saturated"] == pytest.approx(3 / 5)


def test_a_margin_keeps_what_is_hardly_worse():
    scores, overlaps = torch.tensor([0.55, 0.9, 0.2]), torch.tensor([0.8, 0.3, 0.9])
    current = torch.tensor([0.5, 0.5, 0.5]), torch.tensor([0.6, 0.6, 0.6])
    assert replacement(*current, scores, overlaps, 0.0) == pytest.approx(
        {"replaced": 2 / 3, "improved": 1 / 2, "iou_before": 0.6, "iou_after": (0.8 + 0.3 + 0.6) / 3}
    )
    assert replacement(*current, scores, overlaps, 0.1) == pytest.approx(
        {"replaced": 1 / 3, "improved": 0, "iou_before": 0.6, "iou_after": (0.6 + 0.3 + 0.6) / 3}
    )


def test_an_equal_incumbent_stays():
    assert incumbent_advantage(torch.tensor([0.5, 0.4, 0.9]), torch.tensor([0.5, 0.6, 0.1])) == pytest.approx(2 / 3)
