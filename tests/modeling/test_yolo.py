"""The parts that both YOLOs share."""

import math

import pytest
import torch

from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import Backbone
from tsdd_d2.modeling.yolo import complete_iou, kmeans_anchors, levels_of, scaled_channels, shape_iou


def test_complete_iou():
    boxes = torch.tensor([[0.0, 0, 2, 2], [0.0, 0, 4, 2], [1.0, 1, 5, 9]])
    other = torch.tensor([[1.0, 1, 3, 3], [0.0, 0, 2, 4], [1.0, 1, 5, 9]])
    # the second: IoU 4/12, centres (2, 1) and (1, 2) in a square of 4, sides 4:2 against 2:4
    aspect = 4 / math.pi**2 * (math.atan(2) - math.atan(0.5)) ** 2
    expected = [1 / 7 - 2 / 18, 1 / 3 - 2 / 32 - aspect**2 / (1 - 1 / 3 + aspect), 1]
    assert complete_iou(boxes, other).tolist() == pytest.approx(expected, abs=1e-5)


def test_shape_iou():
    ious = shape_iou(torch.tensor([[4.0, 2.0]]), torch.tensor([[2.0, 4.0], [4.0, 2.0]]))
    assert ious.tolist() == [pytest.approx([4 / 12, 1])]


def test_kmeans_finds_the_groups_of_a_toy_set():
    sizes = torch.tensor([[10.0, 12.0], [42.0, 20.0], [12.0, 10.0], [38.0, 20.0], [100.0, 110.0], [20.0, 44.0], [20.0, 36.0]])
    expected = [[11.0, 11.0], [40.0, 20.0], [20.0, 40.0], [100.0, 110.0]]
    found = kmeans_anchors(sizes, 4)
    assert sorted(found.tolist()) == sorted(expected)
    assert (found.prod(dim=1).diff() >= 0).all()
    # the order of the boxes is of no account
    assert torch.equal(kmeans_anchors(sizes.flip(0), 4)[-1], found[-1])


def test_kmeans_of_fewer_boxes_than_anchors():
    found = kmeans_anchors(torch.tensor([[10.0, 10.0], [30.0, 30.0]]), 9)
    assert found.shape == (9, 2) and set(map(tuple, found.tolist())) == {(10, 10), (30, 30)}


def test_channels_are_a_multiple_of_8():
    assert [scaled_channels(x, 0.3) for x in (32, 64, 1024)] == [16, 24, 312]


def test_a_backbone_without_three_levels_is_refused():
    class Two(Backbone):
        def forward(self, x):
            return {}

        def output_shape(self):
            return {"res3": ShapeSpec(channels=8, stride=8), "res4": ShapeSpec(channels=8, stride=16)}

    with pytest.raises(ValueError, match="32"):
        levels_of(Two())
