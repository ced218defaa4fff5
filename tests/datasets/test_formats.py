"""The formats of annotation tools, masks and DICOM, what they lack, and the way back from a tool."""

import json
import os
import re
import shlex
import shutil
from urllib.parse import quote

import cv2
import numpy as np
import pydicom
import pytest
import supervision
from annotation_tools import FileFinder
from assembly import ClassNames
from csv_table import Table
from mask_folders import walk
from PIL import Image
from pydicom.data import get_testdata_file

from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.errors import InputError

from .test_prepare import all_images, assert_folds_are_valid, prepare, read_fold, refuse, run, write_image

FOLDS = ("--folds", 2)
# (number, class, XYWH box or None) of the images of 12 patients
IMAGES = [(i, "malignant" if i % 2 else "benign", None if i == 5 else (i, 2, 10 + i, 8)) for i in range(12)]


def name_of(number):
    return f"images/p{number:02d}_a.png"


@pytest.fixture
def root(tmp_path):
    """A folder `mine` with 12 images of 40x30 pixels, and a table of patients and classes."""
    root = tmp_path / "mine"
    for number, *_ in IMAGES:
        write_image(root / name_of(number))
    rows = [f"p{number:02d}_a.png,P{number},{name}" for number, name, _ in IMAGES]
    (tmp_path / "patients.csv").write_text("\n".join(["file_name,Patient_ID,Class", *rows]) + "\n")
    return root


@pytest.fixture
def table(tmp_path):
    return "--table", tmp_path / "patients.csv"


def coco(names=("benign", "malignant")):
    """As a tool exports it: neither patients nor classes of images, ids from 0 on; `names` of categories 0 benign, 1 malignant."""
    return {
        "info": {},
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "images": [{"id": i, "file_name": name_of(i), "width": 40, "height": 30} for i, *_ in IMAGES],
        "annotations": [
            {"id": i, "image_id": i, "category_id": int(name == "malignant"), "bbox": list(box), "area": 1.0, "iscrowd": 0}
            for i, name, box in IMAGES
            if box
        ],
    }


def assert_is_all(output, root):
    images = all_images(output)
    assert_folds_are_valid(output, root, (1, 2))
    assert len(images) == len(IMAGES)
    for number, name, box in IMAGES:
        image = images[name_of(number)]
        assert (image["patient_id"], image["category_id"]) == (f"P{number}", 1 + (name == "malignant"))
        assert image["boxes"] == ([pytest.approx(list(box), abs=0.01)] if box else [])


def test_coco(root, table, tmp_path):
    content = coco()
    content["images"][3]["file_name"] = "1234abcd-p03_a.png"  # as Label Studio renames it
    write_json(tmp_path / "export.json", content)
    printed = prepare("coco", tmp_path / "export.json", "--root", root, *table, *FOLDS)
    assert_is_all(root / "annotations", root)
    ids = [annotation["id"] for fold in read_fold(root / "annotations").values() for annotation in fold["annotations"]]
    assert min(ids) == 1
    for line in (
        "1 images were found by the end of their names",
        "Class: 12 images from the table",
        "1 images have no box",
    ):
        assert line in printed


def test_coco_in_several_files_each_beside_its_images(root, table, tmp_path):
    """As Roboflow exports train/, valid/ and test/."""
    whole, paths = coco(), []
    for part, start in (("train", 0), ("valid", 8)):
        of_part = [x["id"] for x in whole["images"]][start : start + 8]
        images = [{**whole["images"][i], "file_name": f"p{i:02d}_a.png"} for i in of_part]
        (root / part).mkdir()
        for image in images:
            os.rename(root / "images" / image["file_name"], root / part / image["file_name"])
        annotations = [x for x in whole["annotations"] if x["image_id"] in of_part]
        paths.append(root / part / "_annotations.coco.json")
        write_json(paths[-1], {**whole, "images": images, "annotations": annotations})
    write_image(root / "masks" / "p03_a.png")  # of the same name, elsewhere
    prepare("coco", *paths, "--root", root, *table, *FOLDS)
    found = all_images(root / "annotations")
    assert {name: image["boxes"] for name, image in found.items()} == {
        f"{'train' if number < 8 else 'valid'}/p{number:02d}_a.png": [list(map(float, box))] if box else []
        for number, _, box in IMAGES
    }
    message = refuse("coco", tmp_path / "out", paths[0], paths[0], "--root", root, *table)
    assert "train/_annotations.coco.json: image 0" in message and "twice" in message


def test_coco_refuses_turned_boxes(root, table, tmp_path):
    content = coco()
    for annotation, rotation in zip(content["annotations"], (45.0, 0.0, None)):
        annotation["attributes"] = {"rotation": rotation, "occluded": False}
    write_json(tmp_path / "export.json", content)
    message = refuse("coco", tmp_path / "out", tmp_path / "export.json", "--root", root, *table)
    assert "annotation 0 of image 0 (images/p00_a.png)" in message and message.count("rotation") == 1


def test_coco_refuses_a_category_with_two_names(root, table, tmp_path):
    content = coco()
    content["categories"].append({**content["categories"][0], "name": "cyst"})
    write_json(tmp_path / "export.json", content)
    message = refuse("coco", tmp_path / "out", tmp_path / "export.json", "--root", root, *table)
    assert "export.json" in message and "cyst" in message


def write_labels(folder):
    folder.mkdir(exist_ok=True)
    for number, name, box in IMAGES:
        if box:
            x, y, width, height = box
            centre = f"{(x + width / 2) / 40:.6f} {(y + height / 2) / 30:.6f} {width / 40:.6f} {height / 30:.6f}"
            (folder / f"p{number:02d}_a.txt").write_text(f"{int(name == 'malignant')} {centre}\n")


def test_yolo(root, table):
    """The label of an image may be missing; its names may stand in data.yaml or classes.txt."""
    write_labels(root / "labels")
    (root / "data.yaml").write_text("names: {0: Benign, 1: Malignant}\n")
    prepare("yolo", "--root", root, *table, *FOLDS)
    assert_is_all(root / "annotations", root)
    before = all_images(root / "annotations")
    (root / "data.yaml").unlink()
    for folder in (".", "labels"):
        (root / folder / "classes.txt").write_text("benign\nmalignant\n")
        prepare("yolo", "--root", root, *table, *FOLDS)
        assert all_images(root / "annotations") == before
        (root / folder / "classes.txt").unlink()


@pytest.mark.parametrize("spelling", [".", "./", "../mine", "sub/.."])
def test_yolo_with_any_spelling_of_the_root(spelling, root, table, monkeypatch):
    write_labels(root / "images")
    (root / "sub").mkdir()
    (root / "classes.txt").write_text("benign\nmalignant\n")
    monkeypatch.chdir(root)
    prepare("yolo", "--root", spelling, *table, *FOLDS)
    assert_is_all(root / "annotations", root)


@pytest.mark.parametrize(
    "line",
    [
        "0 0.5 0.5 0.2 0.2 0.9", "0 0.5 0.5 0.2 0.2 0.9 1", "0 0.4 0.4 0.6 0.4 0.6 0.6 0.4 0.6 0.5", "0 20 15 8 6",
        "2 0.5 0.5 0.2 0.2", "benign 0.5 0.5 0.2 0.2", "0 0.5 0.5",
    ],
)  # fmt: skip
def test_yolo_refuses_labels_of_another_kind(line, root, table, tmp_path):
    """Predictions with a score and with a track, half a point, pixels, classes without name, words."""
    (root / "labels").mkdir()
    (root / "labels/p03_a.txt").write_text(f"{line}\n")
    (root / "classes.txt").write_text("benign\nmalignant\n")
    assert "labels/p03_a.txt" in refuse("yolo", tmp_path / "out", "--root", root, *table)


@pytest.mark.parametrize("name", ["data.yaml", "classes.txt", "images/p03_a.png"])
def test_yolo_names_a_damaged_file(name, root, table, tmp_path):
    (root / "labels").mkdir()
    (root / "labels/p03_a.txt").write_text("1 0.5 0.5 0.2 0.2\n")
    (root / "classes.txt").write_bytes(b"\xef\xbb\xbfbenign\r\nmalignant\r\n")  # as an editor may save it
    prepare("yolo", "--root", root, *table, *FOLDS)
    (root / name).write_bytes({"data.yaml": b"names: {0: benign, other: malignant}"}.get(name, b"benign\nb\xf6s\n"))
    assert name in refuse("yolo", tmp_path / "out", "--root", root, *table)


@pytest.mark.parametrize("name", ["labels/q.txt", "labels/p03_a.TXT", "images/q.txt", "images/p03_a.TXT", "q.txt"])
def test_yolo_names_a_label_without_image(name, root, table, tmp_path):
    """Other text is none, but below labels/."""
    (root / "labels").mkdir()
    (root / "images/notes.txt").write_text("the left breast\n")
    (root / "classes.txt").write_text("benign\nmalignant\n")
    prepare("yolo", "--root", root, *table, *FOLDS)
    (root / name).write_text("0 0.5 0.5 0.2 0.2\n")
    assert name in refuse("yolo", tmp_path / "out", "--root", root, *table)


@pytest.mark.parametrize("one_based", [False, True])
def test_voc(one_based, root, table):
    """The box of 3 pixels from the second pixel on is 1 to 4 as edges, and 2 to 4 as pixels that count from 1."""
    (root / "xml").mkdir()
    for number, name, box in IMAGES:
        if box:
            x, y, width, height = box
            corners = (x + one_based, y + one_based, x + width, y + height)
            tags = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners))
            (root / f"xml/p{number:02d}_a.xml").write_text(
                f"<annotation><filename>p{number:02d}_a.png</filename>"
                f"<object><name>{name}</name><bndbox>{tags}</bndbox></object></annotation>"
            )
    prepare("voc", "--root", root, *table, *FOLDS, *["--one-based"] * one_based)
    assert_is_all(root / "annotations", root)


def voc(name, corners=(3, 2, 16, 10), attributes="", label="benign"):
    tags = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners))
    thing = f"<object><name>{label}</name>{attributes}<bndbox>{tags}</bndbox></object>"
    return f"<annotation><filename>{name}</filename>{thing}</annotation>"


def test_voc_takes_the_image_beside_the_file(tmp_path):
    """Here all images are called IM1.png."""
    root = tmp_path / "mine"
    for i in range(8):
        write_image(root / f"p{i}/IM1.png")
        (root / f"p{i}/IM1.xml").write_text(
            voc("IM1" if i == 7 else "IM1.png", (i, 2, 16, 10), label=("benign", "malignant")[i % 2])
        )
    write_image(root / "IM1.png")
    (root / "IM1.xml").write_text(voc("IM1.png", (9, 2, 16, 10)))
    prepare("voc", "--root", root, "--patient", "(.+)", *FOLDS)
    boxes = {name: image["boxes"] for name, image in all_images(root / "annotations").items()}
    expected = {f"p{i}/IM1.png": [[i, 2, 16 - i, 8]] for i in range(8)}
    assert boxes == {**expected, "IM1.png": [[9, 2, 7, 8]]}


def test_voc_refuses_turned_boxes(root, table, tmp_path):
    for number, rotation in enumerate(("45.0", "0.0")):
        attributes = f"<attributes><attribute><name>rotation</name><value>{rotation}</value></attribute></attributes>"
        (root / f"images/p{number:02d}_a.xml").write_text(voc(f"p{number:02d}_a.png", attributes=attributes))
    message = refuse("voc", tmp_path / "out", "--root", root, *table)
    assert "images/p00_a.xml: <object> 'benign'" in message and message.count("rotation") == 1


def test_linked_folders_are_followed(root, table, tmp_path):
    """Each folder once, though a link leads back to the root."""
    linked = tmp_path / "linked"
    linked.mkdir()
    (root / "images/loop").symlink_to(linked)
    for folder in ("images", "labels"):
        (linked / folder).symlink_to(root / folder)
    write_labels(root / "labels")
    write_json(tmp_path / "export.json", coco())
    (linked / "classes.txt").write_text("benign\nmalignant\n")
    for command in (("yolo",), ("coco", tmp_path / "export.json")):
        prepare(*command, "--root", linked, *table, *FOLDS)
        assert_is_all(linked / "annotations", linked)
    assert walk(str(linked)) == [
        (str(linked), ["classes.txt"]),
        (str(linked / "annotations"), sorted(os.listdir(linked / "annotations"))),
        (str(linked / "images"), [f"p{i:02d}_a.png" for i in range(12)]),
        (str(linked / "labels"), sorted(os.listdir(root / "labels"))),
    ]


def test_boxes_of_a_copy_of_another_size_are_refused(root, table, tmp_path):
    """A size of 0 is none, as a tool writes that did not look."""
    content = coco()
    content["images"][2]["width"] = content["images"][2]["height"] = 0
    write_json(tmp_path / "export.json", content)
    prepare("coco", tmp_path / "export.json", "--root", root, *table, *FOLDS)
    content["images"][3].update(width=80, height=60)
    write_json(tmp_path / "export.json", content)
    assert name_of(3) in refuse("coco", tmp_path / "out", tmp_path / "export.json", "--root", root, *table)
    corners = "<xmin>3</xmin><ymin>2</ymin><xmax>16</xmax><ymax>10</ymax>"
    (root / "a.xml").write_text(
        "<annotation><filename>p03_a.png</filename><size><width>80</width><height>60</height></size>"
        f"<object><name>malignant</name><bndbox>{corners}</bndbox></object></annotation>"
    )
    assert name_of(3) in refuse("voc", tmp_path / "out", "--root", root, *table)


def test_voc_names_a_broken_file(root, table, tmp_path):
    (root / "a.xml").write_text("<annotation><filename>p03_a.png</filename><object></object></annotation>")
    (root / "b.xml").write_text('<!DOCTYPE x [<!ENTITY e "e">]><annotation>&e;</annotation>')
    message = refuse("voc", tmp_path / "out", "--root", root, *table)
    assert "a.xml" in message and "b.xml" in message


def write_masks(root):
    for number, _, box in IMAGES:
        if box:
            write_image(root / f"masks/p{number:02d}_a_mask.png", value=0, box=box)


def test_masks(root, table):
    write_masks(root)
    shutil.copy(root / "masks/p03_a_mask.png", root / "masks/p03_a_mask_1.png")  # would count twice
    assert "p03_a_mask_1.png" in prepare("masks", "--root", root, *table, *FOLDS)
    assert_is_all(root / "annotations", root)


def test_masks_below_class_folders_with_a_pattern_for_the_patient(root, tmp_path):
    for number, name, box in IMAGES:
        folder = root / "by_class" / ("Cyst" if name == "benign" else "malignant")
        write_image(folder / f"p{number:02d}_a.png")
        if box:
            write_image(folder / f"p{number:02d}_a_mask.png", value=0, box=box)
    options = "--images", "by_class", "--masks", "by_class", "--class", "benign=cyst,fibroadenoma", "--patient", r"p(\d+)_"
    printed = prepare("masks", "--root", root, *options, *FOLDS, "--output", tmp_path / "out")
    images = all_images(tmp_path / "out")
    assert images["by_class/Cyst/p04_a.png"]["patient_id"] == "04" and images["by_class/Cyst/p04_a.png"]["category_id"] == 1
    assert "12 images from their folder" in printed and "'Cyst' is benign (6)" in printed


@pytest.mark.parametrize("class_name", ["Normal", "normal tissue"])
def test_images_of_an_ignored_class_are_left_out(class_name, root, tmp_path):
    """Normal tissue, as BUS-UCLM and BrEaST have it: without a patient too."""
    rows = [f"{name_of(number)},{name}" for number, name, _ in IMAGES]
    path = tmp_path / "classes.csv"
    path.write_text("\n".join(["file_name,class", *rows, f"normal.png,{class_name}"]) + "\n")
    write_image(root / "images/normal.png")
    write_masks(root)
    options = "masks", "--root", root, "--table", path, "--patient", r"p(\d+)_"
    assert f"--class {shlex.quote(f'ignore={class_name}')} leaves" in refuse(options[0], tmp_path / "out", *options[1:])
    printed = prepare(*options, "--class", f"ignore={class_name}", *FOLDS)
    assert "1 images are left out by their class: images/normal.png" in printed
    assert set(all_images(root / "annotations")) == {name_of(number) for number, *_ in IMAGES}


def test_a_class_whose_name_has_a_comma(root, tmp_path):
    """The advice names the option that maps it."""
    rows = [f'{name_of(i)},P{i},"{name if name == "benign" else "carcinoma,  NST"}"' for i, name, _ in IMAGES]
    (tmp_path / "mine.csv").write_text("\n".join(["file_name,patient_id,class", *rows]) + "\n")
    words = shlex.split(refuse("csv", tmp_path / "out", tmp_path / "mine.csv", "--root", root).partition("benign or ")[2])
    mapping = next(x for x in words if x.startswith("malignant="))
    prepare("csv", tmp_path / "mine.csv", "--root", root, "--class", mapping, *FOLDS)
    assert {image["category_id"] for image in all_images(root / "annotations").values()} == {1, 2}


def test_the_names_of_a_class_are_a_row_of_a_csv_file():
    classes = ClassNames(['malignant="carcinoma, NST", sarcoma', "benign=Cyst,adenoma"])
    names = ("Carcinoma, NST", "sarcoma", "cyst", "adenoma", "carcinoma", "NST")
    assert [classes(name) for name in names] == ["malignant", "malignant", "benign", "benign", None, None]
    for mapping in ('benign="cyst', "benign=cyst,", "benign="):
        with pytest.raises(InputError, match="double quotes"):
            ClassNames([mapping])


def test_boxes_of_a_table_that_are_not_used_are_told(root, table, tmp_path):
    write_json(tmp_path / "export.json", coco())
    options = "coco", tmp_path / "export.json", "--root", root, *table, *FOLDS
    assert "not used" not in prepare(*options)
    header, *rows = table[1].read_text().splitlines()
    table[1].write_text("\n".join([f"{header},x,y,w,h", *(f"{row},1,2,3,4" for row in rows)]) + "\n")
    assert f"The boxes in {table[1]} are not used" in prepare(*options)


def test_an_image_whose_boxes_are_all_ignored_has_no_class_to_need(root, tmp_path):
    content = coco(("benign", "malignant"))
    content["categories"].append({"id": 7, "name": "Normal"})
    content["annotations"][0]["category_id"] = 7
    write_json(tmp_path / "export.json", content)
    options = "coco", tmp_path / "export.json", "--root", root, "--patient", r"p(\d+)_", "--class", "ignore=normal", *FOLDS
    code, printed, error = run(*options)
    assert code == 2 and name_of(5) in error and name_of(0) not in error  # the one without a box
    os.remove(root / name_of(5))
    content["images"].pop(5)
    write_json(tmp_path / "export.json", content)
    assert f"1 images are left out by their class: {name_of(0)}" in prepare(*options)


def test_masks_by_patterns_of_names(root, table):
    """As in BrEaST and BUID: other files lie beside images and masks."""
    for number, _, box in IMAGES:
        os.rename(root / name_of(number), root / f"images/p{number:02d}_a Image.png")
        if box:
            write_image(root / f"images/p{number:02d}_a Mask.png", value=0, box=box)
    write_image(root / "images/p03_a Lesion.png", value=7)
    write_image(root / "images/preview/p03_a Lesion.png", value=7)
    beside = "--images", "images", "--masks", "images", "--patient", r"p(\d+)_", "--class", "benign=a", *FOLDS
    rows = [f"p{number:02d}_a Image.png,{name}" for number, name, _ in IMAGES]
    (root / "classes.csv").write_text("\n".join(["file_name,class", *rows]) + "\n")
    patterns = "--image-name", "(.+) Image", "--mask-name", "(.+) Mask"
    printed = prepare("masks", "--root", root, "--table", root / "classes.csv", *beside, *patterns)
    assert "2 files are called neither as images nor as masks and are left out: p03_a Lesion" in printed
    boxes = {name: image["boxes"] for name, image in all_images(root / "annotations").items()}
    assert boxes == {
        f"images/p{number:02d}_a Image.png": [list(map(float, box))] if box else [] for number, _, box in IMAGES
    }


def test_masks_that_are_called_otherwise_tell_how(root, table, tmp_path):
    for number, _, box in IMAGES:
        if box:
            write_image(root / f"masks/lesion_{number:02d}.png", value=0, box=box)
    message = refuse("masks", tmp_path / "out", "--root", root, *table)
    assert "p00_a" in message and "lesion_00" in message and "--mask-name" in message
    message = refuse("masks", tmp_path / "out", "--root", root, *table, "--image-name", "(p)0.*", "--mask-name", "(p|l).*")
    assert "lesion_00" in message
    code, _, error = run("masks", "--root", root, "--mask-name", "lesion")
    assert code == 2 and "no group" in error
    assert "no folder 'Scans'" in refuse("masks", tmp_path / "out", "--root", root, *table, "--images", "Scans")


def test_a_mask_of_two_images_is_refused(root, table, tmp_path):
    write_image(root / "masks/p00.png", value=0, box=(1, 2, 10, 8))
    options = "--image-name", "(p0).*", "--mask-name", "(p0)0"
    assert "masks/p00.png may be the mask of" in refuse("masks", tmp_path / "out", "--root", root, *table, *options)


def test_masks_beside_the_images_of_each_class(root, tmp_path):
    """As in BUS_UC: Benign/images and Benign/masks."""
    for number, name, box in IMAGES:
        target = root / name.capitalize() / "images" / f"p{number:02d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(root / name_of(number), target)
        if box:
            write_image(root / name.capitalize() / "masks" / f"p{number:02d}.png", value=0, box=box)
    (root / "images").rmdir()
    write_image(root / "Other" / "masks" / "p99.png", value=0, box=(1, 2, 10, 8))
    assert "Other/masks/p99.png" in refuse("masks", tmp_path / "out", "--root", root, "--patient", r"p(\d+)")
    shutil.rmtree(root / "Other")
    prepare("masks", "--root", root, "--patient", r"p(\d+)", *FOLDS)
    found = all_images(root / "annotations")
    assert {name: (image["category_id"], image["boxes"]) for name, image in found.items()} == {
        f"{name.capitalize()}/images/p{number:02d}.png": (1 + (name == "malignant"), [list(map(float, box))] if box else [])
        for number, name, box in IMAGES
    }


def test_a_table_that_fits_no_image_is_told(root, tmp_path):
    """As a spreadsheet makes 1 of 000001."""
    write_masks(root)
    (tmp_path / "numbers.csv").write_text("file_name,patient_id,class\n1,1,benign\n2,2,malignant\n")
    message = refuse("masks", tmp_path / "out", "--root", root, "--table", tmp_path / "numbers.csv")
    assert "has no class" in message and "numbers.csv are of no image here: 1, 2)" in message


def test_copies_of_an_image_that_roboflow_made_are_of_one_patient(root, tmp_path):
    content = coco()
    for image, (_, name, _) in zip(content["images"], IMAGES):
        image["category_id"] = int(name == "malignant")
    for number, *_ in IMAGES:
        copy = f"images/scan{0 if number == 2 else number}_png.rf.{number:032x}.png"
        os.rename(root / name_of(number), root / copy)
        content["images"][number]["file_name"] = copy
    write_json(tmp_path / "export.json", content)
    options = "coco", tmp_path / "export.json", "--root", root, *FOLDS
    (line,) = [x for x in prepare(*options, "--patient", "(.+)").splitlines() if "Roboflow" in x]
    assert ": scan0_png;" in line
    (pattern,) = re.findall("--patient '(.+)'", line)
    assert "Roboflow" not in prepare(*options, "--patient", pattern)


def alpha_mask(box):
    mask = np.zeros((30, 40, 4), np.uint8)
    x, y, width, height = box
    mask[y : y + height, x : x + width, 3] = 255
    return mask


@pytest.mark.parametrize("kind", ["alpha", "transparent colour", "white background", "grey values", "other size"])
def test_a_mask_of_another_kind_is_refused_with_its_file(kind, root, table, tmp_path):
    write_masks(root)
    mask = {
        "alpha": alpha_mask((3, 2, 13, 8)),
        "transparent colour": np.zeros((30, 40), np.uint8),
        "white background": 255 - alpha_mask((3, 2, 13, 8))[:, :, 3],
        "grey values": np.arange(1200, dtype=np.uint8).reshape(30, 40) % 7,
        "other size": np.zeros((30, 41), np.uint8),
    }[kind]
    if kind == "white background":
        mask[mask == 0] = 100
    path = str(root / "masks/p03_a_mask.png")
    assert cv2.imwrite(path, mask)
    if kind == "transparent colour":
        Image.new("P", (40, 30)).save(path)
        with Image.open(path) as image:
            image.paste(1, (3, 2, 16, 10))
            image.putpalette(bytes(6))  # black and black
            image.save(path, transparency=0)
    assert "p03_a_mask.png" in refuse("masks", tmp_path / "out", "--root", root, *table)


def test_masks_are_those_of_the_upright_image(root, table, tmp_path):
    """The file holds it turned, with 30x40 pixels; a viewer shows 40x30."""
    write_masks(root)
    tag = Image.Exif()
    tag[274] = 6
    Image.new("L", (30, 40), 50).save(root / name_of(3), exif=tag)
    prepare("masks", "--root", root, *table, *FOLDS)
    assert_is_all(root / "annotations", root)
    write_image(root / "masks/p03_a_mask.png", value=0, size=(40, 30), box=(2, 3, 8, 13))
    assert "p03_a_mask.png has 30x40" in refuse("masks", tmp_path / "out", "--root", root, *table)


def test_all_masks_without_image_are_refused(root, table, tmp_path):
    """In a folder that has no images, in one that has, and in one of another spelling."""
    write_masks(root)
    names = ("masks/malignant/a.png", "masks/b.png", "masks/Site1/c.png")
    write_image(root / "images/site1/c.png")
    for name in names:
        write_image(root / name, value=0, box=(1, 1, 5, 5))
    message = refuse("masks", tmp_path / "out", "--root", root, *table)
    assert all(name in message for name in names) and message.count("- ") == 3


def test_masks_that_are_all_of_the_image_are_refused(root, table, tmp_path):
    for number, *_ in IMAGES:
        write_image(root / f"masks/p{number:02d}_a.png", value=0, box=(0, 0, 40, 30))
        cv2.imwrite(str(root / f"masks/p{number:02d}_a.png"), np.pad(np.zeros((28, 38), np.uint8), 1, constant_values=9))
    assert "whole image" in refuse("masks", tmp_path / "out", "--root", root, *table)


def test_masks_that_mark_nothing(root, table, tmp_path):
    write_masks(root)
    masks = sorted((root / "masks").iterdir())
    for mask in masks[:2]:
        cv2.imwrite(str(mask), np.zeros((30, 40), np.uint8))
    printed = prepare("masks", "--root", root, *table, *FOLDS)
    (warning,) = [x for x in printed.splitlines() if "mark no pixel" in x]
    assert "2 masks" in warning and all(mask.name in warning for mask in masks[:2])
    for mask in masks:
        cv2.imwrite(str(mask), np.zeros((30, 40), np.uint8))
    assert masks[0].name in refuse("masks", tmp_path / "out", "--root", root, *table)


def test_dicom(tmp_path):
    """Frames become images cut to their region; a report is left out; a box of the table is that of its frame."""
    source, root = tmp_path / "archive", tmp_path / "mine"
    rows = ["file_name,class,frame,x,y,w,h"]
    for number in range(8):
        study = source / f"study{number}"
        study.mkdir(parents=True)
        single_frame(f"Q{number}", (10, 20, 70, 60)).save_as(study / "a.dcm", enforce_file_format=True)
        box = "12,25,5,6" if number else ",,,"
        rows.append(f"study{number}/a.dcm,{'malignant' if number % 2 else 'benign'},,{box}")
    shutil.copy(get_testdata_file("reportsi.dcm"), source / "report.dcm")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    printed = prepare("dicom", source, "--root", root, "--table", tmp_path / "table.csv", *FOLDS)
    images = all_images(root / "annotations")
    assert len(images) == 8 and "1 DICOM files without image" in printed and "PatientID" in printed
    by_patient = {image["patient_id"]: image for image in images.values()}
    assert by_patient["Q3"]["boxes"] == [[2.0, 5.0, 5.0, 6.0]] and by_patient["Q0"]["boxes"] == []
    assert (by_patient["Q3"]["width"], by_patient["Q3"]["height"]) == (61, 41)
    assert by_patient["Q3"]["file_name"] == "images/study3/a.png"
    assert cv2.imread(str(root / by_patient["Q3"]["file_name"]), 0)[0, 0] == 10 + 20


def test_a_cine_gives_an_image_for_each_frame_and_a_box_is_that_of_its_frame(tmp_path):
    source, root = tmp_path / "archive", tmp_path / "mine"
    source.mkdir()
    rows = ["file_name,patient_id,class,frame,x,y,w,h"]
    for number in range(8):
        cine = single_frame(f"Q{number}", (10, 20, 70, 60))
        cine.NumberOfFrames, cine.PixelData = 2, 2 * cine.PixelData
        cine.save_as(source / f"{number}.dcm", enforce_file_format=True)
        rows.append(f"{number}.dcm,P{number},{('benign', 'malignant')[number % 2]},{('2', '2.0')[number % 2]},12,25,5,6")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    printed = prepare("dicom", source, "--root", root, "--table", tmp_path / "table.csv", *FOLDS)
    assert "8 files have several frames" in printed and "0.dcm (2)" in printed and "PatientID" not in printed
    boxes = {image["file_name"]: image["boxes"] for image in all_images(root / "annotations").values()}
    assert len(boxes) == 16
    assert boxes["images/3_frame0001.png"] == [] and boxes["images/3_frame0002.png"] == [[2.0, 5.0, 5.0, 6.0]]


def test_a_picture_of_a_dicom_file_never_gets_other_pixels(tmp_path):
    """What earlier annotation files name stays what it was, whichever files are there when the data set is prepared anew."""
    source, root = tmp_path / "archive", tmp_path / "mine"
    for number in range(10):
        (source / f"P{number}").mkdir(parents=True)
        region = (number, 20, 70, 60)
        single_frame(f"Q{number}", region).save_as(source / f"P{number}" / "IM0", enforce_file_format=True)
    (tmp_path / "table.csv").write_text(
        "\n".join(["file_name,class", *(f"P{i}/IM0,{('benign', 'malignant')[i % 2]}" for i in range(10))]) + "\n"
    )
    command = ("dicom", source, "--root", root, "--table", tmp_path / "table.csv", *FOLDS)
    prepare(*command)
    before = {path.name: cv2.imread(str(path)) for path in sorted((root / "images" / "P7").iterdir())}
    (source / "P2" / "IM0").unlink()
    printed = prepare(*command, "--output", tmp_path / "out")
    assert "images/P2/IM0.png" in printed  # of no file any more
    assert all(np.array_equal(cv2.imread(str(root / "images" / "P7" / name)), pixels) for name, pixels in before.items())
    single_frame("Q7", (30, 20, 70, 60)).save_as(source / "P7" / "IM0", enforce_file_format=True)
    assert "P7/IM0.png" in refuse("dicom", tmp_path / "other", *command[1:])


def test_two_dicom_files_of_one_picture_are_refused(tmp_path):
    source, root = tmp_path / "archive", tmp_path / "mine"
    source.mkdir()
    for name in ("a.dcm", "a"):
        single_frame("Q", (10, 20, 70, 60)).save_as(source / name, enforce_file_format=True)
    assert "a.dcm" in refuse("dicom", tmp_path / "out", source, "--root", root)


def single_frame(patient, region):
    """100x80 grey pixels x + y; `region` is XYXY with the last pixels."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = pydicom.uid.UltrasoundImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.PatientID, dataset.PhotometricInterpretation, dataset.SamplesPerPixel = patient, "MONOCHROME2", 1
    dataset.Rows, dataset.Columns, dataset.PixelRepresentation = 80, 100, 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelData = np.add.outer(np.arange(80), np.arange(100)).astype(np.uint8).tobytes()
    part = pydicom.Dataset()
    part.RegionSpatialFormat = 1
    keys = "RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1"
    for key, value in zip(keys, region):
        setattr(part, key, value)
    dataset.SequenceOfUltrasoundRegions = [part]
    return dataset


# ------------------------------------------------------------- classes, patients, boxes that are none


def test_names_are_mapped_in_any_case_and_others_left_out(root, table, tmp_path):
    content = coco(("Cyst", "carcinoma  ductal", "text"))
    content["annotations"].append({"id": 99, "image_id": 5, "category_id": 2, "bbox": [1, 1, 5, 5], "area": 25})
    write_json(tmp_path / "export.json", content)
    (tmp_path / "patients.csv").write_text(
        "file_name,patient_id,class\n" + "".join(f"{name_of(i)},P{i},{name if i == 5 else ''}\n" for i, name, _ in IMAGES)
    )
    mapping = ("--class", "benign=cyst", "--class", "malignant=Carcinoma ductal", "--class", "ignore=TEXT")
    printed = prepare("coco", tmp_path / "export.json", "--root", root, *table, *FOLDS, *mapping)
    assert_is_all(root / "annotations", root)
    assert "'text' is left out (1)" in printed
    message = refuse("coco", tmp_path / "out", tmp_path / "export.json", "--root", root, *table, "--class", "benign=cyst")
    assert "carcinoma  ductal" in message


def test_an_image_with_two_classes_and_one_without_patient_are_refused(root, table, tmp_path):
    content = coco()
    content["annotations"][3]["category_id"] = 0  # the table says malignant
    write_json(tmp_path / "export.json", content)
    assert name_of(3) in refuse("coco", tmp_path / "out", tmp_path / "export.json", "--root", root, *table)
    (tmp_path / "patients.csv").write_text((tmp_path / "patients.csv").read_text().replace("P4,", ","))
    assert name_of(4) in refuse("coco", tmp_path / "out", tmp_path / "export.json", "--root", root, *table)


def test_boxes_of_another_size_and_boxes_that_are_there_twice_are_refused(root, table, tmp_path):
    content = coco()
    content["images"][3]["width"] = 80
    content["annotations"].append({**content["annotations"][4], "id": 99})
    content["images"][6].update(width=0, height=None)  # not known
    write_json(tmp_path / "export.json", content)
    message = refuse("coco", tmp_path / "out", tmp_path / "export.json", "--root", root, *table)
    assert all(name_of(i) in message for i in (3, 4)) and name_of(6) not in message


def test_a_pattern_goes_before_the_format_and_two_sources_of_patients_are_told(root, table, tmp_path):
    content = coco()
    for image in content["images"]:
        image["patient_id"] = "another"
    write_json(tmp_path / "export.json", content)
    (tmp_path / "patients.csv").write_text("file_name,class\n" + "".join(f"{name_of(i)},{name}\n" for i, name, _ in IMAGES))
    printed = prepare("coco", tmp_path / "export.json", "--root", root, *table, *FOLDS, "--patient", r"p(\d[1-9])_")
    assert all_images(root / "annotations")[name_of(3)]["patient_id"] == "03"
    assert f"'01' of {name_of(1)}" in printed and "several places" in printed


def test_a_row_of_a_table_is_that_of_one_image(tmp_path):
    path = tmp_path / "patients.csv"
    path.write_text("file_name,patient_id\na/im.png,A\nb/im,B\nim2,C\n,\n")
    table = Table(str(path))
    assert [table.find(f"images/{x}", "patient_id") for x in ("a/im.png", "c/im2.png", "c/im2.png")] == ["A", "C", "C"]
    with pytest.raises(InputError, match="im2"):
        table.find("images/d/im2.png", "patient_id")
    with pytest.raises(InputError, match="a/im.png, b/im"):
        table.find("im", "patient_id")


def test_a_row_with_folders_is_of_no_image_in_another_folder(tmp_path):
    (tmp_path / "patients.csv").write_text("file_name,patient_id\nimages/p27/55.png,P27\n")
    table = Table(str(tmp_path / "patients.csv"))
    assert [table.find(x, "patient_id") for x in ("images/p00/55.png", "p00/55.png", "p27/55.png")] == [None, None, "P27"]


def test_a_folder_of_the_other_class_is_warned_of(root, tmp_path):
    write_image(root / "benign" / "x.png")
    path = csv_table(tmp_path)
    path.write_text(path.read_text() + "benign/x.png,X,malignant,1,2,10,8\n")
    (warning,) = [x for x in prepare("csv", path, "--root", root, *FOLDS).splitlines() if "other class" in x]
    assert "benign/x.png" in warning


def csv_table(tmp_path, header="file_name,patient_id,class,x,y,w,h", box="1,2,10,8", patient="P{}"):
    rows = [f"{name_of(i)},{patient.format(i)},{name},{box}" for i, name, _ in IMAGES]
    (tmp_path / "mine.csv").write_text("\n".join([header, *rows]) + "\n")
    return tmp_path / "mine.csv"


@pytest.mark.parametrize(
    "header, box, words",
    [
        ("file_name,patient_id,class,x,y,w,h", "0.31,0.31,0.19,0.47", "pixel"),
        ("file_name,patient_id,class,x,y,w,h", "0,0,1,1", "pixel"),
        ("file_name,patient_id,class,x,y,w,h", "0,0,40,30", "whole image"),
        ("file_name,patient_id,class,x1,y1,x2,y2", "1,2,10,8", "x1, y1, x2, y2"),
        ("file_name,patient_id,class,bbox_x,BBox-Y,roi width,h", "1,2,10,8", "x, y, w"),
        ("file_name,patient_id,class,bbox_x,BBox-Y,roi width,roi 4", "1,2,10,8", "bbox_x, BBox-Y, roi width, roi 4"),
        (
            "file_name,patient_id,class,Lesion X,Lesion Y,Lesion W,Lesion H",
            "1,2,10,8",
            "Lesion X, Lesion Y, Lesion W, Lesion H",
        ),
        (
            "file_name,patient_id,class,xmin_mass,ymin_mass,xmax_mass,ymax_mass",
            "1,2,10,8",
            "xmin_mass, ymin_mass, xmax_mass",
        ),
        ("file_name,patient_id,class,lesion_bbox,a,b,c", "1,2,10,8", "lesion_bbox"),
        ("file_name,patient_id,class,x,y,w,h,class", "1,2,10,8,benign", "'class'"),
        ("file_name,patient_id,class,x,y,w,h,Class", "1,2,10,8,benign", "'class'"),
        ("file_name;patient;class;x;y;w;h", "1,2,10,8", "no column patient_id. Its header line is 'file_name;patient;class"),
    ],
)
def test_boxes_that_are_none_and_columns_that_are_two(header, box, words, root, tmp_path):
    assert words in refuse("csv", tmp_path / "out", csv_table(tmp_path, header, box), "--root", root)


@pytest.mark.parametrize("separator, told", [(";", "semicolons"), ("\t", "tabs")])
def test_columns_of_a_spreadsheet_whose_decimals_have_a_comma(separator, told, root, tmp_path):
    rows = [[name_of(i), f'"P{separator}{i}"', name, "1,5", "2", "10,25", "8"] for i, name, _ in IMAGES]
    lines = [separator.join(row) for row in (["file_name", "patient_id", "Class", "X", "y", "w", "h"], *rows)]
    (tmp_path / "mine.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    printed = prepare("csv", tmp_path / "mine.csv", "--root", root, *FOLDS)
    images = all_images(root / "annotations")
    assert all(image["boxes"] == [[1.5, 2.0, 10.25, 8.0]] for image in images.values())
    assert images[name_of(3)]["patient_id"] == f"P{separator}3"
    assert f"mine.csv: columns are separated by {told}, and decimals by a comma.\n" in printed


def test_a_table_of_patients_with_semicolons(tmp_path, capsys):
    """Its decimals have a point, or are not there."""
    (tmp_path / "patients.csv").write_text("file_name;patient_id;x;y;w;h\na.png;A,B;1.5;2;3;4\nb.png;C;;;;\n")
    table = Table(str(tmp_path / "patients.csv"))
    assert table.find("a.png", "patient_id") == "A,B" and table.boxes("a.png") == [("", [1.5, 2, 3, 4])]
    assert capsys.readouterr().out == "patients.csv: columns are separated by semicolons.\n"


def test_decimals_of_two_kinds_are_refused(tmp_path):
    """1.234 may be a thousand."""
    (tmp_path / "patients.csv").write_text("file_name;patient_id;x;y;w;h\na.png;A;1.234;12,5;3;4\n")
    with pytest.raises(InputError, match=r"patients\.csv .* in one way"):
        Table(str(tmp_path / "patients.csv"))


def test_columns_in_any_case_and_others_are_named(root, tmp_path):
    header = "File_Name,PATIENT_ID,Class,X,Y,W,H,birads,spacing_x,spacing_y"
    printed = prepare("csv", csv_table(tmp_path, header, "1,2,10,8,4,0.1,0.1"), "--root", root, *FOLDS)
    assert all(image["boxes"] == [[1.0, 2.0, 10.0, 8.0]] for image in all_images(root / "annotations").values())
    assert "not used: birads" in printed


def test_images_without_entry_and_a_table_without_box_are_told(root, tmp_path):
    write_image(root / "images" / "unlisted.png")
    write_image(root / "elsewhere" / "other.png")
    (root / "images" / "notes.txt").write_text("")
    printed = prepare("csv", csv_table(tmp_path, "file_name,patient_id,class", ""), "--root", root, *FOLDS)
    assert "2 image files below" in printed and ": elsewhere/other.png, images/unlisted.png" in printed
    assert "no image has a ROI" in printed


def test_two_columns_of_one_name_are_refused_in_a_table_of_patients_too(root, table, tmp_path):
    write_json(tmp_path / "export.json", coco())
    (tmp_path / "patients.csv").write_text("file_name,class,class\n")
    assert "'class'" in refuse("coco", tmp_path / "out", tmp_path / "export.json", "--root", root, *table)


def test_patients_that_look_alike_are_warned_of_or_made_one(root, tmp_path):
    path = csv_table(tmp_path)
    same = {"P0,": "007,", "P2,": "7,", "P4,": "7\u200b,", "P8,": "100,", "P10,": "10,"}
    text = path.read_text()
    for old, new in same.items():
        text = text.replace(old, new)
    path.write_text(text)
    printed = prepare("csv", path, "--root", root, *FOLDS)
    (warning,) = [line for line in printed.splitlines() if "look alike" in line]
    assert all(repr(x) in warning for x in ("007", "7", "7\u200b")) and "'10'" not in warning
    prepare("csv", path, "--root", root, *FOLDS, "--patient-ids", "normalise")
    images = all_images(root / "annotations")
    assert {images[name_of(i)]["patient_id"] for i in (0, 2, 4)} == {"7"}
    assert images[name_of(8)]["patient_id"] == "100" and images[name_of(10)]["patient_id"] == "10"


# --------------------------------------------------------------------- the way back from a tool


def our_round(root, table, tmp_path):
    """A file of a round: a refined ROI, a locked one and a pseudo one."""
    write_json(tmp_path / "export.json", coco())
    prepare("coco", tmp_path / "export.json", "--root", root, *table, *FOLDS, "--output", tmp_path / "first")
    content = read_json(tmp_path / "first" / "fold1_train.json")
    refined, locked, pseudo, *_ = content["annotations"]
    refined.update(roi_source="refined", manual_bbox=[1.0, 1.0, 9.0, 9.0], roi_round=2, roi_score=0.9)
    locked["locked"] = True
    pseudo.update(roi_source="pseudo", roi_round=1, roi_score=0.8)
    content["info"] = {"round": 2, "statistics": {"replaced_fa": 1, "replaced_pa": 1}}
    write_json(tmp_path / "round_02.json", content)
    return content


def through_supervision(path, root, output):
    data_set = supervision.DetectionDataset.from_coco(str(root), str(path))
    data_set.as_coco(annotations_path=str(output))
    return read_json(output)


def test_the_way_through_a_tool_and_back(root, table, tmp_path):
    before = our_round(root, table, tmp_path)
    exported = through_supervision(tmp_path / "round_02.json", root, tmp_path / "export.json")
    assert not any("roi_source" in x or "patient_id" in x for x in exported["annotations"] + exported["images"])
    prepare("coco", tmp_path / "export.json", "--like", tmp_path / "round_02.json")
    assert read_json(tmp_path / "export_restored.json") == before


def without_our_fields(entries, **fields):
    return [
        {key: x[key] for key in ("id", "file_name", "image_id", "bbox", "width", "height") if key in x} | fields
        for x in entries
    ]


def as_globox(content):
    """Annotations from 0 on."""
    annotations = without_our_fields(content["annotations"], ignore=0, segmentation=[], iscrowd=0)
    annotations = [
        {**x, "id": i, "category_id": y["category_id"]} for i, (x, y) in enumerate(zip(annotations, content["annotations"]))
    ]
    return {"images": without_our_fields(content["images"]), "annotations": annotations, "categories": content["categories"]}


def as_label_studio(content):
    """Addresses of the local storage, images and classes from 0 on, boxes through percent."""
    exported, numbers = as_globox(content), {x["id"]: i for i, x in enumerate(content["images"])}
    for image in exported["images"]:
        image.update(id=numbers[image["id"]], file_name=f"/data/local-files/?d=mine/{quote(image['file_name'])}")
    for annotation in exported["annotations"]:
        box = [value / side * 100 * side / 100 for value, side in zip(annotation["bbox"], (40, 30, 40, 30))]
        annotation.update(image_id=numbers[annotation["image_id"]], category_id=annotation["category_id"] - 1, bbox=box)
    exported["categories"] = [{"id": 0, "name": "benign"}, {"id": 1, "name": "malignant"}]
    return exported


def as_label_studio_uploaded(content):
    """The names by its source; no server was asked."""
    exported = as_label_studio(content)
    for image, before in zip(exported["images"], content["images"]):
        name = before["file_name"].rsplit("/")[-1].replace(" ", "_").replace("(", "").replace(")", "")
        image["file_name"] = f"images/1a2b3c4d-{name}"
    return exported


def as_pylabel(content):
    """An image without box repeats the annotation before it; numbers are floats, what is not known is null."""
    exported = as_globox(content)
    annotations = iter(exported["annotations"])
    with_box, rows = {x["image_id"] for x in exported["annotations"]}, []
    for image in exported["images"]:
        rows.append(next(annotations) if image["id"] in with_box else dict(rows[-1]))
        image.update(path=None, depth=None)
    exported["annotations"] = [{**x, "iscrowd": 0.0, "segmentation": None, "pose": None} for x in rows]
    exported["categories"] = exported["categories"][::-1]
    return exported


@pytest.mark.parametrize("tool", [as_globox, as_label_studio, as_label_studio_uploaded, as_pylabel])
def test_files_as_other_tools_write_them_are_restored(tool, root, table, tmp_path):
    """As globox 2.9.0, label-studio-sdk 2.1.2 and pylabel 0.1.55 wrote one."""
    before = our_round(root, table, tmp_path)
    del before["annotations"][-1]  # its image has no box now
    for image in before["images"][:2]:
        image["file_name"] = image["file_name"].replace("_a", " (ä)")
    write_json(tmp_path / "round_02.json", before)
    write_json(tmp_path / "export.json", tool(before))
    printed = prepare("coco", tmp_path / "export.json", "--like", tmp_path / "round_02.json")
    assert read_json(tmp_path / "export_restored.json") == before
    assert f"{len(before['annotations'])} ROIs as they were" in printed
    assert ("twice" in printed) is (tool is as_pylabel)


def test_folders_tell_images_of_one_name_apart(tmp_path):
    find = FileFinder("", ["p1/001.png", "p2/001.png", "x/p2/001.png"])
    assert find("/data/local-files/?d=p1/001.png") == find("https://server/data/p1/001.png") == "p1/001.png"
    assert find("C:\\mine\\p2\\001.png") == "p2/001.png" and not find.by_name_alone
    for name in ("001.png", "p3/001.png"):
        with pytest.raises(ValueError, match="3 files"):
            find(name)


def test_what_was_moved_added_and_deleted_is_told(root, table, tmp_path):
    before = our_round(root, table, tmp_path)
    exported = read_json(tmp_path / "round_02.json")
    for entry in exported["images"] + exported["annotations"]:
        for key in ("patient_id", "roi_source", "manual_bbox", "locked"):
            entry.pop(key, None)
    refined, locked, pseudo, deleted, *_ = exported["annotations"]
    locked["bbox"][0] += 2
    pseudo["bbox"][2] += 3
    exported["annotations"].remove(deleted)
    exported["annotations"].append({**refined, "id": 1000, "bbox": [30, 20, 8, 8]})
    write_json(tmp_path / "export.json", exported)
    printed = prepare(
        "coco", tmp_path / "export.json", "--like", tmp_path / "round_02.json", "--output", tmp_path / "new.json"
    )
    after = {annotation["id"]: annotation for annotation in read_json(tmp_path / "new.json")["annotations"]}
    assert after[refined["id"]] == before["annotations"][0]
    moved = after[locked["id"]]
    assert (moved["roi_source"], moved["locked"], moved["bbox"]) == ("manual", True, locked["bbox"])
    assert after[pseudo["id"]]["roi_source"] == "manual" and deleted["id"] not in after
    (new,) = [x for x in after.values() if x["bbox"] == [30, 20, 8, 8]]
    assert new["roi_source"] == "manual" and new["image_id"] == refined["image_id"]
    for line in ("1 ROIs moved (pseudo before", "1 ROIs moved (manual before", "1 ROIs new", "1 ROIs deleted"):
        assert line in printed


def test_a_round_without_its_sources_is_refused(root, table, tmp_path):
    content = our_round(root, table, tmp_path)
    for annotation in content["annotations"]:
        for key in ("roi_source", "manual_bbox"):
            annotation.pop(key, None)
    for name, info in (("export.json", content["info"]), ("round_02.json", {})):
        write_json(tmp_path / name, {**content, "info": info})
        message = refuse("coco", tmp_path / "out", tmp_path / name, "--root", root, *table)
        assert name in message and "roi_source" in message and "--like" in message


def test_turned_boxes_are_not_joined(root, table, tmp_path):
    content = our_round(root, table, tmp_path)
    content["annotations"][0]["attributes"] = {"rotation": 45.0}
    write_json(tmp_path / "export.json", content)
    code, _, err = run("coco", tmp_path / "export.json", "--like", tmp_path / "round_02.json")
    assert code == 2 and "rotation 45.0" in err


def test_an_export_of_other_images_is_not_joined(root, table, tmp_path):
    our_round(root, table, tmp_path)
    exported = coco()
    exported["images"][0]["file_name"] = "other.png"
    write_json(tmp_path / "export.json", exported)
    code, _, err = run("coco", tmp_path / "export.json", "--like", tmp_path / "round_02.json")
    assert code == 2 and "other.png" in err and not (tmp_path / "export_restored.json").exists()


def test_a_box_of_no_image_is_not_joined(root, table, tmp_path):
    content = our_round(root, table, tmp_path)
    content["annotations"].append({**content["annotations"][0], "id": 999, "image_id": 98765})
    write_json(tmp_path / "export.json", content)
    code, _, err = run("coco", tmp_path / "export.json", "--like", tmp_path / "round_02.json")
    assert code == 2 and "annotation 999" in err and not (tmp_path / "export_restored.json").exists()


def test_json_that_is_no_coco_file_is_named(root, table, tmp_path):
    lists = {"images": [], "annotations": [], "categories": []}
    for content in ([], {"images": []}, {**lists, "images": [1]}, {**lists, "annotations": [{"category_id": {}}]}):
        (tmp_path / "export.json").write_text(json.dumps(content))
        assert "export.json" in refuse("coco", tmp_path / "out", tmp_path / "export.json", "--root", root, *table)


def test_coco_warns_of_boxes_that_do_not_fit_their_segmentation(root, table, tmp_path):
    content = coco()
    content["annotations"][0]["segmentation"] = [[20, 20, 30, 20, 30, 28, 20, 28]]
    content["annotations"][1]["segmentation"] = [[1, 2, 12, 2, 12, 10, 1, 10]]  # as its box
    write_json(tmp_path / "export.json", content)
    printed = prepare("coco", tmp_path / "export.json", "--root", root, *table, *FOLDS)
    (line,) = [x for x in printed.splitlines() if "do not fit their mask" in x]
    assert name_of(0) in line and name_of(1) not in line


def test_every_data_set_has_help():
    for name in ("coco", "yolo", "voc", "masks", "dicom", "csv", "busbra", "busi", "phantom"):
        printed = prepare(name, "--help")
        assert "--folds" in printed and "Returns:" not in printed
