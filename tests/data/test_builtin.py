import subprocess
import sys

import pytest

from detectron2.data import DatasetCatalog, MetadataCatalog
from tsdd_d2.data import BBUIError, ensure_registered, register_bbui_instances
from tsdd_d2.data.files import write_json


@pytest.mark.parametrize(
    "dataset, split",
    [("phantom", "fold1_train"), ("my_clinic", "fold7_val"), ("my_clinic", "all_train"), ("my_clinic", "all")],
)
def test_a_name_by_convention_is_found_where_the_variable_points_now(dataset, split, bbui, root, monkeypatch):
    folder, name = root / "data" / dataset, f"{dataset}_{split}"
    write_json(folder / "annotations" / f"{split}.json", bbui)
    (folder / "Images").symlink_to(root / "Images")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root / "data"))
    ensure_registered(name)
    assert DatasetCatalog.get(name)[0]["file_name"] == str(folder / "Images/1.png")
    assert MetadataCatalog.get(name).image_root == str(folder)


@pytest.mark.parametrize(
    "name, command",
    [
        ("busbra_fold2_test", "python datasets/prepare.py busbra"),
        ("clinic_fold2_test", "python datasets/prepare.py csv"),
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


def test_a_fold_that_is_not_there_names_those_that_are(bbui, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    for split in ("fold1_train", "fold1_test", "all_train"):
        write_json(tmp_path / f"clinic/annotations/{split}.json", bbui)
    with pytest.raises(BBUIError, match="There are clinic_all_train, clinic_fold1_train"):
        ensure_registered("clinic_fold6_train")


@pytest.mark.parametrize("name", ["phantom/", "./phantom", "/data/phantom"])
def test_a_path_is_no_name(name):
    with pytest.raises(BBUIError, match="without slashes"):
        ensure_registered(f"{name}_fold1_train")


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
        "import detectron2.data, detectron2.engine, numpy.testing, tqdm\n"
        "names = []\n"
        "sys.addaudithook(lambda event, args: names.append(str(args[0])) if event == 'open' else None)\n"
        "import tsdd_d2.data\n"
        "assert not [name for name in names if name.endswith('.json')], names\n"
        "from detectron2.data import DatasetCatalog\n"
        "print(sum(name.startswith(('busbra_', 'busi_', 'phantom_')) for name in DatasetCatalog.list()))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "54"
