import pytest
import torch

from tsdd_d2.refinement.explanation import candidate_quality, incumbent_advantage


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


def test_an_equal_incumbent_stays():
    assert incumbent_advantage(torch.tensor([0.5, 0.4, 0.9]), torch.tensor([0.5, 0.6, 0.1])) == pytest.approx(2 / 3)
