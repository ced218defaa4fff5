import collections
import contextlib
import hashlib
import io
import os
import pathlib
import runpy
import sys

import cv2
import numpy as np
import pytest

from tsdd_d2.data import validate_splits
from tsdd_d2.data.files import read_json

SCRIPT = str(pathlib.Path(__file__).parents[2] / "datasets" / "prepare.py")
SPLITS = ("train", "val", "test")


def run(*arguments):
    """Exit code, standard output and standard error of prepare.py, run as by `python` but in this process."""
    code, out, err = 0, io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [SCRIPT, *map(str, arguments)])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                runpy.run_path(SCRIPT, run_name="__main__")
            except SystemExit as end:
                code = end.code or 0
    return code, out.getvalue(), err.getvalue()


def prepare(*arguments):
    code, out, err = run(*arguments)
    assert code == 0, err
    return out


def refuse(name, output, *arguments):
    """The message of a call that must fail with exit code 2 and write nothing."""
    code, _, err = run(name, *arguments, "--output", output)
    assert code == 2
    assert not pathlib.Path(output).exists()
    return err


def cells(printed):
    """The words of each printed line."""
    return [line.split() for line in printed.splitlines()]


def write_image(path, value=50, size=(30, 40), box=None):
    """`size` is (height, width); `box` XYWH is filled with 255."""
    image = np.full(size, value, np.uint8)
    if box:
        x, y, width, height = box
        image[y : y + height, x : x + width] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def read_fold(output, fold=1):
    return {split: read_json(output / f"fold{fold}_{split}.json") for split in SPLITS}


def all_images(output):
    """file_name -> image entry with its boxes, over the splits of fold 1."""
    images = {}
    for content in read_fold(output).values():
        boxes = collections.defaultdict(list)
        for annotation in content["annotations"]:
            assert annotation["area"] == annotation["bbox"][2] * annotation["bbox"][3]
            boxes[annotation["image_id"]].append(annotation["bbox"])
        for image in content["images"]:
            images[image["file_name"]] = {**image, "boxes": boxes[image["id"]]}
    return images


def assert_folds_are_valid(output, root, folds):
    """Each fold is valid and patient-disjoint, has all images, and no patient is tested in two folds."""
    tested = collections.Counter()
    names = None
    for fold in folds:
        splits = {split: (output / f"fold{fold}_{split}.json", root) for split in SPLITS}
        assert validate_splits(splits, decode_images=False) == []
        contents = read_fold(output, fold)
        found = sorted(image["file_name"] for content in contents.values() for image in content["images"])
        assert names is None or names == found
        names = found
        tested.update({image["patient_id"] for image in contents["test"]["images"]})
    assert set(tested.values()) == {1}


# ----------------------------------------------------------------------------------------- BUS-BRA


@pytest.fixture
def busbra(tmp_path):
    """20 patients with two images each; official folds 1 to 4 by turns."""
    root = tmp_path / "data" / "busbra"
    table = ["ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side,BBOX"]
    folds = ["ID,Pathology,kFold,valid_1"]
    for case in range(1, 21):
        pathology = "malignant" if case > 12 else "benign"
        for side in "lr":
            name = f"bus_{case:04d}-{side}"
            write_image(root / f"Images/{name}.png")
            # as published: BBOX begins one pixel beside the mask's box, and its sides are one short
            write_image(root / f"Masks/mask_{name[4:]}.png", value=0, box=(case - 1, 1, 11, 9))
            table.append(f'{name},{case},some,{pathology},4,GE,40,30,left,"[{case},2,10,8]"')
            folds.append(f"{name},{pathology},{1 + case % 4},1")
    (root / "bus_data.csv").write_text("\n".join(table) + "\n")
    (root / "5-fold-cv.csv").write_text("\n".join(folds) + "\n")
    return root


def test_busbra_takes_the_official_tables_and_test_folds(busbra, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(busbra.parent))
    printed = prepare("busbra")
    output = busbra / "annotations"
    images = all_images(output)
    entry = images["Images/bus_0013-r.png"]
    assert (entry["patient_id"], entry["category_id"], entry["boxes"]) == ("13", 2, [[12.0, 1.0, 11.0, 9.0]])
    assert (entry["height"], entry["width"]) == (30, 40)
    assert len(images) == 40
    tested = {int(image["patient_id"]) for image in read_fold(output, 2)["test"]["images"]}
    assert tested == {1, 5, 9, 13, 17}
    assert len({image["patient_id"] for image in read_fold(output, 2)["val"]["images"]}) == 2
    assert_folds_are_valid(output, busbra, range(1, 5))
    assert "Fold 5 is left out" in printed and not (output / "fold5_test.json").exists()
    assert ["all", "40", "24", "16", "20", "12", "8", "40", "40"] in cells(printed)


def test_busbra_published_boxes_give_the_bytes_that_the_committed_results_name(busbra, tmp_path):
    """Their checksum was taken before there was a choice."""
    printed = prepare("busbra", "--root", busbra, "--output", tmp_path / "out", "--boxes", "published")
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted((tmp_path / "out").glob("fold*"))))
    assert digest.hexdigest() == "0fdb31d2453b4e608d13e7f6b0ccac256d75fc5bb19189705cc07effe127c85d"
    assert "x +1, y +1, width -1, height -1" in printed


def test_busbra_warns_of_a_box_that_does_not_fit_its_mask(busbra, tmp_path):
    write_image(busbra / "Masks/mask_0002-l.png", value=0, box=(20, 1, 11, 9))
    printed = prepare("busbra", "--root", busbra, "--output", tmp_path / "out", "--boxes", "published")
    assert [x for x in printed.splitlines() if "do not fit" in x and "bus_0002-l" in x]


def test_busbra_random_folds_and_identical_bytes(busbra, tmp_path):
    for name in ("first", "second"):
        prepare("busbra", "--root", busbra, "--folds", 5, "--seed", 3, "--output", tmp_path / name)
    assert_folds_are_valid(tmp_path / "first", busbra, range(1, 6))
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()
    assert not (busbra / "annotations").exists()


def test_busbra_takes_the_size_of_an_image_that_the_table_gets_wrong(busbra, tmp_path):
    write_image(busbra / "Images/bus_0002-l.png", size=(20, 40))
    write_image(busbra / "Masks/mask_0002-l.png", value=0, size=(20, 40), box=(1, 1, 11, 9))
    printed = prepare("busbra", "--root", busbra, "--output", tmp_path / "out")
    assert "bus_0002-l has 40x20 pixels, the table says 40x30" in printed
    assert all_images(tmp_path / "out")["Images/bus_0002-l.png"]["height"] == 20


def test_busbra_refuses_a_resized_copy(busbra, tmp_path):
    for path in (busbra / "Images").iterdir():
        write_image(path, size=(60, 80))
    assert "not a resized copy" in refuse("busbra", tmp_path / "out", "--root", busbra)


def test_busbra_names_all_missing_images(busbra, tmp_path):
    for name in ("bus_0003-l", "bus_0007-r"):
        (busbra / f"Images/{name}.png").unlink()
    message = refuse("busbra", tmp_path / "out", "--root", busbra)
    assert "bus_0003-l.png does not exist" in message and "bus_0007-r.png does not exist" in message


def test_busbra_takes_a_part_whose_table_is_cut_down(busbra, tmp_path):
    """The table of folds may be the published one."""
    table, gone = busbra / "bus_data.csv", ("bus_0003-l", "bus_0007-r")
    for name in gone:
        (busbra / f"Images/{name}.png").unlink()
    table.write_text("".join(x for x in table.read_text().splitlines(True) if not x.startswith(gone)))
    prepare("busbra", "--root", busbra, "--output", tmp_path / "out")
    assert len(all_images(tmp_path / "out")) == 38


def test_busbra_refuses_a_missing_folder_or_table(busbra, tmp_path):
    assert str(tmp_path / "none") in refuse("busbra", tmp_path / "out", "--root", tmp_path / "none")
    (busbra / "5-fold-cv.csv").unlink()
    assert "5-fold-cv.csv does not exist" in refuse("busbra", tmp_path / "out", "--root", busbra)


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("Case", "Patient", "has no column Case"),
        ("[5,2,10,8]", "[5,2,10]", "bus_0005-l"),
        ("5,some,benign", "5,some,unknown", "bus_0005-r"),
        (
            "[5,2,10,8]",
            "[35,2,10,8]",
            "line 10 (bus_0005-l): Images/bus_0005-l.png: 'bbox' [35.0, 2.0, 10.0, 8.0] leaves the image of 40x30 pixels",
        ),
        ('-r,20,some,malignant,4,GE,40,30,left,"[20,2,10,8]"', "-r,20,some,mal", "line 41: nothing in Width, Height, BBOX"),
    ],
)
def test_busbra_refuses_a_broken_table(old, new, words, busbra, tmp_path):
    table = busbra / "bus_data.csv"
    table.write_text(table.read_text().replace(old, new))
    assert words in refuse("busbra", tmp_path / "out", "--root", busbra, "--boxes", "published")


def test_busbra_names_the_line_that_is_cut_off_in_the_table_of_folds(busbra, tmp_path):
    table = busbra / "5-fold-cv.csv"
    table.write_text(table.read_text()[: -len("nant,1,1\n")])
    message = refuse("busbra", tmp_path / "out", "--root", busbra)
    assert "5-fold-cv.csv has rows that are cut off" in message and "line 41: nothing in kFold" in message


@pytest.mark.parametrize("name", ["bus_data.csv", "5-fold-cv.csv"])
def test_busbra_tables_of_another_encoding(name, busbra, tmp_path):
    table = busbra / name
    table.write_bytes(table.read_text().replace("malignant", "maligní").encode("cp1252"))
    assert f"{name} is no CSV file in UTF-8" in refuse("busbra", tmp_path / "out", "--root", busbra)


def test_busbra_refuses_official_folds_that_share_a_patient(busbra, tmp_path):
    table = busbra / "5-fold-cv.csv"
    table.write_text(table.read_text().replace("bus_0005-l,benign,2", "bus_0005-l,benign,3"))
    assert "patient 5" in refuse("busbra", tmp_path / "out", "--root", busbra)


@pytest.fixture(scope="module")
def real_busbra(tmp_path_factory):
    root = pathlib.Path(os.environ.get("DETECTRON2_DATASETS", "datasets")) / "busbra"
    if not (root / "bus_data.csv").is_file():
        pytest.skip("BUS-BRA is not below $DETECTRON2_DATASETS")
    output = tmp_path_factory.mktemp("busbra")
    prepare("busbra", "--root", root, "--output", output, "--boxes", "published")
    return root, output


def test_real_busbra_is_valid_and_patient_disjoint(real_busbra):
    root, output = real_busbra
    folds = sorted(int(path.name[4]) for path in output.glob("fold*_test.json"))
    assert set(folds) >= {1, 2, 3, 4}
    assert_folds_are_valid(output, root, folds)


def test_real_busbra_has_the_checksum_of_the_committed_results(real_busbra):
    root, output = real_busbra
    if len((root / "bus_data.csv").read_text().splitlines()) != 1 + 1492:
        pytest.skip("the committed results are of folds 1 to 4 alone")
    digest = hashlib.sha256((output / "fold1_test.json").read_bytes()).hexdigest()
    assert digest == "ed9ef07599892ea9f128c340de96afcabc0be32c474579b1a83f13755c63d992"


def test_real_busbra_has_the_official_test_fold_and_70_10_20(real_busbra):
    contents = read_fold(real_busbra[1])
    assert len(contents["test"]["images"]) == 376
    patients = {split: len({image["patient_id"] for image in contents[split]["images"]}) for split in SPLITS}
    total = sum(patients.values())
    assert patients["val"] == round(0.1 * total)
    assert all(len(content["images"]) == len(content["annotations"]) for content in contents.values())


# -------------------------------------------------------------------------------------------- BUSI


def busi_masks():
    """Class and number of each image -> boxes drawn in its masks."""
    masks = {("benign", number): [(number, 3, 8, 6)] for number in range(1, 13)}
    masks.update({("malignant", number): [(5, number, 9, 7)] for number in range(1, 9)})
    masks["malignant", 2] += [(20, 10, 4, 5), (30, 20, 1, 1)]
    return masks


@pytest.fixture(params=["flat", "images and mask", "images and mask, same names"])
def busi(request, tmp_path):
    """12 benign, 8 malignant and 2 normal colour PNGs in each layout."""
    root = tmp_path / "data" / "busi"
    below = {"flat": ("", "")}.get(request.param, ("images/", "mask/"))
    for (name, number), boxes in {**busi_masks(), ("normal", 1): [None], ("normal", 2): [None]}.items():
        folder = root / "Dataset_BUSI_with_GT" / name
        image = np.full((30, 40, 3), (10, 20, 100 + sum(map(ord, name)) % 100), np.uint8) + np.uint8(number)
        path = folder / f"{below[0]}{name} ({number}).png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
        for index, box in enumerate(boxes):
            suffix = "_mask" if index == 0 else f"_mask_{index}"
            if request.param.endswith("same names") and index == 0:
                suffix = ""
            write_image(folder / f"{below[1]}{name} ({number}){suffix}.png", value=0, box=box)
    return root


def test_busi_has_one_box_for_each_mask(busi, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(busi.parent))
    printed = prepare("busi", "--output", tmp_path / "out")
    images = all_images(tmp_path / "out")
    assert len(images) == 20
    for (name, number), boxes in busi_masks().items():
        entry = next(image for image in images.values() if image["patient_id"] == f"{name} ({number})")
        assert entry["boxes"] == [[float(value) for value in box] for box in boxes]
        assert entry["category_id"] == {"benign": 1, "malignant": 2}[name]
        assert (busi / entry["file_name"]).is_file()
    assert_folds_are_valid(tmp_path / "out", busi, range(1, 6))
    assert "BUSI names no patients" in printed
    assert ["all", "20", "12", "8", "20", "12", "8", "20", "22"] in cells(printed)


def test_busi_root_may_be_the_class_folder_itself(busi, tmp_path):
    root = busi / "Dataset_BUSI_with_GT"
    prepare("busi", "--root", root, "--output", tmp_path / "out")
    assert all((root / name).is_file() for name in all_images(tmp_path / "out"))
    assert_folds_are_valid(tmp_path / "out", root, range(1, 6))


def test_busi_normal_images_are_benign_without_roi_and_marked(busi, tmp_path):
    printed = prepare("busi", "--root", busi, "--include-normal", "--output", tmp_path / "out")
    normal = [image for image in all_images(tmp_path / "out").values() if image.get("normal")]
    assert [(image["category_id"], image["boxes"]) for image in normal] == [(1, [])] * 2
    assert "2 normal images are labelled benign and have no ROI" in printed
    assert "Warning" not in printed


@pytest.fixture
def flat_busi(tmp_path):
    root = tmp_path / "busi"
    for (name, number), (box, *_) in busi_masks().items():
        write_image(root / name / f"{name} ({number}).png")
        write_image(root / name / f"{name} ({number})_mask.png", value=0, box=box)
    return root


def test_busi_folders_may_begin_with_a_capital(flat_busi, tmp_path):
    prepare("busi", "--root", flat_busi, "--output", tmp_path / "out")
    (flat_busi / "benign").rename(flat_busi / "Benign")
    (flat_busi / "malignant").rename(flat_busi / "Malignant")
    prepare("busi", "--root", flat_busi, "--output", tmp_path / "capitals")
    one, other = (all_images(tmp_path / name) for name in ("out", "capitals"))
    assert [x["category_id"] for x in one.values()] == [x["category_id"] for x in other.values()]


def test_busi_ignores_an_empty_mask_with_a_warning(flat_busi, tmp_path):
    write_image(flat_busi / "benign/benign (3)_mask.png", value=0)
    (flat_busi / "benign/benign (4)_mask.png").unlink()
    printed = prepare("busi", "--root", flat_busi, "--output", tmp_path / "out")
    assert "1 masks mark no pixel and are ignored: benign/benign (3)_mask.png" in printed
    assert "benign/benign (4).png has no mask, so it is partially annotated" in printed
    images = all_images(tmp_path / "out")
    assert images["benign/benign (3).png"]["boxes"] == images["benign/benign (4).png"]["boxes"] == []


def test_busi_refuses_a_missing_folder(flat_busi, tmp_path):
    (flat_busi / "malignant").rename(tmp_path / "elsewhere")
    assert "has no folder malignant" in refuse("busi", tmp_path / "out", "--root", flat_busi)
    assert "has no folder benign, malignant" in refuse("busi", tmp_path / "out", "--root", tmp_path)


def test_busi_names_all_masks_without_image(flat_busi, tmp_path):
    for number in (2, 11):
        (flat_busi / f"benign/benign ({number}).png").unlink()
    message = refuse("busi", tmp_path / "out", "--root", flat_busi)
    assert "benign (2)_mask.png" in message and "benign (11)_mask.png" in message


def test_busi_names_all_masks_that_do_not_fit(flat_busi, tmp_path):
    write_image(flat_busi / "benign/benign (2)_mask.png", value=0, size=(30, 41), box=(1, 1, 5, 5))
    (flat_busi / "benign/benign (3)_mask.png").write_bytes(b"broken")
    message = refuse("busi", tmp_path / "out", "--root", flat_busi)
    assert "benign (2)_mask.png has 41x30 pixels, its image 40x30" in message
    assert "benign (3)_mask.png cannot be decoded" in message


def renumber(root):
    """The images of each class of a flat BUSI become 001.png, 002.png, ..."""
    for path in sorted(root.glob("*/*.png")):
        number, rest = path.name.split("(")[1].split(")")
        path.rename(path.parent / f"{int(number):03d}{rest}")


def test_busi_images_of_one_name_in_two_classes_are_two_patients(flat_busi, tmp_path):
    renumber(flat_busi)
    prepare("busi", "--root", flat_busi, "--output", tmp_path / "out")
    patients = {name: image["patient_id"] for name, image in all_images(tmp_path / "out").items()}
    assert len(set(patients.values())) == 20
    assert (patients["benign/008.png"], patients["malignant/008.png"]) == ("benign/008", "malignant/008")
    assert patients["benign/009.png"] == "009"


@pytest.mark.parametrize("folder", ["mask", "masks"])
def test_busi_masks_may_be_in_either_folder(folder, flat_busi, tmp_path):
    prepare("busi", "--root", flat_busi, "--output", tmp_path / "flat")
    for path in sorted(flat_busi.glob("*/*.png")):
        target = path.parent / (folder if "_mask" in path.name else "images") / path.name
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    prepare("busi", "--root", flat_busi, "--output", tmp_path / "out")
    flat = {image["patient_id"]: image["boxes"] for image in all_images(tmp_path / "flat").values()}
    assert {image["patient_id"]: image["boxes"] for image in all_images(tmp_path / "out").values()} == flat


def test_busi_refuses_a_class_without_masks_and_masks_in_two_places(flat_busi, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    for path in sorted(flat_busi.glob("benign/*_mask.png")):
        path.rename(kept / path.name)
    message = refuse("busi", tmp_path / "out", "--root", flat_busi)
    assert "has images but not one mask" in message and message.endswith(f"- {flat_busi / 'benign'}\n")
    for folder in ("images", "mask", "masks"):
        write_image(flat_busi / f"benign/{folder}/1.png")
    message = refuse("busi", tmp_path / "out", "--root", flat_busi)
    assert f"must be in one folder, found some in {flat_busi / 'benign/mask'}, {flat_busi / 'benign/masks'}" in message


def test_busi_masks_of_another_case_and_hidden_files(flat_busi, tmp_path):
    prepare("busi", "--root", flat_busi, "--output", tmp_path / "plain")
    for path in sorted(flat_busi.glob("*/*.png")):
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\x16\7 of macOS")
        path.rename(path.parent / path.name.replace("_mask", "_Mask"))
    prepare("busi", "--root", flat_busi, "--output", tmp_path / "out")
    assert all_images(tmp_path / "out") == all_images(tmp_path / "plain")


# --------------------------------------------------------------------------------------- own images


@pytest.fixture
def clinic(tmp_path):
    """12 patients; the second image of each is partially annotated."""
    root = tmp_path / "clinic"
    lines = ["file_name,patient_id,class,x,y,w,h"]
    for patient in range(12):
        name = "malignant" if patient >= 6 else "benign"
        for view in range(2):
            write_image(root / f"scans/{patient}_{view}.png")
            box = "1.5,2,10,8" if view == 0 else ",,,"
            lines.append(f"scans/{patient}_{view}.png,P{patient},{name},{box}")
    lines.append("scans/0_0.png,P0,Benign,20,10,5,6")
    (root / "images.csv").write_text("\n".join(lines) + "\n")
    return root


def test_csv_gives_folds_by_the_convention(clinic):
    printed = prepare("csv", clinic / "images.csv", "--root", clinic)
    output = clinic / "annotations"
    images = all_images(output)
    assert images["scans/0_0.png"]["boxes"] == [[1.5, 2.0, 10.0, 8.0], [20.0, 10.0, 5.0, 6.0]]
    assert images["scans/0_1.png"]["boxes"] == []
    assert images["scans/7_0.png"]["patient_id"] == "P7" and images["scans/7_0.png"]["category_id"] == 2
    assert_folds_are_valid(output, clinic, range(1, 6))
    assert ["all", "24", "12", "12", "12", "6", "6", "12", "13"] in cells(printed)


def test_an_image_that_is_there_twice_is_told(clinic):
    for value, path in enumerate(sorted(clinic.glob("scans/*.png"))):
        write_image(path, value)
    scans = clinic / "scans"
    (scans / "1_0.png").write_bytes((scans / "0_0.png").read_bytes())
    (scans / "7_1.png").write_bytes((scans / "0_1.png").read_bytes())
    printed = prepare("csv", clinic / "images.csv", "--root", clinic)
    of_classes = "scans/0_1.png = scans/7_1.png"
    (patients,) = [line for line in printed.splitlines() if "two patients" in line]
    (classes,) = [line for line in printed.splitlines() if "both classes" in line]
    assert patients.endswith(f": scans/0_0.png = scans/1_0.png, {of_classes}") and classes.endswith(f": {of_classes}")
    (scans / "1_0.png").write_bytes((scans / "0_1.png").read_bytes())
    write_image(scans / "7_1.png", 99)
    assert "both classes" not in prepare("csv", clinic / "images.csv", "--root", clinic)


def test_csv_needs_no_boxes_and_takes_another_number_of_folds(clinic, tmp_path):
    table = tmp_path / "classes.csv"
    rows = (clinic / "images.csv").read_text().splitlines()[:-1]
    table.write_text("\n".join(",".join(row.split(",")[:3]) for row in rows) + "\n")
    prepare("csv", table, "--root", clinic, "--folds", 3, "--output", tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 9 + 3
    assert_folds_are_valid(tmp_path / "out", clinic, range(1, 4))


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("patient_id", "case", "has no column patient_id"),
        ("x,y,w,h", "x,y,w,height", "has no column h"),
        ("P3,benign", "P3,cyst", "line 8: unknown class 'cyst'"),
        ("P3,benign,1.5", ",benign,1.5", "line 8: patient_id is empty"),
        ("P3,benign,1.5,2", "P3,benign,1.5,", "line 8: x, y, w, h must be four numbers"),
        ("P3,benign,1.5", "P3,benign,left", "line 8: x, y, w, h must be four numbers"),
        ("P3,benign,1.5", "P3,benign,1_5", "line 8: x, y, w, h must be four numbers"),
        ("P3,benign,1.5", "P3,benign,1,5", "line 8: it has more fields than the header line"),
        (
            "P3,benign,1.5,2",
            "P3,benign,35,2",
            "line 8: scans/3_0.png: 'bbox' [35.0, 2.0, 10.0, 8.0] leaves the image of 40x30 pixels\n",
        ),
        ("P3,benign,1.5,2,10,8", "P3,benign,1,2,0,8", "line 8: scans/3_0.png: 'bbox' [1.0, 2.0, 0.0, 8.0] has no area"),
        ("P0,Benign,20,10,5,6", "P0,Benign,1.5,2.0,10,8", "line 26: scans/0_0.png: its ROI is that of line 2"),
        (
            "scans/0_0.png,P0,Benign",
            "./scans/0_0.png,P0,benign",
            "scans/0_0.png: its rows disagree on file_name: ./scans/0_0.png, scans/0_0.png (lines 2, 26)",
        ),
        ("P0,Benign", "P0,Malignant", "scans/0_0.png: its rows disagree on class: benign, malignant"),
        ("P0,Benign", "P9,Benign", "scans/0_0.png: its rows disagree on patient_id: P0, P9"),
        ("scans/3_0.png", "scans/none.png", "scans/none.png does not exist"),
    ],
)
def test_csv_refuses_a_broken_table(old, new, words, clinic, tmp_path):
    table = clinic / "images.csv"
    table.write_text(table.read_text().replace(old, new))
    assert words in refuse("csv", tmp_path / "out", table, "--root", clinic)


def test_csv_of_another_encoding(clinic, tmp_path):
    table = clinic / "images.csv"
    table.write_bytes(table.read_text().replace("P3", "Müller").encode("cp1252"))
    assert "images.csv is no CSV file in UTF-8" in refuse("csv", tmp_path / "out", table, "--root", clinic)


def test_csv_tells_the_problems_of_all_rows_images_and_boxes_by_line(clinic, tmp_path):
    table = clinic / "images.csv"
    broken = table.read_text().replace("P3,benign,1.5", ",cyst,left").replace("P8,malignant,1.5", "P8,malignant,38")
    table.write_text(broken)
    (clinic / "scans/9_1.png").write_bytes(b"broken")
    (clinic / "scans/10_0.png").unlink()
    problems = refuse("csv", tmp_path / "out", table, "--root", clinic).splitlines()[1:]
    lines = {number: [x for x in problems if x.startswith(f"  - line {number}:")] for number in (8, 18, 21, 22)}
    assert ["patient_id" in x for x in lines[8]] == [True, False] and "x, y, w, h" in lines[8][1]
    assert [file_name in lines[number][0] for number, file_name in ((18, "8_0.png"), (21, "9_1.png"), (22, "10_0.png"))]


def test_a_file_that_cannot_be_written_is_named_and_the_others_stay(clinic):
    table, output = clinic / "images.csv", clinic / "annotations"
    prepare("csv", table, "--root", clinic)
    before = {path: path.read_bytes() for path in output.iterdir() if path.name != "fold5_val.json"}
    (output / "fold5_val.json").unlink()
    (output / "fold5_val.json").mkdir()
    code, _, err = run("csv", table, "--root", clinic, "--seed", 1)
    assert code == 2 and f"cannot be written to {output}" in err and "fold5_val.json" in err
    assert {path: path.read_bytes() for path in output.iterdir() if path.is_file()} == before


def test_csv_takes_rows_that_end_before_the_box(clinic, tmp_path):
    table = tmp_path / "images.csv"
    table.write_text((clinic / "images.csv").read_text().replace(",,,,", ""))
    for path, output in ((clinic / "images.csv", "full"), (table, "short")):
        prepare("csv", path, "--root", clinic, "--output", tmp_path / output)
    assert all_images(tmp_path / "short") == all_images(tmp_path / "full")


@pytest.mark.parametrize("name", ["busbra", "csv", "phantom"])
@pytest.mark.parametrize("seed", ["-1", "4294967296", "1.5"])
def test_a_seed_of_another_kind_is_refused(name, seed, tmp_path):
    source = (tmp_path / "images.csv",) if name == "csv" else ()
    code, _, err = run(name, *source, "--root", tmp_path / "none", "--seed", seed)
    assert code == 2 and f"--seed: must be an integer from 0 to 4294967295, found '{seed}'" in err
    assert not (tmp_path / "none").exists()
