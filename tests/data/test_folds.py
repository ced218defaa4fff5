import collections

import pytest

from tsdd_d2.data import (
    BBUIError,
    assign_folds,
    count_table,
    draw_fully_annotated,
    keep_rois,
    patient_classes,
    split_patients,
    write_splits,
)
from tsdd_d2.data.files import read_json
from tsdd_d2.errors import InputError

# 70 benign and 30 malignant patients.
PATIENTS = {f"p{number:03d}": 1 if number < 70 else 2 for number in range(100)}


def bbui_of(patients):
    """Two images of each patient, with one ROI each."""
    images = [
        {"file_name": f"{name}_{view}.png", "patient_id": name, "category_id": category}
        for name, category in patients.items()
        for view in range(2)
    ]
    size = {"height": 9, "width": 9}
    images = [{"id": number, **image, **size} for number, image in enumerate(images, start=1)]
    annotations = [
        {
            "id": image["id"],
            "image_id": image["id"],
            "category_id": image["category_id"],
            "bbox": [1.0, 1.0, 3.0, 3.0],
            "area": 9.0,
            "iscrowd": 0,
        }
        for image in images
    ]
    categories = [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}]
    return {"info": {}, "categories": categories, "images": images, "annotations": annotations}


def count_classes(names):
    return collections.Counter(PATIENTS[name] for name in names)


def test_every_patient_is_tested_once_and_folds_have_the_class_mix_of_all():
    folds = assign_folds(PATIENTS, seed=3)
    assert set(folds) == set(PATIENTS)
    for fold in range(1, 6):
        assert count_classes(name for name in PATIENTS if folds[name] == fold) == {1: 14, 2: 6}


def test_folds_depend_on_the_seed_alone():
    shuffled = dict(reversed(PATIENTS.items()))
    assert assign_folds(PATIENTS, seed=3) == assign_folds(shuffled, seed=3) != assign_folds(PATIENTS, seed=4)


def test_too_few_patients_of_a_class_are_refused():
    with pytest.raises(BBUIError, match="at least 5 malignant patients, found 4"):
        assign_folds({f"p{number}": 1 if number < 20 else 2 for number in range(24)})


def test_a_fold_is_70_10_20_disjoint_and_stratified():
    folds = assign_folds(PATIENTS, seed=0)
    validated = []
    for fold in range(1, 6):
        split = split_patients(PATIENTS, folds, fold, seed=0)
        assert set().union(*split.values()) == set(PATIENTS)
        assert {name: len(members) for name, members in split.items()} == {"train": 70, "val": 10, "test": 20}
        assert split["test"] == {name for name in PATIENTS if folds[name] == fold}
        assert count_classes(split["val"]) == {1: 7, 2: 3}
        validated.append(frozenset(split["val"]))
    assert len(set(validated)) == 5


def test_all_patients_but_those_that_validate_are_trained_on_where_none_is_tested(tmp_path):
    folds = assign_folds(PATIENTS, seed=0)
    split = split_patients(PATIENTS, folds, "all", seed=0)
    assert {name: len(members) for name, members in split.items()} == {"train": 90, "val": 10, "test": 0}
    assert split["train"] | split["val"] == set(PATIENTS)
    assert count_classes(split["val"]) == {1: 7, 2: 3}
    write_splits(bbui_of(PATIENTS), tmp_path, folds, seed=0)
    assert sorted(path.name for path in tmp_path.glob("all*")) == ["all.json", "all_train.json", "all_val.json"]
    assert read_json(tmp_path / "all.json") == bbui_of(PATIENTS)
    for name in ("train", "val"):
        assert {x["patient_id"] for x in read_json(tmp_path / f"all_{name}.json")["images"]} == split[name]


def test_both_classes_are_validated_even_in_a_tiny_data_set():
    patients = {f"p{number:02d}": 1 if number < 8 else 2 for number in range(10)}
    split = split_patients(patients, {name: 1 + index % 2 for index, name in enumerate(patients)}, 1)
    assert sorted(patients[name] for name in split["val"]) == [1, 2]


def test_a_patient_with_both_classes_counts_as_malignant():
    bbui = bbui_of({"a": 1, "b": 1})
    bbui["images"][1]["category_id"] = 2
    assert patient_classes(bbui) == {"a": 2, "b": 1}


def test_splits_on_disk_hold_every_image_of_their_patients(tmp_path):
    bbui = bbui_of(PATIENTS)
    splits = write_splits(bbui, tmp_path, assign_folds(PATIENTS, seed=0), seed=0)
    assert len(splits) == 15 + 3
    for fold in range(1, 6):
        images, patients = [], []
        for split in ("train", "val", "test"):
            content = read_json(tmp_path / f"fold{fold}_{split}.json")
            assert content == splits[f"fold{fold}_{split}"]
            ids = [image["id"] for image in content["images"]]
            assert [annotation["image_id"] for annotation in content["annotations"]] == ids
            images += content["images"]
            patients.append({image["patient_id"] for image in content["images"]})
        assert sorted(images, key=lambda image: image["id"]) == bbui["images"]
        assert sum(map(len, patients)) == len(set().union(*patients)) == 100


def test_splits_are_the_same_bytes_every_time(tmp_path):
    for name in ("first", "second"):
        write_splits(bbui_of(PATIENTS), tmp_path / name, assign_folds(PATIENTS, seed=5), seed=5)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


def test_an_official_fold_without_patients_is_left_out_with_a_line(tmp_path, capsys):
    folds = {name: 1 + index % 4 for index, name in enumerate(PATIENTS)}
    others = ("fold5_test.json", "fold5_mine.json")
    for name in others:
        (tmp_path / name).write_text("{}")
    splits = write_splits(bbui_of(PATIENTS), tmp_path, folds)
    assert len(splits) == 12 + 3 and not any(name.startswith("fold5") for name in splits)
    printed = capsys.readouterr().out
    assert "Fold 5 is left out" in printed and "fold5_test.json" in printed
    # of another draw: patients that it tests are trained on in a fold written now
    assert [(tmp_path / name).exists() for name in others] == [False, True]


@pytest.mark.parametrize("folds", [{}, {**dict.fromkeys(PATIENTS, 1), "p000": 6}])
def test_a_patient_without_a_fold_is_refused_and_nothing_is_written(folds, tmp_path):
    with pytest.raises(BBUIError, match="patient 'p000'"):
        write_splits(bbui_of(PATIENTS), tmp_path / "annotations", folds)
    assert not (tmp_path / "annotations").exists()


def test_a_training_split_without_a_class_is_refused_and_nothing_is_written(tmp_path):
    patients = {f"p{number:02d}": 1 if number < 20 else 2 for number in range(22)}
    folds = {name: 1 + index % 2 for index, name in enumerate(patients)}
    # of two malignant patients one is tested, and the other one validates
    with pytest.raises(BBUIError, match="Fold 1 leaves no malignant patient to train on: the data set has 2 of 22"):
        write_splits(bbui_of(patients), tmp_path / "annotations", folds, num_folds=2)
    assert not (tmp_path / "annotations").exists()


def test_if_one_file_cannot_be_written_all_stay_those_of_the_earlier_draw(tmp_path):
    write_splits(bbui_of(PATIENTS), tmp_path, assign_folds(PATIENTS, seed=0), seed=0)
    (tmp_path / "fold3_val.json").unlink()
    (tmp_path / "fold3_val.json").mkdir()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(InputError, match=rf"cannot be written to {tmp_path}.*Is a directory: '.*fold3_val\.json'"):
        write_splits(bbui_of(PATIENTS), tmp_path, assign_folds(PATIENTS, seed=1), seed=1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


# ---------------------------------------------------------------------------------------------- p


@pytest.mark.parametrize("p, benign, malignant", [(0, 0, 0), (0.2, 14, 6), (0.5, 35, 15), (1, 70, 30)])
def test_p_is_the_share_of_patients_in_each_class(p, benign, malignant):
    counts = count_classes(draw_fully_annotated(PATIENTS, p))
    assert (counts[1], counts[2]) == (benign, malignant)


@pytest.mark.parametrize("p, expected", [(0.001, 1), (0.014, 1), (0.015, 2), (0.024, 2), (0.976, 98)])
def test_the_number_is_rounded_to_the_nearest_and_at_least_one(p, expected):
    assert len(draw_fully_annotated(PATIENTS, p)) == expected


def test_the_draw_is_nested_and_seeded():
    draws = [draw_fully_annotated(PATIENTS, step / 20, seed=7) for step in range(21)]
    assert all(smaller < larger for smaller, larger in zip(draws, draws[1:]))
    assert draws[4] == draw_fully_annotated(dict(reversed(PATIENTS.items())), 0.2, seed=7)
    assert draws[4] != draw_fully_annotated(PATIENTS, 0.2, seed=8)


def test_every_share_has_the_class_mix_of_all_to_within_one_patient():
    for number in range(1, 101):
        malignant = count_classes(draw_fully_annotated(PATIENTS, number / 100))[2]
        assert abs(malignant - 0.3 * number) < 1


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(p):
    with pytest.raises(ValueError, match="must be in"):
        draw_fully_annotated(PATIENTS, p)


def test_keep_rois_takes_all_rois_of_the_other_patients_and_no_image():
    bbui = bbui_of(PATIENTS)
    before = len(bbui["annotations"])
    kept = keep_rois(bbui, 0.2, seed=1)
    assert kept["images"] == bbui["images"] and len(bbui["annotations"]) == before
    patient_of = {image["id"]: image["patient_id"] for image in bbui["images"]}
    left = collections.Counter(patient_of[annotation["image_id"]] for annotation in kept["annotations"])
    assert left == dict.fromkeys(draw_fully_annotated(PATIENTS, 0.2, seed=1), 2)


def test_p_is_a_share_of_all_patients_also_of_those_without_rois():
    bbui = bbui_of(PATIENTS)
    drawn = draw_fully_annotated(PATIENTS, 0.5, seed=0)
    without = set(sorted(drawn)[:10])
    images = {image["id"] for image in bbui["images"] if image["patient_id"] in without}
    bbui["annotations"] = [entry for entry in bbui["annotations"] if entry["image_id"] not in images]
    assert len(keep_rois(bbui, 0.5, seed=0)["annotations"]) == 2 * (50 - 10)


def test_the_table_counts_images_patients_and_rois():
    bbui = bbui_of({"a": 1, "b": 1, "c": 2})
    del bbui["annotations"][0]
    bbui["annotations"].append({**bbui["annotations"][-1], "id": 7})
    row = count_table({"all": bbui}).splitlines()[-1].split()
    assert row == ["all", "6", "4", "2", "3", "2", "1", "5", "6"]
