"""Marks on speckle: planted ones are found and painted over, burnt-in text is none."""

import calipers
import cv2
import numpy as np
import pytest
from calipers import find_marks, paint_over

from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.data.folds import assign_folds, patient_classes, write_splits

from ..conftest import make_tiny_dataset

CENTRES = [(40, 60), (120, 60), (80, 30), (80, 95)]  # (x, y)


def speckle(seed=0):
    noise = cv2.GaussianBlur(np.random.RandomState(seed).standard_normal((140, 170)), (0, 0), 2.5, None, 1.2)
    return np.uint8(np.clip(70 + 90 * noise, 0, 255))


def draw(image, x, y, shape):
    """11 pixels wide, as on the images of a scanner."""
    if shape == "plus":
        image[y - 1 : y + 1, x - 5 : x + 6] = image[y - 5 : y + 6, x - 1 : x + 1] = 230
    elif shape == "cross":
        for i in range(-5, 6):
            image[y + i, x + i] = image[y + i, x - i] = 230
    else:
        for down, right in ((-4, 0), (4, 0), (0, -4), (0, 4)):
            image[y + down - 1 : y + down + 2, x + right - 1 : x + right + 2] = 230
    return image


def near(marks):
    """Which of the centres have a mark within two pixels."""
    return {(x, y) for x, y in CENTRES for mark in marks if max(abs(mark.x - x), abs(mark.y - y)) <= 2}


@pytest.mark.parametrize("shape", ["plus", "cross", "dots"])
def test_marks_are_found_and_nothing_else(shape):
    image = speckle()
    assert find_marks(image) == []
    for x, y in CENTRES:
        draw(image, x, y, shape)
    marks = find_marks(image)
    assert near(marks) == set(CENTRES) and len(marks) == len(CENTRES)


def test_a_plus_beside_its_number_is_found_and_text_is_not():
    image = draw(speckle(), 40, 60, "plus")
    cv2.putText(image, "1", (27, 55), cv2.FONT_HERSHEY_PLAIN, 0.8, 230, 1)
    cv2.putText(image, "MAMA ESQ 41MM", (15, 120), cv2.FONT_HERSHEY_PLAIN, 0.9, 230, 1)
    assert [(abs(mark.x - 40) <= 2, abs(mark.y - 60) <= 2) for mark in find_marks(image)] == [(True, True)]


@pytest.mark.parametrize("centre", [(2, 60), (168, 138)])
def test_a_mark_at_the_border_is_painted_over(centre):
    image = speckle()
    x, y = centre
    marked = image.copy()
    marked[max(y - 1, 0) : y + 1, max(x - 5, 0) : x + 6] = 230
    painted = paint_over(marked, [calipers.Mark(x, y, "plus", 1.0)])
    assert (
        painted.shape == image.shape
        and np.abs(painted.astype(int) - image).max() < 120 < np.abs(marked.astype(int) - image).max()
    )


def test_painting_changes_nothing_but_the_marks():
    image = speckle()
    marked = draw(image.copy(), 80, 60, "plus")
    painted = paint_over(marked, find_marks(marked))
    assert find_marks(painted) == []
    far = np.ones_like(image, bool)
    far[50:70, 70:90] = False
    assert np.array_equal(painted[far], image[far])


def with_a_mark(root):
    """Makes a data set, and returns the path of its one image that has a mark."""
    make_tiny_dataset(root)
    path = root / read_json(root / "annotations" / "fold1_test.json")["images"][0]["file_name"]
    cv2.imwrite(str(path), draw(np.full((64, 72), 60, np.uint8), 30, 30, "plus"))
    return path


def test_report_and_copy(tmp_path, capsys):
    root, copy = tmp_path / "tiny", tmp_path / "painted"
    path = with_a_mark(root)
    assert calipers.main(["--root", str(root), "--copy", str(copy)]) == 0
    row = [line for line in capsys.readouterr().out.splitlines() if line.startswith("all")][0].split()
    assert row[:3] == ["all", "28", "1"]
    changed = [x.name for x in (root / "images").iterdir() if x.read_bytes() != (copy / "images" / x.name).read_bytes()]
    assert changed == [path.name]
    assert cv2.imread(str(copy / path.relative_to(root)), 0).max() < 100
    assert read_json(copy / "annotations" / "fold1_test.json") == read_json(root / "annotations" / "fold1_test.json")


def test_a_data_set_as_prepare_writes_it_is_counted_once(tmp_path, capsys):
    with_a_mark(tmp_path)
    parts = [read_json(tmp_path / "annotations" / f"fold1_{split}.json") for split in ("train", "val", "test")]
    bbui = {**parts[0], **{key: [x for part in parts for x in part[key]] for key in ("images", "annotations")}}
    write_splits(bbui, tmp_path / "annotations", assign_folds(patient_classes(bbui), 2), 2)
    assert calipers.main(["--root", str(tmp_path)]) == 0
    assert [line.split()[:3] for line in capsys.readouterr().out.splitlines() if line.startswith("all")] == [
        ["all", "28", "1"]
    ]


def test_a_marked_image_that_cannot_be_written_in_its_format_is_told_before_anything_is(tmp_path, capsys):
    root, copy = tmp_path / "tiny", tmp_path / "painted"
    path = with_a_mark(root)
    path.rename(path.with_suffix(".xyz"))
    for file in (root / "annotations").iterdir():
        file.write_text(file.read_text().replace(path.name, path.with_suffix(".xyz").name))
    assert calipers.main(["--root", str(root), "--copy", str(copy)]) == 2
    assert path.with_suffix(".xyz").name in capsys.readouterr().err and not copy.exists()


def test_a_folder_that_is_not_prepared_and_a_copy_onto_itself_are_refused(tmp_path, capsys):
    assert calipers.main(["--root", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    make_tiny_dataset(tmp_path / "tiny")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "images").symlink_to(tmp_path / "tiny" / "images")  # as datasets/coarse.py makes it
    for copy in ("tiny", "linked"):
        with pytest.raises(SystemExit):
            calipers.main(["--root", str(tmp_path / "tiny"), "--copy", str(tmp_path / copy)])
    content = read_json(tmp_path / "tiny" / "annotations" / "fold1_val.json")
    content["images"][0]["file_name"] = str(tmp_path / "tiny" / content["images"][0]["file_name"])
    write_json(tmp_path / "tiny" / "annotations" / "fold1_val.json", content)
    assert calipers.main(["--root", str(tmp_path / "tiny"), "--copy", str(tmp_path / "new")]) == 2
    assert content["images"][0]["file_name"] in capsys.readouterr().err and not (tmp_path / "new").exists()
    write_json(tmp_path / "tiny" / "annotations" / "fold1_val.json", {})
    assert calipers.main(["--root", str(tmp_path / "tiny")]) == 2
