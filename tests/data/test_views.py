"""Views of one image: their transforms carry boxes exactly, and fit the pixels."""

import numpy as np
import pytest
import torch

from detectron2.data import transforms as T
from tsdd_d2.data.mapper import BBUIMapper
from tsdd_d2.data.strong_augmentation import Affine
from tsdd_d2.data.views import ViewsMapper, carry_boxes, in_view, transform_matrix

SIZE = 240, 320
BOX = [100.0, 80.0, 60.0, 44.0]  # XYWH


def pixels(file_name, image_format):
    """A bright box on black."""
    x, y, w, h = map(int, BOX)
    image = np.zeros((*SIZE, 1), dtype=np.uint8)
    image[y : y + h, x : x + w] = 255
    return image


def views(cfg, one_geometry=False, draw=0, whole=(), **own):
    cfg.INPUT.RANDOM_ZOOM, cfg.INPUT.RANDOM_SHIFT, cfg.INPUT.INTENSITY_JITTER = 0.2, 0.2, 0.4
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (200, 260), 400
    annotation = {"bbox": BOX, "bbox_mode": 1, "category_id": 1}
    image = {"file_name": "", "height": SIZE[0], "width": SIZE[1], "annotations": [annotation], "draw_seed": [3, draw]}
    return ViewsMapper(cfg, own or {"a": (), "b": ()}, pixels, one_geometry, whole)(image)


def box_of_bright(image):
    y, x = (image[0] > 127).nonzero(as_tuple=True)
    return torch.tensor([[x.min(), y.min(), x.max() + 1, y.max() + 1]], dtype=torch.float32)


def test_boxes_go_from_view_to_view_and_back(tiny_cfg):
    boxes = torch.tensor([[10.0, 20.0, 90.0, 120.0], [0.0, 0.0, 320.0, 240.0]])
    for draw in range(5):
        a, b = views(tiny_cfg, draw=draw)
        assert not torch.equal(a["transform"], b["transform"])
        there = carry_boxes(boxes, a["transform"], b["transform"])
        assert not torch.allclose(there, boxes, atol=1)
        back = carry_boxes(there, b["transform"], a["transform"])
        assert torch.allclose(back, boxes, atol=1e-4, rtol=0)
        # the mapper's own box of one view is that of the other
        found = carry_boxes(a["instances"].gt_boxes.tensor, a["transform"], b["transform"])
        assert torch.allclose(found, b["instances"].gt_boxes.tensor, atol=1e-4, rtol=0)


def test_the_transform_is_that_of_the_pixels(tiny_cfg):
    x, y, w, h = BOX
    for draw in range(5):
        for view in views(tiny_cfg, draw=draw, plain=(), turned=[Affine(translate=0.1, angle=20.0, shear=15.0)]):
            boxes = torch.tensor([[x, y, x + w, y + h]])
            expected = carry_boxes(boxes, torch.eye(3), view["transform"])
            assert torch.allclose(box_of_bright(view["image"]), expected, atol=2.0, rtol=0), view["view"]


def test_one_geometry_for_all_views_or_one_for_each(tiny_cfg):
    brighter = T.RandomBrightness(1.5, 1.5)
    a, b = views(tiny_cfg, one_geometry=True, a=(), b=[brighter])
    assert torch.equal(a["transform"], b["transform"]) and a["view"] == "a" and b["view"] == "b"
    assert a["image"].max() == 255  # without the intensity jitter of all methods
    assert torch.equal(a["instances"].gt_boxes.tensor, b["instances"].gt_boxes.tensor)
    again = views(tiny_cfg, one_geometry=True, a=(), b=[brighter])
    assert all(torch.equal(x["image"], y["image"]) for x, y in zip((a, b), again))


def test_a_view_of_the_whole_image(tiny_cfg):
    corners = torch.tensor([[0.0, 0.0, SIZE[1], SIZE[0]]])
    for draw in range(5):
        a, b = views(tiny_cfg, draw=draw, whole=("b",), a=(), b=())
        height, width = b["image"].shape[1:]
        seen = carry_boxes(corners, torch.eye(3), b["transform"])
        assert torch.allclose(seen, torch.tensor([[0.0, 0.0, width, height]]), atol=1.0, rtol=0)
        assert not torch.allclose(carry_boxes(corners, torch.eye(3), a["transform"]), seen, atol=3.0, rtol=0)


def test_a_box_that_is_turned_is_enclosed():
    # a quarter turn about the middle of a square of 10 pixels: (x, y) to (10 - y, x)
    turn = torch.tensor([[0.0, -1.0, 10.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert carry_boxes(torch.tensor([[1.0, 2.0, 4.0, 9.0]]), torch.eye(3), turn).tolist() == [[1.0, 1.0, 8.0, 4.0]]
    half = torch.tensor([[0.5**0.5, -(0.5**0.5), 0.0], [0.5**0.5, 0.5**0.5, 0.0], [0.0, 0.0, 1.0]])
    diagonal = 2 * 0.5**0.5
    found = carry_boxes(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.eye(3), half)
    assert found.tolist()[0] == pytest.approx([-diagonal, 0.0, diagonal, 2 * diagonal], abs=1e-6)


def test_the_matrix_of_a_chain():
    chain = T.TransformList([T.HFlipTransform(100), T.ResizeTransform(80, 100, 40, 25)])
    expected = [[-0.25, 0, 25], [0, 0.5, 0], [0, 0, 1]]
    assert torch.allclose(transform_matrix(chain, (80, 100)), torch.tensor(expected, dtype=torch.float64))


def test_boxes_that_left_the_view_are_gone():
    boxes = torch.tensor([[-5.0, -5.0, 5.0, 5.0], [30.0, 2.0, 40.0, 8.0], [10.0, 19.5, 20.0, 40.0]])
    seen, which = in_view(boxes, (20, 25))
    assert seen.tensor.tolist() == [[0, 0, 5, 5]] and which.tolist() == [True, False, False]
    assert boxes[0, 0] == -5  # of the caller, untouched


def test_a_mapper_of_one_view_has_no_transform(tiny_cfg):
    image = {"file_name": "", "height": SIZE[0], "width": SIZE[1], "draw_seed": [0, 0]}
    assert "transform" not in BBUIMapper(tiny_cfg, is_train=True, read_pixels=pixels)(image)
