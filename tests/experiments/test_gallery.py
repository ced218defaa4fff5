import cv2
import numpy as np
import pytest

from tsdd_d2.errors import InputError
from tsdd_d2.experiments.gallery import Column, choose_images, model_rows, round_rows
from tsdd_d2.visualization import Cell, ComparisonRow, comparison_figure

from .conftest import prediction


def column(malignancies, labels, patients=None, name="m", threshold=0.5):
    patients = patients or [f"p{i}" for i in range(len(labels))]
    entries = zip(malignancies, labels, patients, strict=True)
    return Column(name, threshold, {i: prediction(i, y, x, patient) for i, (x, y, patient) in enumerate(entries, 1)})


def test_both_classes_right_and_wrong_and_where_models_disagree():
    labels = [1] * 6 + [0] * 6
    ours = column([0.9, 0.9, 0.9, 0.1, 0.1, 0.9] + [0.1] * 6, labels)  # images 4 and 5 are wrong
    other = column([0.9, 0.1, 0.9, 0.1, 0.9, 0.9] + [0.1] * 5 + [0.9], labels)  # disagrees on 2, 5, 12
    # malignant: two right ones, 2 first, and a wrong one, 5 first; benign: ours has no wrong one, 12 first
    assert choose_images([other, ours], 6) == [2, 1, 5, 12, 7, 8]
    # of the other model 2 and 4 are wrong, and both agree on 4
    assert choose_images([other, ours], 6, reference=0) == [5, 1, 2, 7, 8, 12]


def test_no_patient_twice_while_there_are_others():
    labels, patients = [1] * 4, ["a", "a", "b", "b"]
    right = column([0.9] * 4, labels, patients)
    assert choose_images([right], 4) == [1, 3]
    assert choose_images([right], 7) == [1, 3, 2, 4]


def test_images_that_a_model_lacks_are_not_chosen():
    first, second = column([0.9] * 3, [1] * 3), column([0.9] * 3, [1] * 3)
    del second.predictions[1]
    assert choose_images([first, second], 6) == [2, 3]
    assert choose_images([first, column([], [])], 6) == []


@pytest.fixture
def tiny(tiny_environment):
    """The test set of the tiny data set, see tests/conftest.py: ids 21 to 28, of patients 10 to 13."""
    return "tiny_fold1_test"


def test_rows_of_models(tiny):
    ours = Column("TSDDNet", 0.5, {21: prediction(21, 0, 0.25), 23: prediction(23, 1, 0.5, box=None)})
    other = Column("other", 0.3, {i: prediction(i, y, 0.25, roi=None) for i, y in ((21, 0), (23, 1))})
    first, second = model_rows([ours, other], [21, 23], tiny)
    assert first.title == "021.png, benign" and first.pixels.shape == (64, 72, 3)
    manual, predicted = ("manual", [12.0, 12.0, 38.0, 40.0]), ("ROI", [10.0, 12.0, 40.0, 44.0])
    assert first.cells == [Cell([manual, predicted], "benign\np(malignant) = 0.25", True)] * 2
    assert second.cells[0] == Cell([manual], "malignant, no box\np(malignant) = 0.50", True)
    assert second.cells[1].right is False


def test_manual_boxes_come_from_the_data_set_where_predictions_have_none(tiny):
    (row,) = model_rows([Column("m", 0.5, {21: prediction(21, 0, 0.25, roi=None)})], [21], tiny)
    assert row.cells[0].boxes[0] == ("manual", [30.0, 20.0, 56.0, 40.0])  # see tiny_bbui


def test_images_that_no_one_diagnosed(tiny):
    with pytest.raises(InputError, match="image 99 in m"):
        model_rows([Column("m", 0.5, {})], [99], tiny)


def test_rows_of_rounds(session_datasets, tiny_environment):
    images = [{"id": i, "file_name": f"images/{i:03d}.png", "category_id": 1 + (i - 1) // 2 % 2} for i in (21, 22, 23, 24)]

    def roi(image_id, x, **fields):
        return {"id": image_id, "image_id": image_id, "bbox": [x, 10, 20, 20], **fields}

    manual = [roi(21, 5), roi(22, 5)]
    refined = roi(22, 9, roi_source="refined", manual_bbox=[5, 10, 20, 20], roi_score=0.75)
    rounds = [
        {"images": images, "annotations": manual},
        {"images": images, "annotations": [manual[0], refined, roi(23, 5, roi_source="pseudo", roi_score=0.5)]},
    ]
    first, second = round_rows(rounds, 2, "tiny_fold1_test")
    # 22 changed and 21 did not; of the images without ROI, 23 got one
    assert (first.title, second.title) == ("022.png, benign", "023.png, malignant")
    assert [x.text for x in (*first.cells, *second.cells)] == ["manual", "refined p=0.75", "no ROI", "pseudo p=0.50"]
    assert first.cells[1].boxes == [("manual", [5, 10, 25, 30]), ("ROI", [9, 10, 29, 30])]
    assert [kind for kind, _ in second.cells[0].boxes] == ["manual"]  # which the run did not see
    assert len(round_rows(rounds, 9, "tiny_fold1_test")) == 4


def test_boxes_are_drawn_where_they_are(tmp_path):
    black = np.zeros((80, 100, 3), np.uint8)
    rows = [ComparisonRow(black, "a.png", [Cell([]), Cell([("ROI", [20, 20, 60, 50])])])]
    figure = comparison_figure(["first", "second"], rows)
    figure.savefig(tmp_path / "grid.png", dpi=100)
    without, with_box = figure.axes[:2]
    (x0, y0), (x1, y1) = with_box.transData.transform([(20, 20), (60, 50)])
    pixels = cv2.imread(str(tmp_path / "grid.png"))[::-1]  # matplotlib counts rows from below
    yellow = (pixels[:, :, 2] > 150) & (pixels[:, :, 0] < 100)
    inside = without.bbox.union([without.bbox, with_box.bbox])
    found_y, found_x = np.nonzero(yellow[int(inside.y0) : int(inside.y1)])
    assert (found_x.min(), found_x.max()) == pytest.approx((x0, x1), abs=3)
    assert (found_y.min() + inside.y0, found_y.max() + inside.y0) == pytest.approx((y1, y0), abs=3)


def test_a_name_with_dollars_is_no_formula(tmp_path):
    rows = [ComparisonRow(np.zeros((8, 8, 3), np.uint8), "a$_$b.png", [Cell([])])]
    comparison_figure(["$x_$"], rows).savefig(tmp_path / "grid.png")
