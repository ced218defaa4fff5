"""The semi-supervised methods in two processes: the unlabelled images are divided too, and both end with the same weights."""

import torch

from detectron2.engine import launch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from tsdd_d2.methods.pseudo_boxes import LABELLED, UNLABELLED, WEAK, of

from .teachers import batch_of, trainer_for

# images in a batch, and unlabelled ones of each process
METHODS = {"unbiased_teacher": ("4", 1), "soft_teacher": ("10", 4)}


def step_on_a_rank(folder):
    for method, (size, unlabelled) in METHODS.items():
        trainer = trainer_for(method, f"{folder}/{method}", "SOLVER.IMS_PER_BATCH", size)
        batch = batch_of(trainer)
        ids = [x["image_id"] for x in of(batch, UNLABELLED, WEAK)]
        assert len(ids) == unlabelled and len({x["image_id"] for x in of(batch, LABELLED)}) == 1
        with EventStorage(trainer.iter) as trainer.storage:
            trainer.run_step()
        weights = torch.cat([x.detach().flatten() for x in trainer.trained_network.parameters()])
        assert torch.equal(*comm.all_gather(weights)), method
        first, second = comm.all_gather(ids)
        assert not set(first) & set(second), method


def test_both_processes_end_with_the_same_weights(tmp_path, tiny_dataset):
    launch(step_on_a_rank, 2, dist_url="auto", args=(str(tmp_path),))
