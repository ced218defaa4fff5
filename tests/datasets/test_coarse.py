import math

import coarse
import numpy as np
import pytest
from coarse import READERS, SEVERITIES, Severity, coarse_box, coarsen, overlaps, reader_of

from detectron2.data import DatasetCatalog
from tests.conftest import tiny_bbui
from tsdd_d2.data import ensure_registered
from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.data.withheld import visible
from tsdd_d2.method import EVERYTHING

EXACT, SIZE = [40, 30, 20, 10], (100, 200)


@pytest.mark.parametrize(
    "draws, expected",
    [
        # the middle of the logarithms of 1/2 and 2 is that of 1: the exact box
        ([0, 0, 0, 0, 0], [40, 30, 20, 10]),
        # largest and smallest scale, less the room for the elongation: 2 / 1.25 and 1.25 / 2 about the centre (50, 35)
        ([1, 0, 0, 0, 0], [34, 27, 32, 16]),
        ([-1, 0, 0, 0, 0], [43.75, 31.88, 12.5, 6.25]),
        # width times 1.25, height over it
        ([0, 1, 0, 0, -1], [37.5, 31, 25, 8]),
        # a quarter of 20 to the right, of 10 up
        ([0, 0, 1, -1, 0], [45, 27.5, 20, 10]),
    ],
)
def test_scale_elongation_and_shift(draws, expected):
    found = coarse_box(EXACT, SIZE, Severity((0.5, 2.0), 1.25, 0.25), 1.0, draws)
    assert found == pytest.approx(expected, abs=0.011)


def test_a_reader_draws_all_boxes_larger_and_the_image_bounds_them():
    assert coarse_box(EXACT, SIZE, Severity((1.0, 1.0), 1.0, 0.0), 1.3, [0] * 5) == pytest.approx([37, 28.5, 26, 13])
    # 0 to 24 of 200 and 30 to 100 of 100
    assert coarse_box([0, 50, 20, 50], SIZE, Severity((1.0, 1.0), 1.0, 0.0), 1.4, [0] * 5) == [0, 40, 24, 60]


def test_all_boxes_are_within_the_bounds_of_their_severity():
    severity = SEVERITIES["middle"]
    bbui = tiny_bbui(range(100))
    bbui["images"] = [{**x, "width": 1000, "height": 1000} for x in bbui["images"]]
    bbui["annotations"] = [{**x, "bbox": [400, 300, 200, 100]} for x in bbui["annotations"]]
    boxes = np.array([x["bbox"] for x in coarsen(bbui, severity)["annotations"]])
    factors = boxes[:, 2:] / [200, 100]
    assert factors.min() >= 0.7 - 1e-3 and factors.max() <= 1.8 + 1e-3
    assert factors.min() < 0.8 and factors.max() > 1.6  # and they fill them
    shifts = (boxes[:, :2] + boxes[:, 2:] / 2 - [500, 350]) / [200, 100]
    assert 0.14 < np.abs(shifts).max() <= 0.15 + 1e-3


def test_the_box_of_an_image_is_the_same_in_every_file_and_another_with_another_seed():
    whole, part = tiny_bbui(range(6)), tiny_bbui(range(2, 4))
    box_of = {x["id"]: x["bbox"] for x in coarsen(whole, SEVERITIES["strong"], READERS["two"], 3)["annotations"]}
    of_part = coarsen(part, SEVERITIES["strong"], READERS["two"], 3)["annotations"]
    assert [x["bbox"] for x in of_part] == [box_of[x["id"]] for x in of_part]
    other = coarsen(part, SEVERITIES["strong"], READERS["two"], 4)["annotations"]
    assert all(a["bbox"] != b["bbox"] for a, b in zip(of_part, other))


def test_two_readers_divide_the_patients():
    readers = [reader_of(f"p{i}", 2, 0) for i in range(400)]
    assert set(readers) == {0, 1} and 150 < sum(readers) < 250
    bbui = tiny_bbui(range(30))
    exact = Severity((1.0, 1.0), 1.0, 0.0)
    for image, annotation in zip(bbui["images"], coarsen(bbui, exact, (0.5, 0.25), 0)["annotations"]):
        factor = (0.5, 0.25)[reader_of(image["patient_id"], 2, 0)]
        width = next(x["bbox"][2] for x in bbui["annotations"] if x["image_id"] == image["id"])
        assert annotation["bbox"][2] == pytest.approx(width * factor)


def test_the_iou_with_the_exact_box():
    bbui = tiny_bbui(range(1))
    found = coarsen(bbui, Severity((2.0, 2.0), 1.0, 0.0), (0.5 * math.sqrt(0.5),))  # half of the area, inside
    assert list(overlaps(found).values()) == pytest.approx([0.5, 0.5], abs=1e-3)


def test_a_true_box_that_is_known_is_what_the_coarse_one_is_made_of():
    bbui = tiny_bbui(range(1))
    bbui["images"][0]["true_bbox"] = [30, 30, 10, 10]
    found = coarsen(bbui, Severity((1.0, 1.0), 1.0, 0.0))
    assert found["annotations"][0]["bbox"] == [30, 30, 10, 10]
    assert "true_bbox" not in bbui["images"][1]  # not modified


def test_of_several_rois_each_is_coarse_and_none_is_the_true_one():
    bbui = tiny_bbui(range(1))
    bbui["annotations"].append(
        {**bbui["annotations"][0], "id": 9, "bbox": [1, 2, 10, 10], "segmentation": [[1, 2, 3, 4, 5, 6]]}
    )
    found = coarsen(bbui, SEVERITIES["middle"])
    assert "true_bbox" not in found["images"][0] and "true_bbox" in found["images"][1]
    assert found["annotations"][2]["bbox"] != [1, 2, 10, 10] and "segmentation" not in found["annotations"][2]


@pytest.fixture
def exact(tmp_path, monkeypatch):
    """A prepared data set with one split."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    (tmp_path / "exact" / "images").mkdir(parents=True)
    (tmp_path / "exact" / "images" / "001.png").write_bytes(b"an image")
    write_json(tmp_path / "exact" / "annotations" / "fold1_train.json", tiny_bbui(range(4)))
    return tmp_path


def test_the_command_makes_a_data_set_of_which_training_sees_the_coarse_boxes_alone(exact, capsys):
    assert coarse.main(["--data", "exact", "--seed", "1"]) == 0
    assert "8" in capsys.readouterr().out.splitlines()[2].split()  # images in the table of IoUs
    assert (exact / "exact_coarse" / "images" / "001.png").read_bytes() == b"an image"
    name = "exact_coarse_fold1_train"
    ensure_registered(name)
    expected = coarsen(tiny_bbui(range(4)), SEVERITIES["middle"], seed=1)
    for seen, image, annotation in zip(
        visible(DatasetCatalog.get(name), EVERYTHING), expected["images"], expected["annotations"]
    ):
        assert "true_bbox" in image and "true_bbox" not in seen
        assert [x["bbox"] for x in seen["annotations"]] == [annotation["bbox"]]
    # the same command gives the same bytes
    written = (exact / "exact_coarse" / "annotations" / "fold1_train.json").read_bytes()
    assert coarse.main(["--data", "exact", "--seed", "1"]) == 0
    assert (exact / "exact_coarse" / "annotations" / "fold1_train.json").read_bytes() == written
    assert read_json(exact / "exact" / "annotations" / "fold1_train.json") == tiny_bbui(range(4))
    # of a data set that was prepared anew with other folds, the folds before go
    (exact / "exact" / "annotations" / "fold1_train.json").rename(exact / "exact" / "annotations" / "fold2_train.json")
    assert coarse.main(["--data", "exact", "--seed", "1"]) == 0
    assert not list((exact / "exact_coarse" / "annotations").glob("fold1_*"))
    assert (exact / "exact_coarse" / "annotations" / "fold2_train.json").read_bytes() == written


def test_what_stands_in_the_way_is_named_and_nothing_is_written(exact, capsys):
    assert coarse.main(["--data", "missing"]) == 2
    assert "missing" in capsys.readouterr().err
    assert coarse.main(["--data", "exact", "--name", "exact"]) == 2
    (exact / "prepared" / "annotations").mkdir(parents=True)  # with images of other names
    foreign = exact / "prepared" / "annotations" / "fold1_train.json"
    write_json(foreign, tiny_bbui(range(2)))
    assert coarse.main(["--data", "exact", "--name", "prepared"]) == 2
    assert str(foreign) in capsys.readouterr().err and len(read_json(foreign)["images"]) == 4
    assert not (exact / "prepared" / "images").exists()
    (exact / "other" / "images").mkdir(parents=True)
    assert coarse.main(["--data", "exact", "--name", "other"]) == 2
    assert str(exact / "other" / "images") in capsys.readouterr().err
    assert not (exact / "other" / "annotations").exists()
