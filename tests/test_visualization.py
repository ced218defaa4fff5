import numpy as np
import pytest

from tsdd_d2.visualization import draw_boxes

IMAGE = np.full((100, 120, 3), 128, np.uint8)


def extent_of_label(kind, box):
    """Height and width in the picture of what the label changes."""
    without, labelled = (draw_boxes(IMAGE, [(kind, box, label)]) for label in ("", "p=0.50"))
    return [np.ptp(x) for x in np.nonzero((without != labelled).any(axis=2))]


@pytest.mark.parametrize(
    "kind, box",
    [
        ("ROI", [10, 40, 60, 100]),
        ("ROI", [100, 40, 120, 60]),
        ("manual", [10, 0, 60, 40]),
        ("manual", [100, 90, 120, 100]),
    ],
)
def test_the_label_of_a_box_at_the_border_is_whole(kind, box):
    assert extent_of_label(kind, box) == pytest.approx(extent_of_label(kind, [10, 40, 60, 60]), abs=2)


@pytest.mark.parametrize(
    "shape, expected",
    [((100, 120), (480, 576)), ((20, 1500), (26, 1920)), ((800, 600), (800, 600)), ((1000, 3840), (500, 1920))],
)
def test_pictures_are_readable_and_never_huge(shape, expected):
    picture = draw_boxes(np.full((*shape, 3), 128, np.uint8), [("ROI", [5, 5, 15, 15], "")])
    assert picture.shape[:2] == pytest.approx(expected, abs=1) and picture.shape[2] == 3
    # the box where the image has it
    yellow = np.nonzero((picture[..., 0] > 150) & (picture[..., 2] < 100))
    scale = picture.shape[1] / shape[1]
    assert np.median(yellow[1]) == pytest.approx(10 * scale, abs=7 * scale + 2)
