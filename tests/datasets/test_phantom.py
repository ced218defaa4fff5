import json
import pathlib
import runpy
from dataclasses import replace

import cv2
import numpy as np
import phantom
import pytest
from phantom import Lesion, coarse_box, generate_phantom, lesion_mask, mask_to_box, phantom_image

from tsdd_d2.data import validate_bbui

PREPARE = str(pathlib.Path(__file__).parents[2] / "datasets" / "prepare.py")

# 0.25 mm per pixel, so that lengths in mm become pixels by hand.
SIZE = 160
OVAL = Lesion(
    centre=(20.0, 15.0),
    half_axes=(8.0, 4.0),
    tilt=0.0,
    lobes=np.zeros((0, 2)),
    spicules=np.zeros((0, 2)),
    edge_width=0.1,
    backscatter=-16.0,
    attenuation=0.0,
)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def generate(folder, **options):
    arguments = {"num_patients": 3, "images_per_patient": 2, "size": 48, "num_workers": 1, **options}
    return generate_phantom(folder, **arguments)


def brightness_behind(image, box):
    """Mean grey of 5 mm below the middle half of the box, less that of the same rows one box beside it."""
    x, y, w, h = (round(value) for value in box)
    below = image[y + h + 2 : y + h + 2 + image.shape[0] // 8].astype(float)
    columns = np.arange(image.shape[1])
    distance = np.abs(columns + 0.5 - (x + w / 2)) / w
    return below[:, distance < 0.25].mean() - below[:, (distance > 0.75) & (distance < 1.5)].mean()


def test_same_seed_same_files_for_any_number_of_workers(tmp_path):
    one = generate(tmp_path / "one", num_workers=1)
    two = generate(tmp_path / "two", num_workers=2)
    assert one == two
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_other_seed_other_images(tmp_path):
    generate(tmp_path / "one", seed=1)
    generate(tmp_path / "two", seed=2)
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert one.keys() == two.keys()
    assert all(one[name] != two[name] for name in one)


def test_an_interruption_leaves_the_images_of_before(tmp_path, monkeypatch):
    generate(tmp_path, seed=1, num_workers=1)
    before = contents(tmp_path)
    drawn = phantom.phantom_image

    def interrupted(patient, *arguments):
        if patient == 1:
            raise KeyboardInterrupt
        return drawn(patient, *arguments)

    monkeypatch.setattr(phantom, "phantom_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, seed=2, num_workers=1)
    assert contents(tmp_path) == before and [x.name for x in tmp_path.iterdir()] == ["images"]


def test_more_patients_leave_the_first_ones_as_they_were(tmp_path):
    few = generate(tmp_path / "few", num_patients=2)
    many = generate(tmp_path / "many", num_patients=4)
    assert many["images"][:4] == few["images"]
    assert many["annotations"][:4] == few["annotations"]
    assert contents(tmp_path / "few").items() <= contents(tmp_path / "many").items()


def test_coarseness_changes_the_coarse_boxes_only(tmp_path):
    exact = generate(tmp_path / "exact", coarseness=0.0)
    coarse = generate(tmp_path / "coarse", coarseness=0.5)
    assert contents(tmp_path / "exact") == contents(tmp_path / "coarse")
    assert exact["images"] == coarse["images"]
    assert [a["bbox"] for a in exact["annotations"]] == [i["true_bbox"] for i in exact["images"]]
    assert [a["bbox"] for a in coarse["annotations"]] != [i["true_bbox"] for i in coarse["images"]]


def test_written_data_are_valid_bbui(tmp_path):
    bbui = generate(tmp_path)
    assert validate_bbui(bbui, tmp_path) == []
    assert [image["category_id"] for image in bbui["images"]] == [1, 1, 2, 2, 1, 1]
    patients = [image["patient_id"] for image in bbui["images"]]
    assert patients == ["0001", "0001", "0002", "0002", "0003", "0003"]
    image = cv2.imread(str(tmp_path / "images" / "0003_2.png"), cv2.IMREAD_UNCHANGED)
    assert image.shape == (48, 48) and image.dtype == np.uint8


def test_images_of_one_patient_differ():
    (first, truth), (second, other_truth) = (phantom_image(0, number, 0, 48, 0.0) for number in (0, 1))
    assert truth["true_bbox"] != other_truth["true_bbox"]
    assert not np.array_equal(first, second)


def test_box_of_an_oval_by_hand():
    # 20 -+ 8 mm and 15 -+ 4 mm at 4 pixels per mm.
    assert mask_to_box(lesion_mask(OVAL, SIZE)) == [48.0, 44.0, 64.0, 32.0]


def test_box_of_an_empty_mask_is_refused():
    with pytest.raises(ValueError, match="empty"):
        mask_to_box(np.zeros((4, 4), dtype=bool))


def test_true_box_encloses_the_mask_exactly(monkeypatch):
    monkeypatch.setattr(phantom, "render_image", lambda patient, lesion, size, rng: lesion_mask(lesion, size))
    for patient in range(20):
        mask, truth = phantom_image(patient, 0, seed=3, size=SIZE, coarseness=0.5)
        rows, columns = np.nonzero(mask)
        left, top = columns.min(), rows.min()
        assert truth["true_bbox"] == [left, top, columns.max() + 1 - left, rows.max() + 1 - top]


def test_spicules_and_lobes_leave_the_oval():
    spiculated = replace(OVAL, spicules=np.array([[0.5, 0.0]]))
    lobulated = replace(OVAL, lobes=np.array([[0.25, 0.0]]))
    # A spicule half as long as the radius, to the right; the second harmonic lengthens the width by a quarter
    # and shortens the height by as much.
    assert mask_to_box(lesion_mask(spiculated, SIZE)) == pytest.approx([48, 44, 64 + 16, 32], abs=2)
    assert mask_to_box(lesion_mask(lobulated, SIZE))[2] == pytest.approx(1.25 * 64, abs=1)
    rows = np.flatnonzero(lesion_mask(lobulated, SIZE)[:, SIZE // 2])
    assert len(rows) == pytest.approx(0.75 * 32, abs=1)


@pytest.mark.parametrize("true_box", [[0, 0, 8, 6], [40, 50, 24, 14], [30, 20, 10, 20], [0, 0, 64, 64], [63, 63, 1, 1]])
@pytest.mark.parametrize("coarseness", [0.0, 0.5, 1.0])
def test_coarse_box_stays_in_the_image(true_box, coarseness):
    rng = np.random.default_rng(0)
    for _ in range(100):
        x, y, w, h = coarse_box(true_box, 64, coarseness, rng)
        assert 0 <= x < x + w <= 64 and 0 <= y < y + h <= 64
        if coarseness == 0:
            assert [x, y, w, h] == true_box


def test_coarse_box_has_the_promised_overlap():
    rng = np.random.default_rng(0)
    x, y, w, h = 100, 80, 90, 70
    overlaps = []
    for _ in range(1000):
        a, b, c, d = coarse_box([x, y, w, h], 256, 0.45, rng)
        shared = max(0, min(x + w, a + c) - max(x, a)) * max(0, min(y + h, b + d) - max(y, b))
        overlaps.append(shared / (w * h + c * d - shared))
    assert 0.55 < np.mean(overlaps) < 0.70
    assert np.min(overlaps) < 0.45 and np.max(overlaps) > 0.80


def test_lesion_is_hypoechoic():
    differences = []
    for patient in range(16):
        image, truth = phantom_image(patient, 0, seed=0, size=96, coarseness=0.0)
        x, y, w, h = (int(value) for value in truth["true_bbox"])
        inside = image[y + h // 4 : y + h - h // 4, x + w // 4 : x + w - w // 4].mean()
        beside = image[y + h // 4 : y + h - h // 4].astype(float)
        beside = np.delete(beside, np.s_[max(0, x - 2) : x + w + 2], axis=1).mean()
        differences.append(inside - beside)
    assert np.mean(differences) < -20
    assert np.mean(np.array(differences) < 0) > 0.9


def test_more_attenuation_shadows_and_less_enhances():
    patient = phantom.draw_patient(False, np.random.default_rng(0))
    behind = []
    for attenuation in (-0.5, 0.0, 0.5):
        lesion = replace(OVAL, attenuation=attenuation)
        image = phantom.render_image(patient, lesion, SIZE, np.random.default_rng(1))
        behind.append(brightness_behind(image, [48, 44, 64, 32]))
    # The lesion is 8 mm high, so 4 dB on either side of the same tissue.
    assert behind[0] > behind[1] + 8 and behind[2] < behind[1] - 8


def test_benign_lesions_enhance_and_malignant_ones_shadow_on_average():
    change = {False: [], True: []}
    for number in range(60):
        malignant = number % 2 == 1
        patient = phantom.draw_patient(malignant, np.random.default_rng(number))
        box = mask_to_box(lesion_mask(patient.lesion, 96))
        # The same image but for the attenuation of the lesion: what tissue lies behind it cancels out.
        own, neutral = (
            brightness_behind(phantom.render_image(patient, lesion, 96, np.random.default_rng(number)), box)
            for lesion in (patient.lesion, replace(patient.lesion, attenuation=0.0))
        )
        change[malignant].append(own - neutral)
    assert np.mean(change[False]) > 1 and np.mean(change[True]) < -1


def test_speckle_of_uniform_tissue_is_fully_developed():
    # The envelope of many scatterers of random phase is Rayleigh distributed: mean / deviation is 1.91.
    rng = np.random.default_rng(0)
    phasors = phantom.draw_phasors(256, rng)
    envelope = np.abs(phantom.apply_point_spread(phasors, axial_width=0.16, lateral_width=0.35, focus=15))
    assert envelope.mean() / envelope.std() == pytest.approx(1.91, rel=0.05)
    assert np.mean(envelope**2) == pytest.approx(1.0, rel=0.1)  # the point-spread function has unit energy


def test_compression_by_hand():
    envelope = np.array([[1.0, 0.1, 0.01, 1e-4]])  # 0, -20, -40 and -80 dB
    # Of 50 dB, with a gain of -10: 10, 30, 50 and 90 dB below white.
    assert phantom.compress(envelope, np.array(-10.0), 50.0).tolist() == [[204, 102, 0, 0]]


@pytest.mark.parametrize(
    "name, value",
    [
        ("num_patients", 0),
        ("images_per_patient", 0),
        ("seed", -1),
        ("size", 8),
        ("size", 100_000),
        ("num_workers", 0),
        ("coarseness", 1.5),
        ("coarseness", float("nan")),
    ],
)
def test_arguments_out_of_range_are_refused_and_nothing_is_written(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        generate(tmp_path / "phantom", **{name: value})
    assert not (tmp_path / "phantom").exists()


def run_prepare(*arguments):
    """The exit code of the script."""
    try:
        return runpy.run_path(PREPARE)["main"](["phantom", *arguments])
    except SystemExit as end:
        return end.code


def test_prepare_writes_the_splits_into_the_default_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    options = "--patients", "8", "--images-per-patient", "1", "--size", "48", "--folds", "2"
    assert run_prepare(*options) == 0
    root = tmp_path / "phantom"
    written = contents(root)
    splits = {name: json.loads(text) for name, text in written.items() if name.endswith(".json")}
    names = ["all.json", "all_train.json", "all_val.json"]
    names += [f"fold{fold}_{split}.json" for fold in (1, 2) for split in ("test", "train", "val")]
    assert sorted(splits) == names
    for content in splits.values():
        assert validate_bbui(content, root) == []
        assert all(len(image["true_bbox"]) == 4 for image in content["images"])
    assert "malignant" in capsys.readouterr().out

    assert run_prepare(*options) == 0
    assert contents(root) == written


@pytest.mark.parametrize(
    "options",
    [
        ("--folds", "1"),
        ("--patients", "9"),
        ("--patients", "7", "--folds", "2"),
        ("--coarseness", "2"),
        ("--size", "8"),
    ],
)
def test_prepare_refuses_bad_options_and_writes_nothing(tmp_path, options):
    assert run_prepare("--root", str(tmp_path / "phantom"), *options) == 2
    assert not (tmp_path / "phantom").exists()
