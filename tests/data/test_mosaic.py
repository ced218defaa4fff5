"""Mosaic and mixup: pixels and boxes by hand."""

import numpy as np
import pytest
import torch

from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances
from tsdd_d2.data import ensure_registered
from tsdd_d2.data.mapper import BBUIMapper
from tsdd_d2.data.mosaic import FILL, MosaicMapper, MosaicStyle, compose, mixup


def tile(value, boxes, size=(8, 12), classes=None):
    boxes = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    classes = torch.zeros(len(boxes), dtype=torch.long) if classes is None else torch.tensor(classes)
    image = torch.full((1, *size), value, dtype=torch.uint8).expand(3, -1, -1)
    return {"image": image, "instances": Instances(size, gt_boxes=Boxes(boxes), gt_classes=classes)}


def boxes_of(instances):
    return instances.gt_boxes.tensor.tolist()


def test_inner_corners_meet_at_the_centre():
    tiles = [tile(10, [2, 1, 12, 7]), tile(20, [1, 2, 9, 7]), tile(30, [0, 0, 4, 2]), tile(40, [3, 0, 12, 8], classes=[1])]
    image, instances = compose(tiles, (8, 12), centre=(5, 4))
    assert image.shape == (3, 8, 12) and image.stride(0) == 0
    expected = np.zeros((8, 12), dtype=np.uint8)
    expected[:5, :4], expected[:5, 4:], expected[5:, :4], expected[5:, 4:] = 10, 20, 30, 40
    assert (image[0].numpy() == expected).all()
    # the first tile begins at x = 4 - 12, y = 5 - 8, the second at x = 4, y = 5 - 8, the last at x = 4, y = 5
    assert boxes_of(instances) == [[0, 0, 4, 4], [5, 0, 12, 4], [7, 5, 12, 8]]
    assert instances.gt_classes.tolist() == [0, 0, 1] and instances.image_size == (8, 12)


def test_a_box_of_which_little_is_in_view_is_left_out():
    tiles = [tile(0, []), tile(0, []), tile(0, []), tile(0, [0, 0, 12, 8])]
    seen = [boxes_of(compose(tiles, (8, 12), centre)[1]) for centre in [(5, 2), (5, 9), (6, 0)]]
    # 30 of 96 pixels, 9 of 96, and 2 rows
    assert seen == [[[2, 5, 12, 8]], [], []]


def test_the_whole_is_scaled_about_the_middle_and_moved():
    tiles = [tile(10, [2, 0, 12, 8]), tile(20, []), tile(30, []), tile(40, [4, 2, 12, 8])]
    image, instances = compose(tiles, (8, 12), centre=(4, 6), scale=0.5, shift=(1.0, -2.0))
    # x -> 0.5 x + 3 - 2, y -> 0.5 y + 2 + 1; the first tile begins at x = -6, y = -4, the last at x = 6, y = 4
    assert boxes_of(instances) == [[0, 1, 4, 5]]  # of the other 2 rows are in view
    assert image[0, 4, 3] == 10 and image[0, 6, 5] == 40
    # x -> 0.75 x + 1.5, y -> 0.75 y + 1
    _, instances = compose(tiles, (8, 12), centre=(4, 6), scale=0.75)
    assert boxes_of(instances) == [[0, 0, 6, 4], [9, 5.5, 12, 8]]


def test_what_no_tile_covers_is_grey():
    image, _ = compose([tile(0, [], size=(2, 3))] * 4, (8, 12), centre=(4, 6))
    assert image[0, 0, 0] == FILL and image[0, 3, 5] == 0 and (image[0] == 0).sum() == 4 * 2 * 3


def test_boxes_follow_the_pixels():
    """A bright rectangle is where its box says, at a scale that is no round number."""
    size = (48, 64)
    pixels = torch.zeros(1, *size, dtype=torch.uint8)
    pixels[:, 10:34, 20:52] = 255
    one = {**tile(0, [20, 10, 52, 34], size), "image": pixels.expand(3, -1, -1)}
    tiles = [one, tile(0, [], size), tile(0, [], size), tile(0, [], size)]
    image, instances = compose(tiles, size, (40, 58), 1.3, (3.4, -2.2))
    rows, columns = (np.flatnonzero(image[0].numpy().max(axis=axis) > 127) for axis in (1, 0))
    seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert boxes_of(instances)[0] == pytest.approx(seen, abs=0.51)


def test_mixup_has_the_boxes_of_both():
    one, other = (compose([tile(v, [0, 0, 12, 8], classes=[c])] * 4, (8, 12), (8, 12)) for v, c in ((100, 0), (200, 1)))
    image, instances = mixup(one, other, 0.25)
    assert (image == 175).all() and image.stride(0) == 0
    assert boxes_of(instances) == [[0, 0, 12, 8]] * 2 and instances.gt_classes.tolist() == [0, 1]


def test_an_image_of_one_channel_stays_one():
    one, other = ({**tile(v, [0, 0, 12, 8]), "image": torch.full((1, 8, 12), v, dtype=torch.uint8)} for v in (100, 200))
    mosaic = compose([one] * 4, (8, 12), (4, 6))
    assert mosaic[0].shape == (1, 8, 12) and (mosaic[0] == 100).all()
    mixed, _ = mixup(mosaic, compose([other] * 4, (8, 12), (4, 6)), 0.25)
    assert mixed.shape == (1, 8, 12) and (mixed == 175).all()


def test_a_draw_is_always_the_same(tiny_cfg, tiny_dataset):
    ensure_registered("tiny_fold1_train")
    dicts = DatasetCatalog.get("tiny_fold1_train")
    style = MosaicStyle(scale=(0.5, 1.5), shift=0.1, mixup=0.5)
    mapper = MosaicMapper(BBUIMapper(tiny_cfg, is_train=True), style)
    assert style.composed_of == 8

    def mapped(draw):
        return mapper({**dicts[0], "composed_with": dicts[1:8], "draw_seed": [0, draw]})

    first = [mapped(i) for i in range(6)]
    np.random.rand(3)
    again = [mapped(i) for i in range(6)]
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(first, again))
    assert all(boxes_of(a["instances"]) == boxes_of(b["instances"]) for a, b in zip(first, again))
    assert len({tuple(x["image"].float().mean(dim=(0, 2)).tolist()) for x in first}) == 6
    assert all(x["image_id"] == dicts[0]["image_id"] and "composed_with" not in x for x in first)
    for x in first:
        boxes, (height, width) = x["instances"].gt_boxes.tensor, x["image"].shape[1:]
        assert (boxes >= 0).all() and (boxes[:, 2] <= width).all() and (boxes[:, 3] <= height).all()


def test_half_of_the_images_stay_as_they_are(tiny_cfg, tiny_dataset):
    ensure_registered("tiny_fold1_train")
    dicts = DatasetCatalog.get("tiny_fold1_train")
    plain = BBUIMapper(tiny_cfg, is_train=True)
    mapper = MosaicMapper(plain, MosaicStyle(probability=0.5))
    same = 0
    for draw in range(20):
        one = mapper({**dicts[0], "composed_with": dicts[1:4], "draw_seed": [0, draw]})["image"]
        same += torch.equal(one, plain({**dicts[0], "draw_seed": [0, draw]})["image"])
    assert 3 < same < 17
