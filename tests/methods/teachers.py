"""Tiny runs of the semi-supervised methods."""

import json
import os
import shutil

import torch

from detectron2.utils.events import EventStorage
from tsdd_d2.engine.checks import check_config, check_data
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.engine.trainer import trainer_of

from .tiny import tiny_overrides

BURN_IN = 2
# half a million weights
SMALL = [
    "MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.BACKBONE.MODEL", "test_resnet", "MODEL.ROI_BOX_HEAD.FC_DIM", "32",
]  # fmt: skip


def configuration(method, output_dir, *overrides):
    teacher = ["TEACHER.BURN_IN", str(BURN_IN), "TEACHER.THRESHOLD", "0.2"]
    options = [*tiny_overrides(), *SMALL, *teacher, "OUTPUT_DIR", str(output_dir), *overrides]
    return load_config(opts=options, method=method, profile="scratch")


def trainer_for(method, output_dir, *overrides, burn_in=False):
    """A trainer with its initial weights, which are its teacher's too, and the loader for the burn-in or what follows."""
    cfg = configuration(method, output_dir, *overrides)
    check_config(cfg)
    check_data(cfg)
    torch.manual_seed(0)
    trainer = trainer_of(cfg)(cfg)
    trainer.resume_or_load(resume=False)
    trainer.averaging.before_train()
    return at_iteration(trainer, 0 if burn_in else BURN_IN)


def at_iteration(trainer, iteration):
    trainer.iter = trainer.start_iter = iteration
    trainer.load_images()
    return trainer


def batch_of(trainer) -> list:
    return next(iter(trainer._trainer.data_loader))


def losses_of(trainer, batch) -> dict:
    torch.manual_seed(0)
    with EventStorage(trainer.iter):
        return {k: v.item() for k, v in trainer.losses(batch).items()}


def train(cfg, resume=False):
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    trainer = trainer_of(cfg)(cfg)
    trainer.resume_or_load(resume)
    trainer.train()
    return trainer


def check_resume(method, tmp_path, monkeypatch, *overrides):
    """A run that was killed in its burn-in, and one that was killed after it, end as one that was not."""
    monkeypatch.setattr("tsdd_d2.engine.checkpoint.KEPT_CHECKPOINTS", 4)
    options = ("SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "1", "DATASETS.VAL", "()", *overrides)
    whole = configuration(method, tmp_path / "whole", *options)
    check_data(whole)
    expected = train(whole)
    for last in ("model_0000000.pth", "model_0000002.pth"):
        resumed = configuration(method, tmp_path / last, *options)
        restart_from(tmp_path / "whole", tmp_path / last, last)
        trainer = train(resumed, resume=True)
        for network in ("trained_network", "teacher"):
            a, b = (getattr(x, network).state_dict() for x in (expected, trainer))
            assert all(torch.equal(a[key], b[key]) for key in a), (last, network)
        a, b = (noted(x.cfg.OUTPUT_DIR) for x in (expected, trainer))
        assert a == b and "pseudo_boxes/images" in a, last


def noted(run) -> dict:
    """What a run says of its pseudo-boxes in the end."""
    with open(os.path.join(run, "metrics.json"), encoding="utf-8") as file:
        *_, last = map(json.loads, file)
    return {k: v for k, v in last.items() if k.startswith("pseudo_boxes/")}


def restart_from(run, folder, last):
    """A folder as a run that was killed after a checkpoint leaves it; checkpoints are large."""
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("*.pth"))
    os.link(run / last, folder / last)
    (folder / "last_checkpoint").write_text(last)
