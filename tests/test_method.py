from dataclasses import replace

import pytest

from detectron2.modeling import META_ARCH_REGISTRY
from tsdd_d2.config import get_tsdd_cfg
from tsdd_d2.engine.checks import check_config
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.errors import InputError
from tsdd_d2.method import METHODS, PROFILES, method_of, paper_row, register_method


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_configuration_that_can_be_run(method, profile):
    cfg = load_config(method=method, profile=profile, data="mine", fold=3)
    assert METHODS[method].architecture in META_ARCH_REGISTRY
    assert method_of(cfg) is METHODS[method]
    assert cfg.DATASETS.TRAIN == ("mine_fold3_train",) and cfg.OUTPUT_DIR == f"output/{method}_mine_fold3"
    assert cfg.DATASETS.P == 1.0  # nobody's boxes are withheld unasked
    check_config(cfg)


def test_overrides_follow_the_profile_and_are_followed_by_the_users(tmp_path):
    assert load_config(method="retinanet").MODEL.BACKBONE.NAME == "build_timm_fpn_backbone"
    assert load_config(method="retinanet", profile="scratch").SOLVER.MAX_ITER == 2400
    assert load_config(method="retinanet", profile="paper").SOLVER.MAX_ITER == 19000
    assert load_config(opts=["SOLVER.MAX_ITER", "7"], method="retinanet").SOLVER.MAX_ITER == 7
    (tmp_path / "mine.yaml").write_text("SOLVER: {MAX_ITER: 30}")
    # a file of one's own is a profile of one's own
    cfg = load_config(str(tmp_path / "mine.yaml"), method="retinanet")
    assert (cfg.SOLVER.MAX_ITER, cfg.MODEL.RETINANET.NUM_CLASSES) == (30, 2)


def test_a_configuration_without_a_name_is_known_by_its_network():
    cfg = get_tsdd_cfg()
    for architecture, name in (("TSDDStage1", "tsddnet_stage1"), ("TSDDStage2", "tsddnet"), ("CNetOnROI", "cnet_oracle")):
        cfg.MODEL.META_ARCHITECTURE = architecture
        assert method_of(cfg).name == name


@pytest.mark.parametrize(
    "method, architecture", [("", "GeneralizedRCNN"), ("nobody", "TSDDStage1"), ("retinanet", "TSDDStage1")]
)
def test_a_method_that_is_none(method, architecture):
    cfg = get_tsdd_cfg()
    cfg.METHOD, cfg.MODEL.META_ARCHITECTURE = method, architecture
    with pytest.raises(InputError, match="METHOD|META_ARCHITECTURE"):
        method_of(cfg)


def test_names_are_unique(monkeypatch):
    monkeypatch.setattr("tsdd_d2.method.METHODS", dict(METHODS))
    with pytest.raises(ValueError, match="retinanet"):
        register_method(METHODS["retinanet"])
    assert not METHODS["tsddnet"].is_part and METHODS["tsddnet_stage1"].is_part
    assert METHODS["stac"].starts_from == "faster_rcnn" and not METHODS["faster_rcnn"].is_part  # it has a row of its own
    assert register_method(replace(METHODS["tsddnet"], name="mine")).name == "mine"


def test_a_row_as_it_is_printed():
    row = paper_row("table1 table3", 0.2, "1.5±0.5 2±1 3±1 4±1", auc=0.9)
    assert (
        row.tables == ("table1", "table3")
        and row.metrics["accuracy"] == (1.5, 0.5)
        and row.metrics["youden_index"] == (4, 1)
    )
