import numpy as np
import pytest

from tsdd_d2.visualization import draw_boxes

IMAGE = np.full((100, 120, 3), 128, np.uint8)


def height_of_label(kind, box):
    """Rows of the picture that the label changes."""
    without, labelled = (draw_boxes(IMAGE, [(kind, box, label)]) for label in ("", "p=0.50"))
    return np.ptp(np.flatnonzero((without != labelled).any(axis=(1, 2))))


@pytest.mark.parametrize("kind, box", [("ROI", [10, 40, 60, 100]), ("manual", [10, 0, 60, 40])])
def test_the_label_of_a_box_at_the_border_is_whole(kind, box):
    assert height_of_label(kind, box) == pytest.approx(height_of_label(kind, [10, 40, 60, 60]), abs=2)
