"""What the trainers of both stages share: a run as a pure function of its configuration, on Detectron2's trainer."""

import os
import weakref
from typing import Dict, List

import torch

from detectron2.data import DatasetCatalog, build_detection_test_loader, build_detection_train_loader
from detectron2.engine import DefaultTrainer, SimpleTrainer, TrainerBase, create_ddp_model, hooks
from detectron2.evaluation import DatasetEvaluators
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from detectron2.utils.registry import Registry

from ..data.decoding import DecodedImages
from ..data.draws import DrawSampler, TrainingDraws
from ..data.mapper import BBUIMapper
from ..data.transfer import PackedBatch
from ..evaluation import DiagnosisEvaluator, LocalisationEvaluator
from ..modeling.network import share_buffers
from ..refinement import ROIBank
from .checkpoint import TSDDCheckpointer, load_weights
from .hooks import ResumableBestCheckpointer, WeightAveraging
from .run_folder import RunRecord

OPTIMIZER_REGISTRY = Registry("OPTIMIZER")
OPTIMIZER_REGISTRY.__doc__ = "Optimisers, called like torch's with parameter groups, learning rate and ``fused=True``."
OPTIMIZER_REGISTRY.register(torch.optim.Adam)
OPTIMIZER_REGISTRY.register(torch.optim.AdamW)


class TSDDTrainer(DefaultTrainer):
    """Trains on the ROIs of the run's own ROI bank.

    A run is a pure function of its configuration on one device: images, augmentation and jitter depend on
    ``SEED`` and the iteration alone, so a resumed run repeats what the interrupted one would have done.

    A stage defines :meth:`initial_rois` and calls :meth:`load_images` before the first step.
    """

    def __init__(self, cfg):
        # DefaultTrainer.__init__ builds the loader before a hook could know the round, and hands device_ids to DDP,
        # which fails on CPU; this is the same set-up without these two.
        TrainerBase.__init__(self)
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        self.averaging = WeightAveraging(model, cfg.SOLVER.EMA_DECAY) if cfg.SOLVER.EMA_DECAY > 0 else None
        self.trained_network = model
        # what predicts: in the rounds, in the evaluation and from the checkpoints
        self.network = self.averaging.averaged if self.averaging else model
        on_cpu = {"device_ids": None} if cfg.MODEL.DEVICE == "cpu" else {}
        model = create_ddp_model(model, broadcast_buffers=False, **on_cpu)
        # the loader comes with the ROIs, see load_images
        self._trainer = SimpleTrainer(model, None, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = TSDDCheckpointer(self.network, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        # the loaders of all rounds share it
        self.read_pixels = decoded_training_images(cfg)
        self.bank = ROIBank(os.path.join(cfg.OUTPUT_DIR, "rois"))
        self.weights_only = TSDDCheckpointer(self.network, cfg.OUTPUT_DIR, resumable=False)
        self.register_hooks(self.build_hooks())

    def initial_rois(self) -> Dict:
        """The annotation that training starts from, round 0 of the ROI bank."""
        raise NotImplementedError

    def stage_hooks(self) -> List[hooks.HookBase]:
        """Hooks of the stage, which run before evaluation and checkpoints."""
        return []

    def resume_or_load(self, resume=True):
        """See :meth:`DefaultTrainer.resume_or_load`; without a checkpoint it writes round 0 of the ROI bank."""
        if resume and self.checkpointer.has_checkpoint():
            super().resume_or_load(resume=True)
            if self.averaging:
                self.averaging.begin_if_new()
            return
        load_weights(self.trained_network, self.cfg)
        if comm.is_main_process():
            self.bank.write(0, self.initial_rois())
        comm.synchronize()

    def train(self):
        if comm.is_main_process():
            RunRecord.of(self.cfg).write(self.cfg.OUTPUT_DIR)
        results = super().train()
        if comm.is_main_process():
            RunRecord.of(self.cfg)._replace(status="finished").write(self.cfg.OUTPUT_DIR)
        comm.synchronize()  # until then the other ranks do not see all that rank 0 writes
        return results

    def build_hooks(self) -> List[hooks.HookBase]:
        cfg = self.cfg
        is_main = comm.is_main_process()
        return [
            hooks.IterationTimer(),
            hooks.LRScheduler(),
            self.averaging,
            *self.stage_hooks(),
            # Evaluation and best checkpoint come before the periodic checkpoint, which then holds their outcome: a
            # run resumed from it neither repeats nor forgets an evaluation.
            hooks.EvalHook(cfg.TEST.EVAL_PERIOD, self.validate) if cfg.DATASETS.VAL else None,
            ResumableBestCheckpointer(cfg.TEST.EVAL_PERIOD, self.weights_only, "diagnosis/AUC")
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
        share_buffers(self.network)
        return self.test(cfg, self.network)

    def load_images(self, dataset_dicts: List[Dict], first_iter: int, end_iter: int, seed: int) -> None:
        """Rebuilds the train loader, which goes on at the current iteration.

        Args:
            dataset_dicts: the images to train on, with their ROIs.
            first_iter, end_iter: the iterations [first_iter, end_iter) that these images are drawn for.
            seed: of their order and augmentation.
        """
        cfg = self.cfg
        draws_per_step = cfg.SOLVER.IMS_PER_BATCH
        num_draws = (end_iter - first_iter) * draws_per_step
        draws = TrainingDraws(dataset_dicts, seed, num_draws, draws_per_step)
        sampler = DrawSampler(
            (max(self.iter, self.start_iter) - first_iter) * draws_per_step,
            num_draws,
            comm.get_rank(),
            comm.get_world_size(),
        )
        self._trainer.reset_data_loader(
            lambda: build_detection_train_loader(
                draws,
                mapper=BBUIMapper(cfg, is_train=True, read_pixels=self.read_pixels),
                sampler=sampler,
                total_batch_size=draws_per_step,
                # TrainingDraws has grouped them
                aspect_ratio_grouping=False,
                num_workers=cfg.DATALOADER.NUM_WORKERS,
                collate_fn=PackedBatch,
                # a loader draws a number when it starts: not from the generator that the networks draw from
                seed=cfg.SEED,
            )
        )

    @classmethod
    def build_optimizer(cls, cfg, model):
        parameters = get_default_optimizer_params(
            model,
            base_lr=cfg.SOLVER.BASE_LR,
            weight_decay=cfg.SOLVER.WEIGHT_DECAY,
            weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
            bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
            weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
        )
        optimizer = OPTIMIZER_REGISTRY.get(cfg.SOLVER.OPTIMIZER)(parameters, cfg.SOLVER.BASE_LR, fused=True)
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


def decoded_training_images(cfg) -> DecodedImages:
    """The images of DATASETS.TRAIN, within the limit of the configuration."""
    return DecodedImages(
        DatasetCatalog.get(cfg.DATASETS.TRAIN[0]), cfg.DATALOADER.DECODED_IMAGES_MB * 2**20
    )
