"""Shared by the tests of the annotation format: a small BBUI content and the images it names."""

import cv2
import numpy as np
import pytest

WIDTH, HEIGHT = 40, 30


def image_entry(number, patient, category, **fields):
    entry = {"id": number, "file_name": f"Images/{number}.png", "height": HEIGHT, "width": WIDTH}
    return {**entry, "patient_id": patient, "category_id": category, **fields}


def annotation_entry(number, image, category, bbox, **fields):
    entry = {"id": number, "image_id": image, "category_id": category, "bbox": bbox}
    return {**entry, "area": bbox[2] * bbox[3], "iscrowd": 0, **fields}


@pytest.fixture
def bbui():
    """Three images: 1 with a ROI, 2 partially annotated, 3 with two ROIs."""
    return {
        "info": {},
        "categories": [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}],
        "images": [
            image_entry(1, "a", 1),
            image_entry(2, "a", 1, true_bbox=[1.0, 2.0, 3.0, 4.0]),
            image_entry(3, "b", 2),
        ],
        "annotations": [
            annotation_entry(1, 1, 1, [4.0, 5.0, 10.0, 8.0]),
            annotation_entry(2, 3, 2, [2.0, 2.0, 10.0, 8.0], roi_source="refined", manual_bbox=[1.0, 1.0, 12.0, 9.0]),
            annotation_entry(3, 3, 2, [20.0, 12.0, 20.0, 18.0], locked=True),
        ],
    }


@pytest.fixture
def root(tmp_path):
    (tmp_path / "Images").mkdir()
    for number in range(1, 6):
        cv2.imwrite(str(tmp_path / f"Images/{number}.png"), np.full((HEIGHT, WIDTH), 20 * number, np.uint8))
    return tmp_path
