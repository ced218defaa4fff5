"""Strong augmentation: what it does to pixels and boxes, by hand; what it may not change."""

import numpy as np
import pytest
import torch

from detectron2.data import transforms as T
from tsdd_d2.data.draws import numpy_seed
from tsdd_d2.data.strong_augmentation import (
    FILL,
    Affine,
    AffineTransform,
    Blur,
    BoxAffine,
    ColourJitter,
    Cutout,
    Erasing,
    Grey,
    OneColourOperation,
    OneOf,
    Shuffled,
    colour_operations,
)


def image(channels=1, value=100):
    return np.full((20, 30, channels), value, dtype=np.uint8)


def augmented(augmentation, pixels, seed=0, boxes=None):
    with numpy_seed([seed]):
        given = T.AugInput(pixels, boxes=boxes)
        transforms = augmentation(given)
    return given, transforms


ALL = [
    ColourJitter(0.4, 0.4, 0.4, 0.1), Grey(), Blur(0.1, 2.0), Erasing((0.05, 0.2), (0.3, 3.3)), Affine(0.1, 30.0, 30.0),
    BoxAffine(0.05, 10.0, 10.0), Cutout((1, 5), 0.2), OneColourOperation(), OneOf(Grey(), Grey()), Shuffled(Grey(), Blur(1, 2)),
]  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("augmentation", ALL, ids=lambda x: type(x).__name__)
def test_shape_and_type_stay_and_the_seed_decides(augmentation, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, channels), dtype=np.uint8)
    before, boxes = pixels.copy(), np.array([[3.0, 4.0, 20.0, 15.0]], dtype=np.float32)
    for seed in range(12):
        found, _ = augmented(augmentation, pixels, seed, boxes)
        again, _ = augmented(augmentation, pixels, seed, boxes)
        assert found.image.shape == pixels.shape and found.image.dtype == np.uint8
        assert np.array_equal(found.image, again.image) and np.array_equal(found.boxes, again.boxes)
    assert np.array_equal(pixels, before)


def test_brightness_contrast_and_what_grey_images_do_not_have():
    found, transforms = augmented(ColourJitter(0.4, 0.0, 0.0, 0.0), image())
    assert 60 <= found.image.min() == found.image.max() <= 140 and found.image[0, 0, 0] != 100
    assert np.array_equal(transforms.apply_coords(np.array([[3.0, 4.0]])), [[3.0, 4.0]])
    grey = np.arange(600, dtype=np.uint8).reshape(20, 30, 1)
    for augmentation in (Grey(), ColourJitter(0.0, 0.0, 0.4, 0.1)):
        assert np.array_equal(augmented(augmentation, grey)[0].image, grey)
    coloured = image(3)
    coloured[..., 0] = 200
    assert (augmented(Grey(), coloured)[0].image.std(axis=2) == 0).all()


def test_erasing_covers_its_share_with_noise():
    black = np.zeros((200, 300, 1), dtype=np.uint8)
    for seed in range(10):
        erased = augmented(Erasing((0.05, 0.2), (0.3, 3.3)), black, seed)[0].image[..., 0]
        rows, columns = (erased.max(axis=i).nonzero()[0] for i in (1, 0))
        h, w = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert 0.048 < h * w / 60000 < 0.205 and 0.28 < h / w < 3.5
        assert 120 < erased[rows[0] : rows[-1], columns[0] : columns[-1]].mean() < 135


def test_affine_transforms_by_hand():
    # by 2 pixels to the right and 1 down
    move = AffineTransform(np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]]))
    pixels = np.arange(600, dtype=np.uint8).reshape(20, 30, 1)
    moved = move.apply_image(pixels)
    assert np.array_equal(moved[1:, 2:], pixels[:-1, :-2]) and (moved[0] == FILL).all() and (moved[:, :2] == FILL).all()
    assert move.apply_box(np.array([[1.0, 2.0, 5.0, 9.0]])).tolist() == [[3.0, 3.0, 7.0, 10.0]]
    # a half turn about the middle
    turn = AffineTransform(np.array([[-1.0, 0.0, 30.0], [0.0, -1.0, 20.0]]))
    assert np.array_equal(turn.apply_image(pixels), pixels[::-1, ::-1])


def test_affine_stays_within_its_limits():
    for seed in range(40):
        _, transform = augmented(Affine(0.1, 30.0, 30.0), image(), seed)
        (ox, oy), (mx, my) = transform.apply_coords(np.array([[0.0, 0.0], [15.0, 10.0]]))
        linear = transform.matrix[:, :2]
        if np.array_equal(linear, np.eye(2)):
            assert abs(ox) <= 3 and abs(oy) <= 2 and min(abs(ox), abs(oy)) == 0
        else:
            assert (mx, my) == pytest.approx((15, 10))  # about the middle
            assert abs(np.degrees(np.arctan2(linear[0, 1], linear[0, 0]))) <= 30
            assert abs(np.degrees(np.arctan2(linear[1, 0], linear[1, 1]))) <= 30


def test_affine_in_a_box_changes_the_pixels_of_one_box_alone():
    pixels = np.random.default_rng(0).integers(0, 100, (40, 60, 1), dtype=np.uint8)
    boxes = np.array([[5.0, 5.0, 20.0, 25.0], [30.0, 10.0, 50.0, 30.0], [90.0, 0.0, 99.0, 9.0]])
    changed = set()
    for seed in range(10):
        found, _ = augmented(BoxAffine(0.05, 10.0, 10.0), pixels, seed, boxes)
        assert np.array_equal(found.boxes, boxes)
        different = (found.image != pixels)[..., 0]
        inside = [different[5:25, 5:20].any(), different[10:30, 30:50].any()]
        different[5:25, 5:20] = different[10:30, 30:50] = False
        assert not different.any() and sum(inside) == 1
        changed.add(inside.index(True))
    assert changed == {0, 1}
    found, _ = augmented(BoxAffine(0.05, 10.0, 10.0), pixels, 0, boxes[2:])
    assert np.array_equal(found.image, pixels)


def test_cutouts_are_squares_of_a_fifth_at_most():
    shares = []
    for seed in range(30):
        found, _ = augmented(Cutout((1, 1), 0.2), np.zeros((200, 300, 1), dtype=np.uint8), seed)
        rows, columns = (x for x in found.image[..., 0].nonzero())
        assert len(rows) == 0 or max(np.ptp(rows), np.ptp(columns)) < 41
        shares.append((found.image > 0).mean())
    assert 0 < max(shares) <= 40 * 40 / 60000


def test_the_colour_operations_by_hand():
    x = torch.tensor([[[0, 50, 100, 200]]], dtype=torch.uint8)
    results = [f(x).flatten().tolist() for f in colour_operations(0.5)]
    identity, autocontrast, _, solarised, colour, contrast, brightness, _, posterised = results
    assert identity == colour == [0, 50, 100, 200] and autocontrast == pytest.approx([0, 64, 127, 255], abs=1)
    assert solarised == [0, 50, 100, 55]  # from 128 on
    assert brightness == contrast == [0, 50, 100, 200]  # 1.8 * 0.5 + 0.1 = 1
    assert posterised == [0, 0, 64, 192]  # 2 bits
    assert colour_operations(0.0)[6](x).flatten().tolist() == [0, 5, 10, 20]
    assert colour_operations(0.9)[8](x).flatten().tolist() == [0, 0, 0, 128]  # 1 bit
