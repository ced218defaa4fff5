"""Near-duplicates among speckle images: planted ones are found, others are not."""

import cv2
import numpy as np
import pytest
from twins import apply, find_twins, report

from .test_prepare import all_images, prepare

NUMBER = 24
# what is done to image i, whose result is image NUMBER + i
CHANGES = {
    0: lambda x: cv2.convertScaleAbs(x, alpha=0.6, beta=40),
    1: lambda x: np.uint8(255 * (x / 255.0) ** 0.7),
    2: lambda x: x[8:-10, 12:-4],
    3: lambda x: x[:, ::-1],
    4: lambda x: cv2.imdecode(cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], 0),
    5: lambda x: cv2.resize(x, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)[2:, ::-1],
    6: lambda x: x[16:-16, 20:-20],  # a tenth of each side
    7: lambda x: x[:-16],
}


def speckle(number):
    """(160, 200) uint8: speckle over layers that all images share, and one lesion."""
    random = np.random.RandomState(number)
    noise = cv2.GaussianBlur(random.standard_normal((160, 200)), (0, 0), 3, None, 2)
    layers = 90 + 60 * np.cos(np.arange(160) / 25.0)[:, None]
    image = layers + 120 * noise
    centre, axes = random.randint(50, 110, 2), random.randint(12, 30, 2)
    cv2.ellipse(image, tuple(map(int, centre[::-1])), tuple(map(int, axes)), 0, 0, 360, 20.0, -1)
    return np.uint8(np.clip(image, 0, 255))


@pytest.fixture
def root(tmp_path):
    """A folder with NUMBER different images, the changed ones, and their table; image 3 and its twin contradict."""
    root, rows = tmp_path / "mine", ["file_name,patient_id,class,x,y,w,h"]
    root.mkdir()
    images = {i: speckle(i) for i in range(NUMBER)}
    images.update({NUMBER + i: change(images[i]) for i, change in CHANGES.items()})
    for i, pixels in images.items():
        assert cv2.imwrite(str(root / f"{i}.png"), pixels)
        malignant = i % 2 if i != NUMBER + 3 else 0
        rows.append(f"{i}.png,P{i},{'malignant' if malignant else 'benign'},{'5,5,20,20' if i < NUMBER else ',,,'}")
    (tmp_path / "mine.csv").write_text("\n".join(rows) + "\n")
    return root


def entries():
    return [
        {"id": i, "file_name": f"{i}.png", "patient_id": f"P{i}", "category_id": 1 + (i % 2 if i != NUMBER + 3 else 0)}
        for i in range(NUMBER + len(CHANGES))
    ]


def test_all_planted_twins_are_found_and_nothing_else(root):
    found = find_twins(entries(), str(root))
    pairs = {(x.first["id"], x.second["id"]): x.mirrored for x in found}
    assert pairs == {(i, NUMBER + i): i in (3, 5) for i in CHANGES}
    assert [x.is_contradictory for x in found] == [True] + [False] * 7


def test_clips_of_one_scene_under_two_patients_are_found(tmp_path):
    """The frames of one clip resemble each other more than those of the other, which is cropped."""
    frames = [cv2.GaussianBlur(speckle(0), (0, 0), 0.5 + 0.1 * i) for i in range(5)]
    images = [
        {"id": i, "file_name": f"{i}.png", "patient_id": patient, "category_id": 1}
        for i, patient in enumerate([*"PPPPP", *"QQQQQ"])
    ]
    for image, pixels in zip(images, [*frames, *(x[10:-12, 14:-4] for x in frames)]):
        assert cv2.imwrite(str(tmp_path / image["file_name"]), pixels)
    assert not all(x.is_of_one_patient for x in find_twins(images, str(tmp_path)))


def test_images_of_one_grey_are_no_twins(tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((30, 40), 50, np.uint8))
    assert find_twins(entries()[:3], str(tmp_path)) == []


def test_report_names_the_folds_that_separate_twins(root, tmp_path):
    printed = prepare("csv", tmp_path / "mine.csv", "--root", root, "--twins", "report", "--folds", 3)
    lines = printed[printed.index("Twins:") :].splitlines()
    assert "8 pairs, 1 of them with contradictory classes" in lines[0]
    assert f"3.png (malignant, patient P3) = {NUMBER + 3}.png (benign" in lines[1]
    assert sum("apart in fold" in line for line in lines[1:9]) >= 3  # of a draw of patients into three sets


def test_group_makes_twins_one_patient(root, tmp_path):
    printed = prepare("csv", tmp_path / "mine.csv", "--root", root, "--twins", "group", "--folds", 3)
    images = all_images(root / "annotations")
    assert len(images) == NUMBER + len(CHANGES) and len({x["patient_id"] for x in images.values()}) == NUMBER
    assert all(images[f"{i}.png"]["patient_id"] == images[f"{NUMBER + i}.png"]["patient_id"] for i in CHANGES)
    assert "apart in" not in printed


def test_drop_keeps_the_twin_with_a_roi_and_none_of_contradictory_ones(root):
    bbui = {"images": entries(), "annotations": [{"id": 1, "image_id": NUMBER}]}
    kept = {image["id"] for image in apply(bbui, find_twins(entries(), str(root)), "drop")["images"]}
    assert kept == set(range(NUMBER)) - {0, 3} | {NUMBER}


def test_twins_of_one_patient_are_counted_only():
    a, b = entries()[0], {**entries()[2], "patient_id": "P0"}
    from twins import Twins

    assert len(report([Twins(a, b, 0.95, False)], {})) == 1
