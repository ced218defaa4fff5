import pytest
import torch

from tsdd_d2.modeling.boxes import clip_boxes, elementwise_iou, enlarge_boxes, jitter_boxes


def test_elementwise_iou_by_hand():
    a = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 4.0]])
    b = torch.tensor([[5.0, 0.0, 15.0, 10.0], [0.0, 0.0, 4.0, 4.0], [8.0, 8.0, 9.0, 9.0]])
    assert elementwise_iou(a, b).tolist() == pytest.approx([50 / 150, 1.0, 0.0])


def test_enlarging_about_the_centre():
    assert enlarge_boxes(torch.tensor([[10.0, 20.0, 20.0, 40.0]]), 1.5).tolist() == [[7.5, 15.0, 22.5, 45.0]]


def test_jitter_is_bounded_by_the_sides():
    boxes = torch.tensor([[10.0, 20.0, 20.0, 60.0]]).repeat(500, 1)
    moved = (jitter_boxes(boxes, 0.1) - boxes).abs().max(dim=0).values
    assert (moved <= torch.tensor([1.0, 4.0, 1.0, 4.0])).all() and (moved > 0.8 * torch.tensor([1.0, 4.0, 1.0, 4.0])).all()


def test_clipping_to_the_image_of_each_box():
    boxes = torch.tensor([[[-3.0, 4.0, 50.0, 60.0]], [[10.0, -1.0, 20.0, 60.0]]])
    sizes = torch.tensor([[40, 30], [80, 15]])  # height, width
    assert clip_boxes(boxes, sizes).tolist() == [[[0, 4, 30, 40]], [[10, 0, 15, 60]]]
