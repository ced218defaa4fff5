import pytest
import torch

from tsdd_d2.modeling.ranking import (
    RANKING_REGISTRY,
    consensus,
    expected_iou,
    inside_image,
    needs_quality,
    quality,
)

SIZE = torch.tensor([[100, 200]])  # height, width of one image


def test_inside_image_tolerates_a_tenth_of_the_side():
    boxes = torch.tensor(
        [
            [10.0, 10.0, 60.0, 60.0],
            [-4.0, 10.0, 46.0, 60.0],  # overshoots by 4 of 50: allowed
            [-6.0, 10.0, 44.0, 60.0],  # by 6 of 50: not
            [160.0, 10.0, 204.0, 60.0],
            [160.0, 60.0, 190.0, 104.0],  # 4 of 44 below the lower border: allowed
            [30.0, 30.0, 30.5, 60.0],  # no width
        ]
    )
    assert inside_image(boxes[None], SIZE).tolist() == [[True, True, False, True, True, False]]


def test_quality_is_the_sigmoid_inside_and_zero_outside():
    boxes = torch.tensor([[10.0, 10.0, 60.0, 60.0], [-30.0, 10.0, 20.0, 60.0]])
    scores = quality(boxes[None], torch.tensor([[0.0, 9.0]]), boxes, SIZE)
    assert scores.tolist() == [[0.5, 0.0]]


def test_consensus_prefers_boxes_that_scattered_anchors_agree_on():
    target = torch.tensor([50.0, 20.0, 90.0, 60.0])
    shifts = torch.tensor([[0.0, 0.0], [12.0, 0.0], [-12.0, 8.0], [0.0, 16.0]]).repeat(1, 2)
    anchors = torch.cat([target + shifts, torch.tensor([[120.0, 20.0, 160.0, 60.0]])])
    boxes = anchors.clone()
    boxes[:4] = target + torch.tensor([[0.0], [1.0], [-1.0], [0.5]])
    (scores,) = consensus(boxes[None], None, anchors, SIZE)
    # the box on the target: 3 others agree, 1 anchor overlaps it by 0.7 (itself) -> 3 / (1 + 1) = 1.5 -> 1.5 / 2.5
    assert scores[0].item() == pytest.approx(0.6)
    assert scores[4].item() == 0.0  # nobody else


def test_consensus_does_not_reward_dense_anchors_that_nothing_pulled():
    dense = torch.tensor([20.0, 20.0, 60.0, 60.0]) + torch.arange(5.0)[:, None]
    pulled = torch.tensor([[130.0, 30.0, 170.0, 70.0]]).repeat(3, 1)
    far_anchors = pulled + torch.tensor([[0.0], [25.0], [-25.0]])
    boxes, anchors = torch.cat([dense, pulled]), torch.cat([dense, far_anchors])
    (scores,) = consensus(boxes[None], None, anchors, SIZE)
    assert scores[5:].min() > scores[:5].max()


def test_consensus_ignores_boxes_that_agree_only_after_clipping():
    boxes = torch.tensor([[-80.0, 10.0, 20.0, 60.0]]).repeat(6, 1)
    assert consensus(boxes[None], None, boxes, SIZE).tolist() == [[0.0] * 6]


def test_names():
    assert needs_quality("quality") and not needs_quality("consensus")
    with pytest.raises(KeyError, match="objectness"):
        needs_quality("objectness")


def test_expected_iou_by_hand():
    """Three boxes; a lone box with the highest quality loses."""
    boxes = torch.tensor([[100.0, 10.0, 120.0, 30.0], [10.0, 10.0, 30.0, 30.0], [10.0, 10.0, 30.0, 20.0]])
    logits = torch.tensor([0.5, 0.45, 0.4]).logit()
    (scores,) = expected_iou(boxes[None], logits[None], boxes, SIZE)
    # IoU of the last two is 1/2
    expected = [0.5 / 1.35, (0.45 + 0.5 * 0.4) / 1.35, (0.5 * 0.45 + 0.4) / 1.35]
    assert scores.tolist() == pytest.approx(expected, rel=1e-5)
    assert scores.argmax() == 1


@pytest.mark.parametrize("name, ranking", list(RANKING_REGISTRY))
def test_an_image_is_ranked_the_same_alone_and_in_a_batch(name, ranking):
    torch.manual_seed(0)
    corners = (torch.rand(3, 20, 2) * torch.tensor([150.0, 70.0])).repeat(1, 2, 1)  # every box twice
    boxes = torch.cat([corners, corners + 10 + torch.rand(3, 20, 2).repeat(1, 2, 1) * 40], dim=2)
    logits, sizes = torch.randn(3, 40), torch.tensor([[100, 200], [80, 160], [90, 90]])
    scores = ranking(boxes, logits, boxes[0], sizes)
    for i in range(3):
        alone = ranking(boxes[i : i + 1], logits[i : i + 1], boxes[0], sizes[i : i + 1])
        torch.testing.assert_close(scores[i : i + 1], alone)
    assert ((scores > 0) <= inside_image(boxes, sizes)).all() and (scores > 0).any(dim=1).all()
