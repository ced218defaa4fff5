"""Variants of both stages, as a plug-in adds them: subclasses with a trainer are treated as the stages that they vary."""

from dataclasses import replace

import pytest
from torch import nn

from detectron2.modeling import META_ARCH_REGISTRY
from tsdd_d2.data import ensure_registered
from tsdd_d2.engine.checks import check_config, check_network
from tsdd_d2.engine.run_folder import RunRecord, check_first_run, differences_of_files
from tsdd_d2.engine.trainer import trainer_of
from tsdd_d2.errors import InputError
from tsdd_d2.method import METHODS
from tsdd_d2.modeling import TSDDStage1, TSDDStage2
from tsdd_d2.refinement import ROIBank

from ..tools.test_tools import main_of


class MyStage1(TSDDStage1):
    def __init__(self, *arguments, **networks):
        super().__init__(*arguments, **networks)
        self.mine = nn.Linear(2, 1)  # a part that the second stage does not take over


class MyStage2(TSDDStage2):
    pass


@pytest.fixture
def variants(monkeypatch):
    for variant, of in ((MyStage1, "tsddnet_stage1"), (MyStage2, "tsddnet")):
        name = variant.__name__
        monkeypatch.setitem(META_ARCH_REGISTRY._obj_map, name, variant)
        monkeypatch.setitem(METHODS, name, replace(METHODS[of], name=name, architecture=name))


@pytest.fixture
def second_stage(variants, tiny_cfg, tiny_dataset, tmp_path):
    """The configuration of a second stage on a finished run of a variant of the first one."""
    for split in ("train", "val", "test"):
        ensure_registered(f"tiny_fold1_{split}")
    tiny_cfg.MODEL.META_ARCHITECTURE, tiny_cfg.MODEL.DNET.RANKING = "MyStage1", "quality"
    tiny_cfg.SOLVER.MAX_ITER, tiny_cfg.REFINEMENT.WARMUP_ITER, tiny_cfg.TEST.EVAL_PERIOD = 2, 0, 0
    first = tiny_cfg.clone()
    check_config(first)
    check_network(first)
    trainer = trainer_of(first)(first)
    trainer.resume_or_load(resume=False)
    trainer.train()
    (tmp_path / "run" / "config.yaml").write_text(first.dump())
    tiny_cfg.MODEL.META_ARCHITECTURE, tiny_cfg.MODEL.DNET.RANKING = "MyStage2", "quality"
    tiny_cfg.REFINEMENT.ENABLED = False
    tiny_cfg.MODEL.WEIGHTS, tiny_cfg.OUTPUT_DIR = first.OUTPUT_DIR, str(tmp_path / "second")
    return tiny_cfg


def test_a_variant_of_the_second_stage_goes_on_from_a_variant_of_the_first(second_stage, monkeypatch):
    run = second_stage.MODEL.WEIGHTS
    first = RunRecord.read(run)
    assert (first.status, first.architecture, first.rule, first.rounds) == ("finished", "MyStage1", "class_guided", 2)
    assert ROIBank(f"{run}/rois").rounds() == [0, 1, 2]
    assert main_of("explain_selection")(["--run", run, "--candidates", "2"]) == 0

    check_config(second_stage)
    check_network(second_stage)
    record = RunRecord.of(second_stage)
    assert (record.architecture, record.rule, record.rounds) == ("MyStage2", "class_guided", 0)
    trainer = trainer_of(second_stage)(second_stage)
    trainer.resume_or_load(resume=False)
    record.write(second_stage.OUTPUT_DIR)
    assert differences_of_files(second_stage) == []
    bank = ROIBank(f"{run}/rois")
    bank.write(2, {**bank.read(2), "annotations": bank.read(2)["annotations"][1:]})
    assert differences_of_files(second_stage) == [f"MODEL.WEIGHTS {run}: its last round has other ROIs"]

    second_stage.REFINEMENT.RULE = "pseudo_label"
    with pytest.raises(InputError, match=r"REFINEMENT\.RULE: class_guided there, pseudo_label now"):
        check_network(second_stage)
    monkeypatch.delitem(META_ARCH_REGISTRY._obj_map, "MyStage1")
    with pytest.raises(InputError, match="a run of MyStage1, which nothing here registers"):
        check_first_run(second_stage)
    assert main_of("explain_selection")(["--run", run]) == 2


@pytest.mark.parametrize("architecture", ["MyStage2", "DiagnosingRetinaNet"])
def test_only_what_has_rounds_has_refinement(variants, tiny_cfg, architecture):
    tiny_cfg.MODEL.META_ARCHITECTURE = architecture
    with pytest.raises(InputError, match=rf"{architecture} has no rounds: REFINEMENT\.ENABLED must be False"):
        check_config(tiny_cfg)
