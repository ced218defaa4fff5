import pytest
import torch

from tsdd_d2.modeling.boxes import clip_boxes, elementwise_iou


def test_elementwise_iou_by_hand():
    a = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 4.0]])
    b = torch.tensor([[5.0, 0.0, 15.0, 10.0], [0.0, 0.0, 4.0, 4.0], [8.0, 8.0, 9.0, 9.0]])
    assert elementwise_iou(a, b).tolist() == pytest.approx([50 / 150, 1.0, 0.0])


def test_clipping_to_the_image_of_each_box():
    boxes = torch.tensor([[[-3.0, 4.0, 50.0, 60.0]], [[10.0, -1.0, 20.0, 60.0]]])
    sizes = torch.tensor([[40, 30], [80, 15]])  # height, width
    assert clip_boxes(boxes, sizes).tolist() == [[[0, 4, 30, 40]], [[10, 0, 15, 60]]]
