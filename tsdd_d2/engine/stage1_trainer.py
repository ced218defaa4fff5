"""The first training stage (paper III.B): warm-up on fa images, then rounds of candidate selection."""

import os
import weakref
from typing import Dict, List

import torch
from torch.utils.data import DataLoader

from detectron2.data import (
    DatasetCatalog,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.data.build import trivial_batch_collator
from detectron2.data.common import DatasetFromList, MapDataset
from detectron2.engine import DefaultTrainer, SimpleTrainer, TrainerBase, create_ddp_model, hooks
from detectron2.evaluation import DatasetEvaluators
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm

from ..data.draws import DrawSampler, ShardedBatchSampler, TrainingDraws
from ..data.files import read_json
from ..data.folds import keep_rois
from ..data.mapper import BBUIMapper
from ..data.roi import is_fully_annotated
from ..evaluation import DiagnosisEvaluator, LocalisationEvaluator
from ..refinement import CandidateSelectionHook, ROIBank, RoundSchedule
from .checkpoint import TSDDCheckpointer, load_weights
from .hooks import ResumableBestCheckpointer, WeightsBeforeRefinement

OPTIMIZERS = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}


class Stage1Trainer(DefaultTrainer):
    """Trains D-Net and C-Net together while candidate selection rewrites their ROIs.

    A run is a pure function of its configuration on one device: images, augmentation and jitter depend on
    ``SEED`` and the iteration alone, so a resumed run repeats what the interrupted one would have done.
    """

    def __init__(self, cfg):
        # DefaultTrainer.__init__ builds the loader before a hook could know the round, and hands device_ids to DDP,
        # which fails on CPU; this is the same set-up without these two.
        TrainerBase.__init__(self)
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        on_cpu = {"device_ids": None} if cfg.MODEL.DEVICE == "cpu" else {}
        model = create_ddp_model(model, broadcast_buffers=False, **on_cpu)
        # the loader comes with the first round, see use_round
        self._trainer = SimpleTrainer(model, None, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = TSDDCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.schedule = round_schedule(cfg)
        self.bank = ROIBank(os.path.join(cfg.OUTPUT_DIR, "rois"))
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume=True):
        """See :meth:`DefaultTrainer.resume_or_load`; without a checkpoint it writes round 0 of the ROI bank."""
        if resume and self.checkpointer.has_checkpoint():
            super().resume_or_load(resume=True)
            return
        load_weights(self.checkpointer.model, self.cfg)
        if comm.is_main_process():
            self.bank.write(0, initial_annotation(self.cfg))
        comm.synchronize()

    def build_hooks(self) -> List[hooks.HookBase]:
        cfg = self.cfg
        is_main = comm.is_main_process()
        weights_only = TSDDCheckpointer(self.model, cfg.OUTPUT_DIR, resumable=False)
        return [
            hooks.IterationTimer(),
            hooks.LRScheduler(),
            WeightsBeforeRefinement(weights_only, self.schedule.start(1))
            if is_main and self.schedule.rounds
            else None,
            CandidateSelectionHook(
                dataset_name=cfg.DATASETS.TRAIN[0],
                bank=self.bank,
                schedule=self.schedule,
                build_round_loader=self.build_round_loader,
                reset_train_loader=self.use_round,
                rule=cfg.REFINEMENT.RULE,
                candidates_per_round=cfg.REFINEMENT.CANDIDATES_PER_ROUND,
                min_iou_with_manual=cfg.REFINEMENT.MIN_IOU_WITH_MANUAL,
            ),
            # Evaluation and best checkpoint come before the periodic checkpoint, which then holds their outcome: a
            # run resumed from it neither repeats nor forgets an evaluation.
            hooks.EvalHook(cfg.TEST.EVAL_PERIOD, self.validate) if cfg.DATASETS.VAL else None,
            ResumableBestCheckpointer(cfg.TEST.EVAL_PERIOD, weights_only, "diagnosis/AUC")
            if is_main and cfg.DATASETS.VAL and cfg.TEST.EVAL_PERIOD > 0
            else None,
            hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD, max_to_keep=2)
            if is_main
            else None,
            hooks.PeriodicWriter(self.build_writers(), period=20) if is_main else None,
        ]

    def run_step(self):
        # what the networks draw in a step depends on the iteration alone, not on the steps before
        torch.manual_seed(hash((self.cfg.SEED, self.iter, comm.get_rank())))
        super().run_step()

    def validate(self) -> Dict:
        """Results on DATASETS.VAL, without intervals."""
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.DATASETS.TEST = cfg.DATASETS.VAL
        cfg.TEST.BOOTSTRAP = 0
        return self.test(cfg, self.checkpointer.model)

    def use_round(self, round_number: int) -> None:
        """Rebuilds the train loader on the ROIs that the dataset's catalog entry now names.

        Round 0 trains on the fully annotated images alone.
        """
        cfg = self.cfg
        dataset_dicts = [x for x in DatasetCatalog.get(cfg.DATASETS.TRAIN[0]) if x["annotations"]]
        if round_number == 0:
            dataset_dicts = [x for x in dataset_dicts if is_fully_annotated(x["annotations"])]
        start = self.schedule.start(round_number)
        draws_per_step = cfg.SOLVER.IMS_PER_BATCH
        num_draws = (self.schedule.start(round_number + 1) - start) * draws_per_step
        draws = TrainingDraws(dataset_dicts, _mix(cfg.SEED, round_number), num_draws, draws_per_step)
        sampler = DrawSampler(
            (max(self.iter, self.start_iter) - start) * draws_per_step,
            num_draws,
            comm.get_rank(),
            comm.get_world_size(),
        )
        self._trainer.reset_data_loader(
            lambda: build_detection_train_loader(
                draws,
                mapper=BBUIMapper(cfg, is_train=True),
                sampler=sampler,
                total_batch_size=draws_per_step,
                # TrainingDraws has grouped them
                aspect_ratio_grouping=False,
                num_workers=cfg.DATALOADER.NUM_WORKERS,
                # a loader draws a number when it starts: not from the generator that the networks draw from
                seed=cfg.SEED,
            )
        )

    def build_round_loader(self, dataset_dicts: List[Dict]) -> DataLoader:
        """Batches for one pass of candidate selection: this rank's share of all training images."""
        return round_loader(self.cfg, dataset_dicts)

    @classmethod
    def build_optimizer(cls, cfg, model):
        parameters = get_default_optimizer_params(
            model,
            base_lr=cfg.SOLVER.BASE_LR,
            weight_decay=cfg.SOLVER.WEIGHT_DECAY,
            weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        )
        optimizer = OPTIMIZERS[cfg.SOLVER.OPTIMIZER](parameters, cfg.SOLVER.BASE_LR, fused=True)
        return maybe_add_gradient_clipping(cfg, optimizer)

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        return build_detection_test_loader(
            cfg, dataset_name, mapper=BBUIMapper(cfg, is_train=False)
        )

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        output_dir = os.path.join(cfg.OUTPUT_DIR, "inference")
        return DatasetEvaluators(
            [
                DiagnosisEvaluator(
                    dataset_name, output_dir, bootstrap=cfg.TEST.BOOTSTRAP, seed=cfg.SEED
                ),
                LocalisationEvaluator(
                    dataset_name, output_dir, bootstrap=cfg.TEST.BOOTSTRAP, seed=cfg.SEED
                ),
            ]
        )


def round_schedule(cfg) -> RoundSchedule:
    """The rounds of a configuration; without refinement the warm-up is all there is."""
    if not cfg.REFINEMENT.ENABLED:
        return RoundSchedule(cfg.SOLVER.MAX_ITER, cfg.SOLVER.MAX_ITER, 0)
    return RoundSchedule(
        cfg.REFINEMENT.WARMUP_ITER, cfg.SOLVER.MAX_ITER, cfg.REFINEMENT.ROUNDS
    )


def initial_annotation(cfg) -> Dict:
    """Round 0: the training set's file, with the ROIs of the share p of its patients alone."""
    bbui = read_json(MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).json_file)
    seed = cfg.DATASETS.P_SEED if cfg.DATASETS.P_SEED >= 0 else cfg.SEED
    return keep_rois(bbui, cfg.DATASETS.P, seed)


def round_loader(cfg, dataset_dicts: List[Dict]) -> DataLoader:
    """Inference inputs with ``rois`` in fixed batches, this rank's share, ordered by shape to save padding."""
    dataset_dicts = sorted(dataset_dicts, key=lambda x: (x["width"] / x["height"], x["image_id"]))
    sampler = ShardedBatchSampler(
        len(dataset_dicts), cfg.REFINEMENT.IMS_PER_BATCH, comm.get_rank(), comm.get_world_size()
    )
    # build_detection_test_loader takes no batch sampler
    return DataLoader(
        MapDataset(DatasetFromList(dataset_dicts, copy=False), BBUIMapper(cfg, is_train=False)),
        batch_sampler=sampler,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=trivial_batch_collator,
    )


def _mix(seed: int, round_number: int) -> int:
    """One seed for each round of a run."""
    return seed * 1000 + round_number
