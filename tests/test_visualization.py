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
