import copy
import shutil

import cv2
import numpy as np
import pytest

from tsdd_d2.data import BBUIError, validate_bbui, validate_splits
from tsdd_d2.data.files import write_json

from .conftest import HEIGHT, WIDTH, image_entry


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
        ([4.0, float("nan"), 10.0, 8.0], "NaN, infinite"),
        ([4.0, 5.0, float("inf"), 8.0], "NaN, infinite"),
        ([10**400, 5.0, 10.0, 8.0], "far too large"),
        ([4.0, 5.0, 10.0], "must be four numbers"),
        ([4.0, 5.0, 10.0, "8"], "must be four numbers"),
        (None, "must be four numbers"),
    ],
)
@pytest.mark.parametrize("key", ["bbox", "manual_bbox"])
def test_a_bad_box_is_a_problem(key, box, words, bbui, root):
    bbui["annotations"][0][key] = box
    (problem,) = problems_of(bbui, root)
    assert problem.startswith(f"annotation 1 (image 1, Images/1.png): '{key}'") and words in problem


@pytest.mark.parametrize(
    "segmentation, words",
    [
        ([[4, 5, 14, 5, 14, 13], [4, 5, 14, 13]], "polygon 2 of 'segmentation' must be the x and y of 3 points"),
        ([[4, 5, 14, 5, 14, 13, 4]], "polygon 1 of 'segmentation'"),
        ([[4, 5, 14, 5, 14, None]], "polygon 1 of 'segmentation'"),
        ([4, 5, 14, 5, 14, 13], "'segmentation' must be a list of polygons"),
    ],
)
def test_a_polygon_that_detectron2_would_drop_is_a_problem(segmentation, words, bbui, root):
    bbui["annotations"][0]["segmentation"] = segmentation
    write_json(root / "all.json", bbui)
    (problem,) = problems_of(root / "all.json", root)
    assert problem.startswith(f"annotation 1 (image 1, Images/1.png): {words}")


COUNTS = "'counts' of 'segmentation' must be a text or a list of integers of 0 or more"


@pytest.mark.parametrize(
    "fields, problems",
    [
        ({"ignore": 1}, ["'ignore' must be 0 or left out, found 1"]),
        ({"segmentation": {"size": [30, 40]}}, [COUNTS]),
        ({"segmentation": {"size": [30, 40], "counts": [600, "600"]}}, [COUNTS]),
        (
            {"segmentation": {"counts": [1200]}},
            ["'size' of 'segmentation' must be two integers [height, width], found None"],
        ),
        (
            {"segmentation": {"size": [30, 40.5], "counts": "PQR"}},
            ["'size' of 'segmentation' must be two integers [height, width], found [30, 40.5]"],
        ),
        ({"keypoints": [4, 5, None]}, ["'keypoints' must be a list of finite numbers, found [4, 5, None]"]),
        ({"area": 10**400}, [f"'area' must be a number above 0, found {10**400}"]),
        ({"keypoints": {"x": 4}}, ["'keypoints' must be a list of finite numbers, found {'x': 4}"]),
    ],
)
def test_what_detectron2s_loader_refuses_is_a_problem(fields, problems, bbui, root):
    bbui["annotations"][0].update(fields)
    assert problems_of(bbui, root) == tuple(f"annotation 1 (image 1, Images/1.png): {problem}" for problem in problems)


@pytest.mark.parametrize("fields", [{"ignore": 0}, {"keypoints": []}, {"keypoints": [4, 5.5, 2]}])
def test_fields_of_coco_that_detectron2_takes(fields, bbui, root):
    bbui["annotations"][0].update(fields)
    assert validate_bbui(bbui, root) == []


@pytest.mark.parametrize(
    "segmentation",
    [
        [[4, 5, 14, 5, 14, 13]],
        {"size": [30, 40], "counts": [1200]},
        {"size": [30, 40], "counts": "PQR"},
        [],
        None,
    ],
)
def test_a_segmentation_that_detectron2_takes(segmentation, bbui, root):
    bbui["annotations"][0]["segmentation"] = segmentation
    assert validate_bbui(bbui, root) == []


def test_a_box_without_an_area_is_one_problem(bbui, root):
    bbui["annotations"][2].update(bbox=[4.0, 5.0, 0.0, 8.0], area=0.0)
    (problem,) = problems_of(bbui, root)
    assert problem.startswith("annotation 3 (image 3, Images/3.png): 'bbox' [4.0, 5.0, 0.0, 8.0] has no area")


def test_a_box_may_touch_the_border_and_exceed_it_by_rounding(bbui, root):
    bbui["annotations"][0]["bbox"] = [0.0, 0.0, WIDTH + 1e-5, HEIGHT]
    validate_bbui(bbui, root)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda b: b["images"][0].pop("patient_id"), "the patient is missing"),
        (lambda b: b["images"][0].update(patient_id=" "), "the patient is missing"),
        (lambda b: b["images"][0].update(patient_id="a "), "'patient_id' must not begin or end with blanks, found 'a '"),
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
        (lambda b: b["annotations"][0].update(roi_score_before="1"), "'roi_score_before' must be a finite number"),
        (lambda b: b["images"][0].update(roi_veto=1), "'roi_veto' must be true or false"),
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
        *[(lambda b, x=x: b.update(info=x), "'info' must be a JSON object") for x in (None, [], "clinic")],
        (lambda b: b["annotations"].append(5), "'annotations' has 1 entries that are no JSON objects"),
        (lambda b: b["images"][1].update(file_name="Images/none.png"), "Images/none.png does not exist"),
        (lambda b: b["images"][1].update(width=41), "has 40x30 pixels, the annotation says 41x30"),
    ],
)
def test_each_problem_is_told(change, words, bbui, root):
    change(bbui)
    (problem,) = problems_of(bbui, root)
    assert words in problem


def test_a_box_that_was_drawn_twice_is_a_problem(bbui, root):
    """Not one that refinement gave two ROIs, nor one on two images."""
    first, refined, locked = bbui["annotations"]
    bbui["annotations"] += [{**refined, "id": 4}, {**locked, "id": 5, "roi_source": "manual", "bbox": [20, 12, 20, 18]}]
    first["bbox"] = [20.0, 12.0, 20.0, 18.0]
    assert problems_of(bbui, root) == (
        "image 3 (Images/3.png): annotations 3, 5 have one 'bbox' [20.0, 12.0, 20.0, 18.0], which would count 2 times in "
        "training",
    )


@pytest.mark.parametrize("size", [0, -3, 40.0, "40", None, pytest.param(10**400, id="huge")])
def test_a_size_that_is_no_size_is_a_problem(size, bbui, root):
    bbui["images"][0]["width"] = size
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


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"images": 3}', '{"images": [], "images": []}', "\xff"])
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


def test_patients_of_other_data_sets_may_have_the_same_id(root, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(root / "Images", other / "Images")
    splits = {
        "train": split_file(root, "train", [image_entry(1, "1", 1)]),
        "test": split_file(other, "test", [image_entry(2, "1", 2)]),
    }
    assert validate_splits(splits) == []
    (root / "link").symlink_to(root)  # the same folder
    splits["val"] = (split_file(root, "val", [image_entry(3, "1", 1)])[0], root / "link")
    with pytest.raises(BBUIError) as error:
        validate_splits(splits)
    assert error.value.problems == ("patient '1' is in more than one split: train, val",)


def test_one_image_file_in_two_splits_is_a_problem(root):
    splits = {
        "train": split_file(root, "train", [image_entry(1, "a", 1)]),
        "val": split_file(root, "val", [image_entry(1, "b", 1)]),
    }
    with pytest.raises(BBUIError) as error:
        validate_splits(splits)
    (problem,) = error.value.problems
    assert "1.png is in more than one split: train, val" in problem
    (root / "Images/link.png").symlink_to("1.png")
    images = [image_entry(1, "a", 1), {**image_entry(1, "b", 1), "id": 2, "file_name": "Images/link.png"}]
    with pytest.raises(BBUIError) as error:
        validate_splits({"train": split_file(root, "train", images)})
    (problem,) = error.value.problems
    assert "1.png is twice in train" in problem


def test_the_same_pixels_in_two_splits_are_a_warning(root):
    """Under two names, and in files that differ, as of data sets that were collected from several places."""
    pixels = cv2.imread(str(root / "Images/1.png"))
    assert cv2.imwrite(str(root / "Images/4.png"), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 0])
    cv2.imwrite(str(root / "Images/5.png"), pixels.reshape(HEIGHT * 2, WIDTH // 2, 3))  # another picture
    halved = image_entry(5, "d", 1, height=HEIGHT * 2, width=WIDTH // 2)
    splits = {
        "train": split_file(root, "train", [image_entry(1, "a", 1), image_entry(2, "b", 2)]),
        "val": split_file(root, "val", [image_entry(3, "c", 1), halved]),
        "test": split_file(root, "test", [image_entry(4, "e", 1)]),
    }
    assert validate_splits(splits) == [
        "test: 1 of its images have the same pixels as images of train, of which it is therefore not independent: "
        "Images/4.png = Images/1.png"
    ]
    assert validate_splits(splits, decode_images=False) == []


def test_the_same_pixels_under_both_classes_are_a_warning(bbui, root):
    shutil.copy(root / "Images/1.png", root / "Images/3.png")
    assert validate_bbui(bbui, root) == [
        "the same pixels have both classes: Images/1.png is benign, Images/3.png is malignant"
    ]


def test_the_same_pixels_under_both_classes_in_two_data_sets_are_two_warnings(root, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(root / "Images", other / "Images")
    splits = {
        "train": split_file(root, "train", [image_entry(i, str(i), 1) for i in range(1, 5)]),
        "test": split_file(other, "test", [image_entry(4, "4", 2), image_entry(5, "5", 2)]),
    }
    assert validate_splits(splits) == [
        "the same pixels have both classes: Images/4.png (train) is benign, Images/4.png (test) is malignant",
        "test: 1 of its images have the same pixels as images of train, of which it is therefore not independent: "
        "Images/4.png = Images/4.png",
    ]


def test_a_copy_of_a_whole_set_does_not_fill_the_screen(root):
    images = [image_entry(i, f"{i}", 1) for i in range(1, 24)]
    for image in images:
        shutil.copy(root / "Images/1.png", root / image["file_name"]) if image["id"] > 1 else None
    splits = {"train": split_file(root, "train", images[:1]), "test": split_file(root, "test", images[1:])}
    (warning,) = validate_splits(splits)
    assert warning.startswith("test: 22 of its") and warning.endswith("Images/21.png = Images/1.png, and 2 more")


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


@pytest.mark.parametrize("character", ["\0", "\ud800", "\udc80"])
def test_text_that_no_path_and_no_file_can_hold_is_a_problem(character, root):
    images = [
        image_entry(1, "a", 1, file_name=f"Images/1{character}.png"),
        image_entry(2, f"a{character}b", 1),
    ]
    with pytest.raises(BBUIError) as error:
        validate_splits({"train": split_file(root, "train", images)})
    first, second = error.value.problems
    assert first.endswith(f"image 1 ({images[0]['file_name']!r}): 'file_name' has a character that no file name can have")
    assert "image 2 (Images/2.png): 'patient_id' has a character that no file can hold" in second
    str(error.value).encode()


def test_validation_leaves_the_content_as_it_was(bbui, root):
    before = copy.deepcopy(bbui)
    validate_bbui(bbui, root)
    assert bbui == before


@pytest.mark.parametrize(
    "box, words",
    [
        ([0.3, 0.3, 0.2, 0.5], "fractions"),
        ([0, 0, 1, 1], "fractions"),
        ([0, 0, WIDTH, HEIGHT], "whole image"),
        ([0, 0, WIDTH, HEIGHT - 1], "whole image"),
    ],
)
def test_rois_of_which_all_are_none_are_a_problem(box, words, bbui, root):
    bbui["annotations"].pop()  # which would be there twice
    for annotation in bbui["annotations"]:
        annotation.update(bbox=list(box), area=box[2] * box[3])
        annotation.pop("roi_source", None)
    (problem,) = problems_of(bbui, root)
    assert words in problem
    bbui["annotations"][0].update(bbox=[4.0, 5.0, 10.0, 8.0])
    warnings = validate_bbui(bbui, root)
    assert [("Images/3.png" in x, "Images/1.png" in x) for x in warnings] == [(True, False)] * (words == "whole image")


@pytest.mark.parametrize("name", ["round_03.json", "edited.json"])
def test_a_round_that_lost_its_sources_is_a_problem(name, bbui, root):
    """Told by the name of the file, or by what the round wrote into `info`; one that replaced nothing has nothing to lose."""
    bbui["info"] = {"round": 3, "statistics": {"replaced_fa": 1, "replaced_pa": 0}} if name == "edited.json" else {}
    write_json(root / name, bbui)
    assert validate_bbui(root / name, root) == []
    del bbui["annotations"][1]["roi_source"], bbui["annotations"][1]["manual_bbox"]
    write_json(root / name, bbui)
    (problem,) = problems_of(root / name, root)
    assert "roi_source" in problem and "--like" in problem
    bbui["info"] = {"round": 3, "statistics": {"replaced_fa": 0, "replaced_pa": 0}}
    write_json(root / name, bbui)
    assert validate_bbui(root / name, root) == []


def test_patients_that_look_alike_are_warned_of(bbui, root):
    bbui["images"][2]["patient_id"] = "A\u200b"
    (warning,) = validate_bbui(bbui, root)
    assert "'a'" in warning and repr("A\u200b") in warning
