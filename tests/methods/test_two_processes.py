"""Methods in two processes: the unlabelled images are divided too, and both end with the same weights."""

import torch

from detectron2.engine import launch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from tsdd_d2.engine.checks import check_data
from tsdd_d2.engine.trainer import trainer_of
from tsdd_d2.methods.pseudo_boxes import LABELLED, UNLABELLED, WEAK, of

from . import test_detectors, test_stac
from .teachers import batch_of, trainer_for

# images in a batch, and unlabelled ones of each process
TEACHERS = {"unbiased_teacher": ("4", 1), "soft_teacher": ("10", 4)}
OTHERS = ("yolov4", "yolov7", "spa")


def step_on_a_rank(folder, first_run):
    for method, (size, unlabelled) in TEACHERS.items():
        trainer = trainer_for(method, f"{folder}/{method}", "SOLVER.IMS_PER_BATCH", size)
        batch = batch_of(trainer)
        ids = [x["image_id"] for x in of(batch, UNLABELLED, WEAK)]
        assert len(ids) == unlabelled and len({x["image_id"] for x in of(batch, LABELLED)}) == 1
        step(trainer, ids)
    trainer = test_stac.student(first_run, folder)
    assert len(trainer.boxes) == 8
    step(trainer, [x["image_id"] for x in of(batch_of(trainer), UNLABELLED)])
    for method in OTHERS:
        cfg = test_detectors.configuration(method, f"{folder}/{method}")
        check_data(cfg)
        trainer = trainer_of(cfg)(cfg)
        trainer.resume_or_load(resume=False)
        trainer.before_train()
        step(trainer, [x["image_id"] for x in batch_of(trainer)])


def step(trainer, ids):
    """A step, after which both processes have the same weights; ``ids`` are those of the images of this one."""
    with EventStorage(trainer.iter) as trainer.storage:
        trainer.run_step()
    weights = torch.cat([x.detach().flatten() for x in trainer.trained_network.parameters()])
    assert torch.equal(*comm.all_gather(weights)), trainer.method.name
    first, second = comm.all_gather(ids)
    assert first and not set(first) & set(second), trainer.method.name


def test_both_processes_end_with_the_same_weights(tmp_path, tiny_dataset):
    first_run = test_stac.finished_teacher(tmp_path / "first")
    launch(step_on_a_rank, 2, dist_url="auto", args=(tmp_path, first_run))
