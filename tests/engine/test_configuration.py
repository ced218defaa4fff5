import os

import pytest

from tsdd_d2.engine.checks import check_config
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.errors import InputError


@pytest.mark.parametrize("name", sorted(os.listdir(os.path.join(os.path.dirname(__file__), "../../configs"))))
def test_every_shipped_configuration_is_valid(name):
    if not name.startswith("Base-"):
        check_config(load_config(os.path.join(os.path.dirname(__file__), "../../configs", name)))


@pytest.mark.parametrize(
    "stage, learning_rate, minibatch, weight_of_pa, has_rounds",
    [("tsdd_stage1", 1e-4, 8, 0.8, True), ("tsdd_stage2", 1e-5, 16, 1.0, False)],
)
def test_the_papers_values_are_in_the_papers_configuration(stage, learning_rate, minibatch, weight_of_pa, has_rounds):
    cfg = load_config(os.path.join(os.path.dirname(__file__), f"../../configs/{stage}.yaml"))
    assert (cfg.SOLVER.OPTIMIZER, cfg.SOLVER.BASE_LR, cfg.SOLVER.IMS_PER_BATCH) == ("Adam", learning_rate, minibatch)
    assert (cfg.MODEL.DNET.ALPHA, cfg.MODEL.CNET.BETA) == (weight_of_pa, weight_of_pa)
    assert (cfg.REFINEMENT.ENABLED, cfg.REFINEMENT.ROUNDS) == (has_rounds, 10)
    # "the standard smooth L1 loss"
    assert cfg.MODEL.RETINANET.SMOOTH_L1_LOSS_BETA == 1.0
    assert (cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.CNET.DEPTH, cfg.MODEL.CNET.INPUT_SIZE) == (34, 18, 224)
    assert (cfg.MODEL.CNET.CONTEXT, cfg.MODEL.CNET.ROI_JITTER, cfg.MODEL.DNET.INPUT_STRIDE) == (1.0, 0.0, 1)


def test_all_patients_have_no_test_set():
    cfg = load_config(method="tsddnet", data="clinic", fold="all")
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.VAL, cfg.DATASETS.TEST) == (("clinic_all_train",), ("clinic_all_val",), ())
    assert cfg.OUTPUT_DIR == os.path.join("output", "tsddnet_clinic_all")


def test_the_first_fold_is_the_default():
    assert load_config(data="clinic").DATASETS.TRAIN == ("clinic_fold1_train",)


def test_without_cuda_the_cpu_takes_over_with_a_warning(monkeypatch, caplog):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    cfg = load_config("", ["MODEL.DEVICE", "cuda:1"])
    assert cfg.MODEL.DEVICE == "cpu" and "MODEL.DEVICE is cpu instead of cuda:1" in caplog.text


def test_yaml_is_read_by_the_safe_loader(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text(f"OUTPUT_DIR: !!python/object/apply:os.mkdir ['{tmp_path}/executed']\n")
    with pytest.raises(InputError):
        load_config(str(path))
    assert not (tmp_path / "executed").exists()
