import copy
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.datasets import load_coco_json
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils.visualizer import Visualizer

from tsdd_d2.data import (
    BBUIError,
    ensure_registered,
    load_bbui_json,
    read_image_sizes,
    register_bbui_instances,
    validate_bbui,
    validate_splits,
)
from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.data.roi import is_fully_annotated

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
            annotation_entry(
                2, 3, 2, [2.0, 2.0, 10.0, 8.0], roi_source="refined", manual_bbox=[1.0, 1.0, 12.0, 9.0]
            ),
            annotation_entry(3, 3, 2, [20.0, 12.0, 20.0, 18.0], locked=True),
        ],
    }


@pytest.fixture
def root(tmp_path):
    (tmp_path / "Images").mkdir()
    for number in range(1, 6):
        cv2.imwrite(str(tmp_path / f"Images/{number}.png"), np.full((HEIGHT, WIDTH), 20 * number, np.uint8))
    return tmp_path


@pytest.fixture
def registered(bbui, root):
    write_json(root / "all.json", bbui)
    register_bbui_instances("test_bbui", root / "all.json", root)
    yield "test_bbui"
    DatasetCatalog.remove("test_bbui")
    MetadataCatalog.remove("test_bbui")


# ----------------------------------------------------------------------------------------- loading


def test_loader_keeps_partially_annotated_images_and_our_fields(bbui, root):
    write_json(root / "all.json", bbui)
    first, second, third = load_bbui_json(root / "all.json", root)
    assert first["annotations"] == [
        {"iscrowd": 0, "bbox": [4.0, 5.0, 10.0, 8.0], "category_id": 0, "bbox_mode": BoxMode.XYWH_ABS}
    ]
    assert second["annotations"] == [] and second["true_bbox"] == [1.0, 2.0, 3.0, 4.0]
    assert [record["patient_id"] for record in (first, second, third)] == ["a", "a", "b"]
    assert [record["category_id"] for record in (first, second, third)] == [0, 0, 1]
    refined, locked = third["annotations"]
    assert refined["roi_source"] == "refined" and refined["manual_bbox"] == [1.0, 1.0, 12.0, 9.0]
    assert locked["locked"] is True and locked["category_id"] == 1
    assert "true_bbox" not in first


def test_refinement_does_not_change_who_is_fully_annotated(bbui, root):
    pseudo = annotation_entry(4, 2, 1, [0.0, 0.0, 5.0, 5.0], roi_source="pseudo", roi_round=1)
    bbui["annotations"].append(pseudo)
    write_json(root / "all.json", bbui)
    records = load_bbui_json(root / "all.json", root)
    assert [is_fully_annotated(record["annotations"]) for record in records] == [True, False, True]


def test_detectron2_drops_partially_annotated_images_unless_told_otherwise(registered):
    assert len(get_detection_dataset_dicts(registered, filter_empty=True)) == 2
    assert len(get_detection_dataset_dicts(registered, filter_empty=False)) == 3


def test_loader_refuses_a_broken_file(bbui, root):
    del bbui["images"][0]["patient_id"]
    write_json(root / "all.json", bbui)
    with pytest.raises(BBUIError, match=r"image 1 \(Images/1.png\): the patient is missing"):
        load_bbui_json(root / "all.json", root)


# ---------------------------------------------------------------------------------- with Detectron2


def test_load_coco_json_reads_the_file(registered):
    metadata = MetadataCatalog.get(registered)
    records = load_coco_json(metadata.json_file, metadata.image_root, registered)
    assert [len(record["annotations"]) for record in records] == [1, 0, 2]
    assert [annotation["category_id"] for annotation in records[2]["annotations"]] == [1, 1]


def test_coco_evaluator_gives_100_to_the_truth(registered, tmp_path):
    records = DatasetCatalog.get(registered)
    output_dir = str(tmp_path / "out")
    evaluator = COCOEvaluator(registered, tasks=("bbox",), distributed=False, output_dir=output_dir)
    evaluator.reset()
    for record in records:
        boxes = [BoxMode.convert(x["bbox"], x["bbox_mode"], BoxMode.XYXY_ABS) for x in record["annotations"]]
        instances = Instances((record["height"], record["width"]))
        instances.pred_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
        classes = [x["category_id"] for x in record["annotations"]]
        instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
        instances.scores = torch.ones(len(boxes))
        evaluator.process([record], [{"instances": instances}])
    results = evaluator.evaluate()["bbox"]
    assert [results[key] for key in ("AP", "AP-benign", "AP-malignant")] == pytest.approx([100] * 3)


def test_visualizer_draws_the_rois(registered):
    blank = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    drawn = []
    for record in DatasetCatalog.get(registered):
        visualizer = Visualizer(blank, MetadataCatalog.get(registered), scale=4)
        drawn.append(visualizer.draw_dataset_dict(record).get_image())
    assert [image.any() for image in drawn] == [True, False, True]


def test_registering_again_points_the_name_at_the_new_file(bbui, root, registered):
    MetadataCatalog.get(registered).thing_colors = [(0, 255, 0), (255, 0, 0)]
    bbui["annotations"] = []
    write_json(root / "round_01.json", bbui)
    register_bbui_instances(registered, root / "round_01.json", root)
    assert sum(len(record["annotations"]) for record in DatasetCatalog.get(registered)) == 0
    metadata = MetadataCatalog.get(registered)
    assert metadata.json_file == str(root / "round_01.json")
    assert metadata.thing_classes == ["benign", "malignant"]
    assert metadata.thing_dataset_id_to_contiguous_id == {1: 0, 2: 1}
    assert metadata.thing_colors == [(0, 255, 0), (255, 0, 0)]


# ------------------------------------------------------------------------------ names by convention


@pytest.mark.parametrize("name", ["phantom_fold1_train", "my_clinic_fold7_val"])
def test_a_name_by_convention_is_found_where_the_variable_points_now(name, bbui, root, monkeypatch):
    dataset, split = name.split("_fold")
    folder = root / "data" / dataset
    write_json(folder / "annotations" / f"fold{split}.json", bbui)
    (folder / "Images").symlink_to(root / "Images")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root / "data"))
    ensure_registered(name)
    assert DatasetCatalog.get(name)[0]["file_name"] == str(folder / "Images/1.png")
    assert MetadataCatalog.get(name).image_root == str(folder)


@pytest.mark.parametrize(
    "name, command",
    [
        ("busbra_fold2_test", "python datasets/prepare_busbra.py"),
        ("clinic_fold2_test", "python datasets/prepare_csv.py --root"),
    ],
)
def test_a_data_set_that_is_not_there_names_path_variable_and_command(name, command, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(BBUIError) as error:
        ensure_registered(name)
    expected = tmp_path / name.split("_")[0] / "annotations" / "fold2_test.json"
    for part in (str(expected), "DETECTRON2_DATASETS", command):
        assert part in str(error.value)
    with pytest.raises(BBUIError, match="does not exist"):
        DatasetCatalog.get(name)


def test_a_name_without_convention_is_refused():
    with pytest.raises(BBUIError, match="'unheard_of' is not registered"):
        ensure_registered("unheard_of")


def test_ensure_registered_leaves_other_registrations_alone(bbui, root, monkeypatch, tmp_path):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "nowhere"))
    write_json(root / "round_01.json", bbui)
    register_bbui_instances("phantom_fold3_train", root / "round_01.json", root)
    try:
        ensure_registered("phantom_fold3_train")
        assert len(DatasetCatalog.get("phantom_fold3_train")) == 3
    finally:
        DatasetCatalog.remove("phantom_fold3_train")
        with pytest.raises(BBUIError):  # by convention again, where nothing is
            ensure_registered("phantom_fold3_train")


def test_import_registers_the_public_data_sets_and_opens_no_data_set():
    script = (
        "import builtins, sys\n"
        "import detectron2.data, tqdm, numpy\n"
        "names = []\n"
        "sys.addaudithook(lambda event, args: names.append(str(args[0])) if event == 'open' else None)\n"
        "import tsdd_d2.data\n"
        "assert not [name for name in names if name.endswith('.json')], names\n"
        "from detectron2.data import DatasetCatalog\n"
        "print(sum(name.startswith(('busbra_', 'busi_', 'phantom_')) for name in DatasetCatalog.list()))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "45"


# --------------------------------------------------------------------------------------- validation


def test_a_good_file_has_no_problems_and_no_warnings(bbui, root):
    write_json(root / "all.json", bbui)
    assert validate_bbui(root / "all.json", root) == []
    assert validate_bbui(bbui, root) == []


def problems_of(bbui, root, **arguments):
    with pytest.raises(BBUIError) as error:
        validate_bbui(bbui, root, **arguments)
    for problem in error.value.problems:
        assert problem in str(error.value)
    return error.value.problems


@pytest.mark.parametrize(
    "box, words",
    [
        ([31.0, 5.0, 10.0, 8.0], "leaves the image of 40x30 pixels"),
        ([-1.0, 5.0, 10.0, 8.0], "leaves the image of 40x30 pixels"),
        ([4.0, 23.0, 10.0, 8.0], "leaves the image of 40x30 pixels"),
        ([4.0, 5.0, 0.0, 8.0], "has no area"),
        ([4.0, 5.0, 10.0, -8.0], "has no area"),
        ([4.0, float("nan"), 10.0, 8.0], "NaN or infinite"),
        ([4.0, 5.0, float("inf"), 8.0], "NaN or infinite"),
        ([4.0, 5.0, 10.0], "must be four numbers"),
        ([4.0, 5.0, 10.0, "8"], "must be four numbers"),
        (None, "must be four numbers"),
    ],
)
@pytest.mark.parametrize("key", ["bbox", "manual_bbox", "true_bbox"])
def test_a_bad_box_is_a_problem(key, box, words, bbui, root):
    bbui["annotations"][0][key] = box
    (problem,) = problems_of(bbui, root)
    assert problem.startswith(f"annotation 1 (image 1): '{key}'") and words in problem


def test_a_box_may_touch_the_border_and_exceed_it_by_rounding(bbui, root):
    bbui["annotations"][0]["bbox"] = [0.0, 0.0, WIDTH + 1e-5, HEIGHT]
    assert validate_bbui(bbui, root) == []


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda b: b["images"][0].pop("patient_id"), "the patient is missing"),
        (lambda b: b["images"][0].update(patient_id=" "), "the patient is missing"),
        (lambda b: b["images"][0].update(patient_id=7), "'patient_id' must be a text"),
        (lambda b: b["images"][1].pop("category_id"), "the class is missing"),
        (lambda b: b["images"][1].update(category_id=3), "unknown class 3"),
        (lambda b: b["annotations"][0].pop("category_id"), "the class is missing"),
        (lambda b: b["annotations"][0].update(category_id=0), "unknown class 0"),
        (lambda b: b["annotations"][0].update(category_id=2), "class 2 is unlike the class 1 of its image"),
        (lambda b: b["annotations"][0].update(image_id=9), "its image is not in 'images'"),
        (lambda b: b["annotations"][0].pop("image_id"), "its image is not in 'images'"),
        (lambda b: b["annotations"][0].pop("bbox"), "'bbox' is missing"),
        (lambda b: b["annotations"][0].pop("area"), "'area' must be"),
        (lambda b: b["annotations"][0].pop("iscrowd"), "'iscrowd' must be 0"),
        (lambda b: b["annotations"][0].update(roi_source="guess"), "'roi_source' must be one of"),
        (lambda b: b["annotations"][1].pop("manual_bbox"), "must keep the manual box"),
        (lambda b: b["annotations"][0].update(roi_round="1"), "'roi_round' must be an integer"),
        (lambda b: b["annotations"][0].update(roi_score=float("nan")), "'roi_score' must be a finite number"),
        (lambda b: b["annotations"][0].update(locked="no"), "'locked' must be true or false"),
        (lambda b: b["annotations"][0].update(id="1"), "'id' is missing or no integer"),
        (lambda b: b["images"][1].pop("file_name"), "'file_name' is missing"),
        (lambda b: b["images"][1].update(true_bbox=[0, 0, 0, 0]), "'true_bbox' [0, 0, 0, 0] has no area"),
        (lambda b: b["annotations"].append(dict(b["annotations"][0])), "annotation id 1 occurs 2 times"),
        (
            lambda b: b["images"].append(image_entry(3, "b", 2, file_name="Images/4.png")),
            "image id 3 occurs 2 times",
        ),
        (
            lambda b: b["images"].append(image_entry(4, "b", 2, file_name="./Images/3.png")),
            "file_name 'Images/3.png' occurs 2 times",
        ),
        (lambda b: b["categories"].pop(), "'categories' must be 1 benign and 2 malignant"),
        (lambda b: b["categories"][0].update(name="cyst"), "'categories' must be 1 benign and 2 malignant"),
        (lambda b: b.pop("annotations"), "the list 'annotations' is missing"),
        (lambda b: b["annotations"].append(5), "'annotations' has 1 entries that are no JSON objects"),
        (lambda b: b["images"][1].update(file_name="Images/none.png"), "Images/none.png does not exist"),
        (lambda b: b["images"][1].update(width=41), "has 40x30 pixels, the annotation says 41x30"),
    ],
)
def test_each_problem_is_told(change, words, bbui, root):
    change(bbui)
    (problem,) = problems_of(bbui, root)
    assert words in problem


@pytest.mark.parametrize("size", [0, -3, 40.0, "40", None])
def test_a_size_that_is_no_size_is_a_problem(size, bbui, root):
    bbui["images"][1]["width"] = size
    assert "'width' must be an integer above 0" in problems_of(bbui, root)[0]


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_an_undecodable_image_is_a_problem(content, bbui, root):
    (root / "Images/2.png").write_bytes(content)
    (problem,) = problems_of(bbui, root)
    assert problem.startswith("image 2 (Images/2.png): the file")
    assert ("cannot be decoded" if content else "is empty") in problem


def test_a_truncated_image_is_a_problem(bbui, root):
    path = root / "Images/2.png"
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH), np.uint8)
    cv2.imwrite(str(path), noise)
    path.write_bytes(path.read_bytes()[:600])
    (problem,) = problems_of(bbui, root)
    assert "cannot be decoded" in problem
    assert validate_bbui(bbui, root, decode_images=False) == []


def test_all_problems_come_at_once(bbui, root):
    (root / "Images/1.png").write_bytes(b"")
    (root / "Images/3.png").unlink()
    del bbui["images"][1]["patient_id"]
    bbui["annotations"][0]["bbox"] = [0.0, 0.0, 41.0, 2.0]
    bbui["annotations"][1]["category_id"] = 5
    assert len(problems_of(bbui, root)) == 5


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"images": 3}', "\xff"])
def test_malformed_json_is_refused(text, root):
    (root / "all.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BBUIError, match="all.json"):
        validate_bbui(root / "all.json", root)


def test_a_file_that_is_not_there_is_named(root):
    with pytest.raises(BBUIError, match="none.json does not exist"):
        validate_bbui(root / "none.json", root)


def test_several_classes_for_one_patient_are_a_warning(bbui, root):
    bbui["images"][2]["patient_id"] = "a"
    assert validate_bbui(bbui, root) == ["patient 'a' has benign and malignant images"]


def split_file(root, name, images, annotations=()):
    content = {"categories": [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}]}
    write_json(root / f"{name}.json", {**content, "images": images, "annotations": list(annotations)})
    return root / f"{name}.json", root


def test_one_patient_in_two_splits_is_a_problem(root):
    splits = {
        "train": split_file(root, "train", [image_entry(1, "a", 1), image_entry(2, "b", 1)]),
        "val": split_file(root, "val", [image_entry(3, "a", 1)]),
        "test": split_file(root, "test", [image_entry(4, "c", 2)]),
    }
    with pytest.raises(BBUIError) as error:
        validate_splits(splits)
    assert error.value.problems == ("patient 'a' is in more than one split: train, val",)


def test_one_image_file_in_two_splits_is_a_problem(root):
    splits = {
        "train": split_file(root, "train", [image_entry(1, "a", 1)]),
        "val": split_file(root, "val", [image_entry(1, "b", 1)]),
    }
    with pytest.raises(BBUIError) as error:
        validate_splits(splits)
    (problem,) = error.value.problems
    assert "1.png is in more than one split: train, val" in problem


def test_splits_tell_the_problems_of_all_files_and_warn_across_them(root):
    good = {
        "train": split_file(root, "train", [image_entry(1, "a", 1), image_entry(2, "a", 2)]),
        "val": split_file(root, "val", [image_entry(3, "b", 1)]),
    }
    assert validate_splits(good) == ["patient 'a' has benign and malignant images"]
    bad = {
        "train": split_file(root, "train", [image_entry(1, "a", 7)]),
        "val": split_file(root, "val", [image_entry(3, "b", 1, width=50)]),
        "test": (root / "none.json", root),
    }
    with pytest.raises(BBUIError) as error:
        validate_splits(bad)
    assert len(error.value.problems) == 3
    assert [problem.split(" ")[0].rstrip(":") for problem in error.value.problems] == ["train", "val", "test"]


def test_sizes_are_height_first_and_all_bad_images_are_named(root):
    assert read_image_sizes(root, ["Images/1.png", "Images/2.png"]) == [(HEIGHT, WIDTH)] * 2
    (root / "Images/2.png").write_bytes(b"")
    with pytest.raises(BBUIError) as error:
        read_image_sizes(root, ["Images/1.png", "Images/2.png", "Images/none.png"])
    assert len(error.value.problems) == 2


# --------------------------------------------------------------------------------------------- files


def test_json_goes_there_and_back_with_one_entry_on_a_line(bbui, tmp_path):
    path = tmp_path / "new" / "all.json"
    write_json(path, bbui)
    assert read_json(path) == bbui == json.loads(path.read_text())
    assert sum('"file_name"' in line for line in path.read_text().splitlines()) == 3
    assert [entry.name for entry in path.parent.iterdir()] == ["all.json"]


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "all.json"
    write_json(path, {"round": 0})
    with pytest.raises(TypeError):
        write_json(path, {"round": object()})

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("tsdd_d2.data.files.os.fsync", fail)
    with pytest.raises(OSError):
        write_json(path, {"round": 1})
    assert read_json(path) == {"round": 0}
    assert [entry.name for entry in tmp_path.iterdir()] == ["all.json"]


def test_validation_leaves_the_content_as_it_was(bbui, root):
    before = copy.deepcopy(bbui)
    validate_bbui(bbui, root)
    assert bbui == before
