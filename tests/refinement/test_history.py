import pytest

from tsdd_d2.data import ensure_registered
from tsdd_d2.data.files import read_json
from tsdd_d2.errors import InputError
from tsdd_d2.refinement import complete_annotation, round_history


def test_pseudo_rois_against_the_boxes_that_p_withheld():
    """Image 1 keeps its ROI; image 2 gets half of its box as pseudo ROI, image 3 a box beside the nearer of two."""
    images = [{"id": 1}, {"id": 2}, {"id": 3}]
    manual = {"id": 1, "image_id": 1, "bbox": [0, 0, 4, 4]}
    withheld = [
        {"id": 2, "image_id": 2, "bbox": [0, 0, 10, 10]},
        {"id": 3, "image_id": 3, "bbox": [0, 0, 10, 10]},
        {"id": 4, "image_id": 3, "bbox": [20, 0, 10, 10]},
    ]
    pseudo = [
        {"id": 2, "image_id": 2, "bbox": [0, 0, 10, 5], "roi_source": "pseudo"},
        {"id": 3, "image_id": 3, "bbox": [25, 0, 10, 10], "roi_source": "pseudo"},
    ]
    earlier = {"id": 5, "image_id": 3, "bbox": [25, 0, 10, 10], "roi_source": "pseudo"}  # in the complete file: no truth
    rounds = [
        {"images": images, "annotations": [manual]},
        {"images": images, "annotations": [manual, *pseudo], "info": {"round": 1, "statistics": {}}},
    ]
    start, first = round_history(rounds, {"images": images, "annotations": [manual, *withheld, earlier]})
    assert start == {"round": 0}
    # 50 / 100 and 50 / 150
    assert first == {"round": 1, "iou_with_withheld_pa": pytest.approx((1 / 2 + 1 / 3) / 2)}
    assert round_history(rounds)[1] == {"round": 1}


def test_a_run_is_not_set_beside_other_images(tiny_dataset):
    """As after the data set was prepared anew, from rows in another order."""
    ensure_registered("tiny_fold1_train")
    images = read_json(tiny_dataset / "annotations" / "fold1_train.json")["images"]
    assert complete_annotation("tiny_fold1_train", images)["images"] == images
    names = [x["file_name"] for x in images]
    for others in ([{**x, "file_name": y} for x, y in zip(images, names[::-1])], [{**images[0], "id": 999}]):
        with pytest.raises(InputError, match=r"fold1_train\.json.*image \d+"):
            complete_annotation("tiny_fold1_train", others)
