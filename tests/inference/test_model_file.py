"""Model files: one file, read without data set and initial weights, and nothing else taken for one."""

import hashlib
import json
import os
import shutil

import pytest
import torch

import tsdd_d2
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from tsdd_d2.engine.checkpoint import TSDDCheckpointer
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.engine.seen_patients import seen_patients
from tsdd_d2.errors import InputError
from tsdd_d2.inference.model_file import FIELDS, load_model, save_model, save_model_of_run
from tsdd_d2.modeling import TSDDStage1

from ..conftest import TINY_CONFIG

TRAINING_SET = {"name": "tiny_fold1_train", "sha256": "0" * 64}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model(load_config(TINY_CONFIG))


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    """Tests must not change this file."""
    path = tmp_path_factory.mktemp("saved") / "models" / "model.pth"
    save_model(path, load_config(TINY_CONFIG), model, threshold=0.3, training_set=TRAINING_SET)
    return path


@pytest.fixture
def path(saved, tmp_path):
    """A copy to spoil."""
    return shutil.copy(saved, tmp_path / "model.pth")


def spoil(path, **changes):
    """Rewrites a model file with other contents; None removes an entry."""
    content = {**torch.load(path, weights_only=True), **changes}
    torch.save({key: value for key, value in content.items() if value is not None}, path)


def test_one_file_holds_it_all(saved):
    content = torch.load(saved, weights_only=True)
    assert os.listdir(saved.parent) == ["model.pth"]
    assert content.keys() == {"format_version", "patients", "validation_patients", *FIELDS}
    assert content["config"] == load_config(TINY_CONFIG).dump()
    assert content["preprocessing"] == {
        "format": "RGB",
        "min_size": 64,
        "max_size": 96,
        "pixel_mean": [123.675, 116.28, 103.53],
        "pixel_std": [58.395, 57.12, 57.375],
    }
    assert content["class_names"] == ["benign", "malignant"]
    assert content["threshold"] == 0.3 and content["training_set"] == TRAINING_SET
    assert content["package_version"] == tsdd_d2.__version__


def test_a_loaded_model_is_the_saved_one(saved, model, tiny_cfg):
    loaded = load_model(saved, device="cpu")
    assert not loaded.model.training
    assert loaded.threshold == 0.3 and loaded.class_names == ("benign", "malignant")
    assert loaded.training_set == TRAINING_SET
    weights = model.state_dict()
    assert weights.keys() == loaded.model.state_dict().keys()
    assert all(torch.equal(x, weights[key]) for key, x in loaded.model.state_dict().items())
    assert loaded.cfg.REFINEMENT == tiny_cfg.REFINEMENT


def test_neither_data_set_nor_initial_weights_are_needed(tiny_cfg, model, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "nowhere"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no_cache"))
    tiny_cfg.MODEL.WEIGHTS = "torchvision://ResNet18_Weights.IMAGENET1K_V1"
    tiny_cfg.MODEL.CNET.WEIGHTS = str(tmp_path / "gone.pth")
    save_model(tmp_path / "model.pth", tiny_cfg, model, threshold=0.5, training_set=TRAINING_SET)
    assert load_model(tmp_path / "model.pth").cfg.MODEL.CNET.WEIGHTS == ""


def test_keys_that_are_newer_than_the_file_have_their_defaults(path):
    text = torch.load(path, weights_only=True)["config"]
    spoil(path, config=text.replace("    RANKING: expected_iou\n", ""))
    assert load_model(path).cfg.MODEL.DNET.RANKING == "expected_iou"


def test_another_meta_architecture(tiny_cfg, tmp_path):
    class OtherStage(TSDDStage1):
        pass

    META_ARCH_REGISTRY.register(OtherStage)
    tiny_cfg.MODEL.META_ARCHITECTURE = "OtherStage"
    try:
        save_model(tmp_path / "model.pth", tiny_cfg, build_model(tiny_cfg), threshold=0.5, training_set=TRAINING_SET)
        assert isinstance(load_model(tmp_path / "model.pth").model, OtherStage)
    finally:
        META_ARCH_REGISTRY._obj_map.pop("OtherStage")
    with pytest.raises(InputError, match=r"model\.pth .*needs a part .*OtherStage"):
        load_model(tmp_path / "model.pth")


def test_detectron2_takes_the_weights_from_it(saved, model, tiny_cfg):
    torch.manual_seed(1)
    other = build_model(tiny_cfg)
    TSDDCheckpointer(other).load(str(saved), checkpointables=[])
    assert torch.equal(other.cnet.resnet.conv1.weight, model.cnet.resnet.conv1.weight)


def test_a_checkpoint_is_no_model_file(model, tmp_path):
    TSDDCheckpointer(model, str(tmp_path)).save("model_final", iteration=3)
    with pytest.raises(InputError, match=r"model_final\.pth is no model file; perhaps it is a checkpoint\. tools/save_"):
        load_model(tmp_path / "model_final.pth")


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there(saved, device):
    with pytest.raises(InputError, match=device):
        load_model(saved, device=device)


@pytest.mark.parametrize("content", [b"", b"no such thing", b"PK\x03\x04 cut off"])
def test_a_broken_file_is_named(tmp_path, content):
    (tmp_path / "model.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.pth is no model file, or a damaged one"):
        load_model(tmp_path / "model.pth")


def test_a_truncated_file_is_named(path):
    os.truncate(path, 100_000)
    with pytest.raises(InputError, match=r"model\.pth is no model file, or a damaged one"):
        load_model(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"model\.pth does not exist"):
        load_model(tmp_path / "model.pth")
    with pytest.raises(InputError, match="is a folder.*save_model"):
        load_model(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"model\.onnx is an exported model"):
        load_model(tmp_path / "model.onnx")


def test_a_file_of_before_the_patients_were_kept_is_read(path):
    spoil(path, patients=None)
    load_model(path)
    assert seen_patients(str(path)) is None


def test_nothing_is_executed(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"format_version": 1, "model": Payload()}, tmp_path / "model.pth")
    with pytest.raises(InputError, match=r"model\.pth"):
        load_model(tmp_path / "model.pth")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"format_version": 2, "package_version": "9.0"}, r"format 2 \(tsdd_d2 9\.0\).*reads format 1"),
        ({"threshold": None, "class_names": "benign"}, "class_names, threshold missing or malformed"),
        ({"threshold": float("nan")}, "threshold"),
        ({"threshold": 5.0}, "threshold"),
        ({"class_names": []}, "class_names"),
        ({"training_set": {"name": 3}}, "training_set"),
        ({"preprocessing": {}}, "preprocessing"),
        ({"preprocessing": {"format": "RGB", "min_size": 30000, "max_size": 96}}, "preprocessing"),
        ({"config": "[not: closed"}, "configuration"),
        ({"config": "- MODEL"}, "configuration"),
        ({"config": "MODEL: {NO_SUCH_KEY: 1}"}, r"(?s)written by tsdd_d2 .*NO_SUCH_KEY"),
        ({"config": "INPUT: {MIN_SIZE_TEST: 30000}"}, r"INPUT\.MIN_SIZE_TEST"),
        ({"model": {}}, "the weights do not fit"),
        ({"model": {"dnet": 3}}, "model"),
    ],
)
def test_what_is_wrong_with_a_file(path, changes, message):
    spoil(path, **changes)
    with pytest.raises(InputError, match=message) as error:
        load_model(path)
    assert "model.pth" in str(error.value)


def test_weights_of_a_diverged_training_are_refused(path):
    weights = torch.load(path, weights_only=True)["model"]
    weights["cnet.resnet.conv1.weight"][0] = float("nan")
    spoil(path, model=weights)
    with pytest.raises(InputError, match=r"model\.pth: some weights are not finite"):
        load_model(path)


@pytest.mark.parametrize("name, threshold", [("model.bin", 0.5), ("model.pth", 1.5), ("model.pth", float("nan"))])
def test_nothing_is_written_for_a_bad_request(tiny_cfg, model, tmp_path, name, threshold):
    with pytest.raises(InputError):
        save_model(tmp_path / "models" / name, tiny_cfg, model, threshold=threshold, training_set=TRAINING_SET)
    assert not (tmp_path / "models").exists()


def test_the_model_of_a_run(finished_run, session_datasets, tmp_path):
    """The last weights. The data set need not be where the variable says."""
    save_model_of_run(finished_run, tmp_path / "model.pth")
    loaded = load_model(tmp_path / "model.pth")
    weights = torch.load(finished_run / "model_final.pth", weights_only=True)["model"]
    assert all(torch.equal(x, weights[key]) for key, x in loaded.model.state_dict().items())
    annotation = (session_datasets / "tiny" / "annotations" / "fold1_train.json").read_bytes()
    assert loaded.training_set == {
        "name": "tiny_fold1_train",
        "sha256": hashlib.sha256(annotation).hexdigest(),
    }
    assert loaded.threshold == 0.5
    assert seen_patients(str(tmp_path / "model.pth")) == seen_patients(str(finished_run / "model_final.pth"))


def test_it_tells_no_paths_of_the_machine_that_trained(finished_run, tmp_path):
    save_model_of_run(finished_run, tmp_path / "model.pth")
    assert str(finished_run.parent) not in torch.load(tmp_path / "model.pth", weights_only=True)["config"]


def test_in_half_precision(finished_run, tmp_path):
    for half in (False, True):
        save_model_of_run(finished_run, tmp_path / f"{half}.pth", half=half)
    exact, halved = (load_model(tmp_path / f"{half}.pth").model.state_dict() for half in (False, True))
    assert os.path.getsize(tmp_path / "True.pth") < 0.55 * os.path.getsize(tmp_path / "False.pth")
    for key, x in exact.items():
        if x.dim() > 1:
            assert torch.equal(halved[key], x.half().float()), key
        else:
            assert torch.equal(halved[key], x), key
    # what is in memory stays as it was
    assert {x.dtype for x in exact.values() if x.is_floating_point()} == {torch.float32}


def test_a_checkpoint_of_the_run_is_not_replaced(finished_run):
    before = (finished_run / "model_final.pth").read_bytes()
    with pytest.raises(InputError, match="model_final.pth is a checkpoint of the run"):
        save_model_of_run(finished_run, finished_run / "rois" / ".." / "model_final.pth")
    assert (finished_run / "model_final.pth").read_bytes() == before


def test_the_threshold_of_a_run(finished_run, tmp_path):
    run = tmp_path / "run"
    (run / "inference" / "model_final" / "val").mkdir(parents=True)
    config = (finished_run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("YOUDEN_THRESHOLD: false", "YOUDEN_THRESHOLD: true"))
    (run / "run.json").symlink_to(finished_run / "run.json")
    (run / "model_final.pth").symlink_to(finished_run / "model_final.pth")
    with pytest.raises(InputError, match="left no threshold for model_final"):
        save_model_of_run(run, tmp_path / "model.pth")
    (run / "inference/model_final/val/diagnosis_tiny_fold1_val.json").write_text('{"youden_threshold": 0.25}')
    save_model_of_run(run, tmp_path / "model.pth")
    assert load_model(tmp_path / "model.pth").threshold == 0.25


def test_the_threshold_of_a_sensitivity(finished_run, tmp_path):
    run = tmp_path / "run"
    (run / "inference").mkdir(parents=True)
    for name in ("config.yaml", "run.json", "model_final.pth"):
        (run / name).symlink_to(finished_run / name)
    with pytest.raises(InputError, match="diagnosis_tiny_fold1_val.json"):
        save_model_of_run(run, tmp_path / "model.pth", sensitivity=0.95)
    predictions = [{"label": label, "malignancy": x} for label, x in [(1, 0.9), (0, 0.8), (1, 0.6), (1, 0.3), (0, 0.1)]]
    (run / "inference/diagnosis_tiny_fold1_val.json").write_text(json.dumps({"predictions": predictions}))
    assert save_model_of_run(run, tmp_path / "model.pth", sensitivity=0.6) == pytest.approx(0.45)
    assert save_model_of_run(run, tmp_path / "model.pth", sensitivity=0.95) == pytest.approx(0.2)
    assert load_model(tmp_path / "model.pth").threshold == pytest.approx(0.2)
    with pytest.raises(InputError, match="sensitivity"):
        save_model_of_run(run, tmp_path / "model.pth", sensitivity=1.5)


def test_a_run_without_the_checkpoint(finished_run, tmp_path):
    with pytest.raises(InputError, match=r"no checkpoint model_7; it has .*model_final"):
        save_model_of_run(finished_run, tmp_path / "model.pth", "model_7")
    assert os.listdir(tmp_path) == []
