import pytest

from tsdd_d2.data.withheld import visible
from tsdd_d2.method import CLASSES, EVERYTHING, FA_BOXES, FA_BOXES_PA_IMAGES

MANUAL, PSEUDO = {"bbox": [0, 0, 1, 1], "category_id": 1}, {"bbox": [1, 1, 2, 2], "category_id": 0, "roi_source": "pseudo"}
IMAGES = [
    {"image_id": 1, "category_id": 1, "annotations": [MANUAL], "true_bbox": [0, 0, 2, 2]},
    {"image_id": 2, "category_id": 0, "annotations": [], "true_bbox": [0, 0, 2, 2]},
    {"image_id": 3, "category_id": 0, "annotations": [PSEUDO]},
]


@pytest.mark.parametrize(
    "sees, expected",
    [
        (FA_BOXES, [{"image_id": 1, "category_id": 1, "annotations": [MANUAL]}]),
        (
            FA_BOXES_PA_IMAGES,
            [{"image_id": 1, "category_id": 1, "annotations": [MANUAL]}, {"image_id": 2}, {"image_id": 3}],
        ),
        (
            EVERYTHING,
            [
                {"image_id": 1, "category_id": 1, "annotations": [MANUAL]},
                {"image_id": 2, "category_id": 0, "annotations": []},
                {"image_id": 3, "category_id": 0, "annotations": [PSEUDO]},
            ],
        ),
        (CLASSES, [{"image_id": i, "category_id": c} for i, c in ((1, 1), (2, 0), (3, 0))]),
    ],
)
def test_what_a_method_must_not_see_is_not_there(sees, expected):
    assert visible(IMAGES, sees) == expected
    assert "true_bbox" in IMAGES[0]  # of the caller, untouched
