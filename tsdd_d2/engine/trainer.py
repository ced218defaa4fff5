"""The one trainer: a run as a pure function of its configuration, on Detectron2's ``DefaultTrainer``."""

import os
import weakref
from typing import Callable, Dict, List, Optional, Tuple, Type

import torch
from torch import Tensor, nn

from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_train_loader
from detectron2.engine import DefaultTrainer, SimpleTrainer, TrainerBase, create_ddp_model, hooks
from detectron2.evaluation import print_csv_format
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter
from detectron2.utils.registry import Registry

from ..data.bbui import load_bbui_json
from ..data.decoding import DecodedImages
from ..data.draws import DrawSampler, Stream, StreamDraws, StreamMapper
from ..data.mapper import BBUIMapper
from ..data.transfer import PackedBatch
from ..data.withheld import visible
from ..errors import InputError
from ..memory import PERIOD, give_back_freed_memory
from ..method import method_of
from ..modeling.network import share_buffers
from ..modeling.weights import pretrained_parameters
from ..refinement import ROIBank
from .checkpoint import TSDDCheckpointer, load_weights
from .hooks import ResumableBestCheckpointer, ResumableWriter, WeightAveraging
from .run_folder import RunRecord, initial_annotation

OPTIMIZER_REGISTRY = Registry("OPTIMIZER")
OPTIMIZER_REGISTRY.__doc__ = "Optimisers, called like torch's with parameter groups, learning rate and ``fused=True``."
OPTIMIZER_REGISTRY.register(torch.optim.Adam)
OPTIMIZER_REGISTRY.register(torch.optim.AdamW)


class Trainer(DefaultTrainer):
    """Trains the network of a method on what the method may see of the run's own ROIs.

    A run is a pure function of its configuration on one device: images, augmentation and jitter depend on
    ``SEED`` and the iteration alone, so a resumed run repeats what the interrupted one would have done.

    A method that needs more than named losses of one kind of batch overrides :meth:`streams`, :meth:`losses` or
    :meth:`build_teacher`; one that goes on from another run :meth:`initialise` and :meth:`initial_rois`.
    """

    # the last part of the names of parameters, beside norms and biases, that decay would harm
    without_decay: Tuple[str, ...] = ()
    # whether the images are loaded round by round, by a hook that calls train_on
    loads_rounds = False

    def __init__(self, cfg):
        # DefaultTrainer.__init__ builds the loader before a hook could know the round, and hands device_ids to DDP,
        # which fails on CPU; this is the same set-up without these two.
        TrainerBase.__init__(self)
        self.method = method_of(cfg)
        self.trained_network = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, self.trained_network)
        self.averaging = self.build_teacher(cfg, self.trained_network)
        # what predicts: in the rounds, in the evaluation and from the checkpoints
        self.network = self.averaging.predicting if self.averaging else self.trained_network
        on_cpu = {"device_ids": None} if cfg.MODEL.DEVICE == "cpu" else {}
        step = Step(self.trained_network, weakref.WeakMethod(self.losses))
        # the loader comes with the ROIs, see train_on
        self._trainer = SimpleTrainer(create_ddp_model(step, broadcast_buffers=False, **on_cpu), None, optimizer)
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

    # ---------------------------------------------------------------- what a method may make its own

    @classmethod
    def batch_unit(cls, cfg) -> int:
        """The images of a process in a batch are a multiple of this."""
        return 1

    @classmethod
    def initialise(cls, cfg, network: nn.Module) -> None:
        """Gives a new network the weights that training starts from. It is also called before anything is written.

        Raises:
            InputError: they are missing, or do not fit.
        """
        load_weights(network, cfg)

    @classmethod
    def initial_rois(cls, cfg) -> Dict:
        """The annotation that training starts from, round 0 of the ROI bank."""
        return initial_annotation(cfg)

    @classmethod
    def build_teacher(cls, cfg, network: nn.Module) -> Optional[WeightAveraging]:
        """The running average of what is trained, if there is one."""
        return WeightAveraging(network, cfg.SOLVER.EMA_DECAY) if cfg.SOLVER.EMA_DECAY > 0 else None

    def streams(self, images: List[Dict]) -> List[Stream]:
        """What a batch is made of.

        Args:
            images: dataset dicts of all images that the method may see, without what it may not, see
                :func:`~tsdd_d2.data.withheld.visible`.
        """
        return [Stream(images, self.cfg.SOLVER.IMS_PER_BATCH)]

    def losses(self, batch: List[Dict]) -> Dict[str, Tensor]:
        """The named losses of a batch, whose sum is minimised.

        All forward passes of :attr:`trained_network` in a step belong here; those of :attr:`teacher` run without gradient.

        Args:
            batch: mapped images of all streams, see :class:`~tsdd_d2.data.draws.Stream`.
        """
        return self.trained_network(batch)

    def method_hooks(self) -> List[hooks.HookBase]:
        """Hooks of the method, which run before evaluation and checkpoints."""
        return []

    # ----------------------------------------------------------------

    @property
    def teacher(self) -> nn.Module:
        """The averaged network.

        Raises:
            InputError: :meth:`build_teacher` makes none.
        """
        if self.averaging is None:
            raise InputError(f"{self.method.name} has a teacher, which is an average: SOLVER.EMA_DECAY must be above 0.")
        return self.averaging.averaged

    def resume_or_load(self, resume=True):
        """See :meth:`DefaultTrainer.resume_or_load`; without a checkpoint it writes round 0 of the ROI bank."""
        if resume and self.checkpointer.has_checkpoint():
            super().resume_or_load(resume=True)
            self.checkpointer.remove_old()  # if a kill came between a checkpoint and this
            if self.averaging:
                self.averaging.begin_if_new()
            return
        self.initialise(self.cfg, self.trained_network)
        if comm.is_main_process():
            self.bank.write(0, self.initial_rois(self.cfg))
        comm.synchronize()

    def before_train(self):
        if not self.loads_rounds:
            self.train_on(self.initial_images(), 0, self.max_iter, self.cfg.SEED)
        super().before_train()

    def initial_images(self) -> List[Dict]:
        """Dataset dicts of the training set with the ROIs that training starts from."""
        return load_bbui_json(self.bank.path(0), MetadataCatalog.get(self.cfg.DATASETS.TRAIN[0]).image_root)

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
            *self.method_hooks(),
            # Evaluation and best checkpoint come before the periodic checkpoint, which then holds their outcome: a
            # run resumed from it neither repeats nor forgets an evaluation.
            hooks.EvalHook(cfg.TEST.EVAL_PERIOD, self.validate) if cfg.DATASETS.VAL else None,
            ResumableBestCheckpointer(cfg.TEST.EVAL_PERIOD, self.weights_only, "diagnosis/AUC")
            if is_main and cfg.DATASETS.VAL and cfg.TEST.EVAL_PERIOD > 0
            else None,
            ResumableWriter(cfg.OUTPUT_DIR) if is_main else None,
            hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD) if is_main else None,
        ]

    def build_writers(self) -> List[EventWriter]:
        """The writers of :class:`ResumableWriter`, from the iteration on in which training begins."""
        folder = self.cfg.OUTPUT_DIR
        return [
            CommonMetricPrinter(self.max_iter),
            JSONWriter(os.path.join(folder, ResumableWriter.FILE_NAME)),
            TensorboardXWriter(folder, purge_step=self.start_iter),
        ]

    def after_train(self):
        # a finished run that is resumed does no step: its last evaluation is that of the same iteration again
        self.iter = min(self.iter, self.max_iter)
        super().after_train()

    def run_step(self):
        # what the networks draw in a step depends on the iteration alone, not on the steps before
        torch.manual_seed(hash((self.cfg.SEED, self.iter, comm.get_rank())))
        if self.iter % PERIOD == 0:
            give_back_freed_memory()
        super().run_step()

    def validate(self) -> Dict:
        """Results on DATASETS.VAL, without intervals."""
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.DATASETS.TEST = cfg.DATASETS.VAL
        cfg.TEST.BOOTSTRAP = 0
        share_buffers(self.network)
        return self.test(cfg, self.network)

    @classmethod
    def test(cls, cfg, model) -> Dict:
        """Results on DATASETS.TEST as in the final evaluation; as with Detectron2, those of a single set without its name."""
        # with scikit-learn, which whoever only registers data does without
        from .final_evaluation import evaluate

        folder = os.path.join(cfg.OUTPUT_DIR, "inference")
        results = {name: evaluate(cfg, model, name, output_dir=folder) for name in cfg.DATASETS.TEST}
        for figures in results.values():
            print_csv_format(figures)
        return results if len(results) > 1 else next(iter(results.values()), {})

    def train_on(self, dataset_dicts: List[Dict], first_iter: int, end_iter: int, seed: int) -> None:
        """Rebuilds the train loader, which goes on at the current iteration.

        Args:
            dataset_dicts: all training images, with their ROIs; what the method must not see is withheld here.
            first_iter, end_iter: the iterations [first_iter, end_iter) that these images are drawn for.
            seed: of their order and augmentation.
        """
        cfg, world_size = self.cfg, comm.get_world_size()
        streams = self.streams(visible(dataset_dicts, self.method.sees))
        for stream in streams:
            if not stream.images or stream.size % world_size:
                raise InputError(
                    f"{self.method.name}: a batch takes {stream.size} images of {len(stream.images)} {stream.name} ones on "
                    f"{world_size} processes: there must be some, and a multiple of the number of processes."
                )
        draws_per_step = sum(x.size for x in streams)
        draws = StreamDraws(streams, seed, end_iter - first_iter)
        start = (max(self.iter, self.start_iter) - first_iter) * draws_per_step
        sampler = DrawSampler(start, len(draws), comm.get_rank(), world_size)
        mapper = BBUIMapper(cfg, is_train=True, read_pixels=self.read_pixels)
        give_back_freed_memory()  # the loader forks
        self._trainer.reset_data_loader(
            lambda: build_detection_train_loader(
                draws,
                mapper=StreamMapper(streams, mapper),
                sampler=sampler,
                total_batch_size=draws_per_step,
                # the draws are grouped already
                aspect_ratio_grouping=False,
                num_workers=cfg.DATALOADER.NUM_WORKERS,
                collate_fn=PackedBatch.of_views,
                # a loader draws a number when it starts: not from the generator that the networks draw from
                seed=cfg.SEED,
            )
        )

    @classmethod
    def build_optimizer(cls, cfg, model):
        pretrained = pretrained_parameters(model)
        parameters = get_default_optimizer_params(
            model,
            base_lr=cfg.SOLVER.BASE_LR,
            weight_decay=cfg.SOLVER.WEIGHT_DECAY,
            weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
            bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
            weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
            overrides={name: {"weight_decay": 0.0} for name in cls.without_decay},
            lr_factor_func=lambda name: cfg.SOLVER.BACKBONE_MULTIPLIER if name in pretrained else 1.0,
        )
        optimizer = OPTIMIZER_REGISTRY.get(cfg.SOLVER.OPTIMIZER)(parameters, cfg.SOLVER.BASE_LR, fused=True)
        return maybe_add_gradient_clipping(cfg, optimizer)


class Step(nn.Module):
    """All forward passes of a training step in one call, which ``DistributedDataParallel`` can wrap."""

    def __init__(self, network: nn.Module, losses: Callable[[], Callable[[List[Dict]], Dict[str, Tensor]]]):
        """
        Args:
            losses: a weak reference to the function of a batch, since the trainer that has it holds this module.
        """
        super().__init__()
        self.network = network
        self._losses = losses

    def forward(self, batch: List[Dict]) -> Dict[str, Tensor]:
        return self._losses()(batch)


def decoded_training_images(cfg) -> DecodedImages:
    """The images of DATASETS.TRAIN, within the limit of the configuration."""
    return DecodedImages(DatasetCatalog.get(cfg.DATASETS.TRAIN[0]), cfg.DATALOADER.DECODED_IMAGES_MB * 2**20)


def trainer_of(cfg) -> Type[Trainer]:
    """The trainer of a configuration's method."""
    return method_of(cfg).trainer or Trainer
