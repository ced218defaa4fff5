"""When candidate selection happens, and what moves around it."""

import logging
import os
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional

from torch import nn

from detectron2.config import configurable
from detectron2.data import MetadataCatalog
from detectron2.engine import HookBase
from detectron2.utils import comm

from ..data.bbui import load_bbui_json, register_bbui_instances
from ..data.files import read_json
from ..errors import InputError
from .roi_bank import ROIBank
from .round_loader import round_loader
from .rounds import refine_rois, score_all_candidates
from .selection import SelectionRule, build_selection_rule, select_rois

logger = logging.getLogger(__name__)


class RoundSchedule(NamedTuple):
    """Round 1 comes after ``warmup_iter`` iterations; the rounds divide the rest up to ``max_iter`` evenly."""

    warmup_iter: int
    max_iter: int
    rounds: int

    @classmethod
    def of(cls, cfg) -> "RoundSchedule":
        """That of a configuration; without refinement the warm-up is all there is."""
        if not cfg.REFINEMENT.ENABLED:
            return cls(cfg.SOLVER.MAX_ITER, cfg.SOLVER.MAX_ITER, 0)
        return cls(cfg.REFINEMENT.WARMUP_ITER, cfg.SOLVER.MAX_ITER, cfg.REFINEMENT.ROUNDS)

    def start(self, round_number: int) -> int:
        """The iteration *before* which a round runs; round 0 is the annotation that training starts from."""
        if round_number == 0:
            return 0
        if round_number > self.rounds:
            return self.max_iter
        span = self.max_iter - self.warmup_iter
        return self.warmup_iter + (round_number - 1) * span // self.rounds

    def completed(self, iteration: int) -> int:
        """The rounds that are over when the step of ``iteration`` has not begun, nor the round due before it."""
        return sum(self.start(r) < iteration for r in range(1, self.rounds + 1))


class CandidateSelectionHook(HookBase):
    """Runs the rounds of candidate selection (paper III.B) inside any Detectron2 trainer:
    ``CandidateSelectionHook(cfg, model=..., bank=...)``.

    Before the iteration that :class:`RoundSchedule` names, it passes over all training images with the current
    weights (sharded over the ranks), rewrites the ROIs by the selection rule, stores them in the :class:`ROIBank`,
    and hands them to the trainer.

    A run that is resumed goes on in the round it was in: rounds after its checkpoint are done again, with the same
    outcome.
    """

    @configurable
    def __init__(
        self,
        *,
        model: nn.Module,
        dataset_name: str,
        bank: ROIBank,
        schedule: RoundSchedule,
        build_round_loader: Callable[[List[Dict]], Iterable],
        use_rois: Optional[Callable[[int, List[Dict]], None]] = None,
        rule: SelectionRule = select_rois,
        candidates_per_round: int = 1,
    ):
        """
        Args:
            model: scores the candidates: the network that is trained (not its DDP wrapper), or an average of it.
            dataset_name: the registered training set.
            bank: without a round when training begins, it gets the training set's own file as round 0; the rounds of
                another training set are refused then (InputError).
            build_round_loader: dataset dicts -> batches of inference inputs with ``rois``; this rank's shard.
            use_rois: called with the number of a round and the dataset dicts of all training images with its ROIs, which the
                trainer shall train on next. By default the ``DatasetCatalog`` entry of the training set is pointed at them
                while training lasts, and a ``DefaultTrainer`` builds its train loader anew.
            rule: see :mod:`tsdd_d2.refinement.selection`; by default the paper's.
            candidates_per_round: see ``REFINEMENT`` in :mod:`tsdd_d2.config`.
        """
        self.model = model
        self.dataset_name = dataset_name
        self.image_root = MetadataCatalog.get(dataset_name).image_root
        self.original_json = MetadataCatalog.get(dataset_name).json_file
        self.bank = bank
        self.schedule = schedule
        self.build_round_loader = build_round_loader
        self.use_rois = use_rois or self._reset_default_trainer
        self.rule = rule
        self.candidates_per_round = candidates_per_round

    @classmethod
    def from_config(cls, cfg) -> Dict[str, Any]:
        return {
            "dataset_name": cfg.DATASETS.TRAIN[0],
            "schedule": RoundSchedule.of(cfg),
            "build_round_loader": lambda dataset_dicts: round_loader(cfg, dataset_dicts),
            "rule": build_selection_rule(cfg),
            "candidates_per_round": cfg.REFINEMENT.CANDIDATES_PER_ROUND,
        }

    def before_train(self):
        if comm.is_main_process():
            self._begin_bank()
        comm.synchronize()
        self._use_round(self.schedule.completed(self.trainer.start_iter))

    def _begin_bank(self):
        if not self.bank.rounds():
            self.bank.write(0, read_json(self.original_json))
        elif self.trainer.start_iter == 0 and not self.bank.begun and self.bank.read(0) != read_json(self.original_json):
            raise InputError(
                f"{self.bank.path(0)} is of an earlier training, on other ROIs than those in {self.original_json}: remove "
                f"{self.bank.directory}, or name another folder for the ROI bank."
            )

    def before_step(self):
        for round_number in range(1, self.schedule.rounds + 1):
            if self.trainer.iter == self.schedule.start(round_number):
                self._run_round(round_number)

    def after_train(self):
        if self.use_rois == self._reset_default_trainer:
            # a later training in this process shall find the manual ROIs again
            register_bbui_instances(self.dataset_name, self.original_json, self.image_root)

    def _use_round(self, round_number: int):
        path = self.bank.path(round_number)
        if not os.path.isfile(path):
            raise InputError(f"{path} is missing, the ROIs with which this training goes on: put it back, or begin anew.")
        self.dataset_dicts = load_bbui_json(path, self.image_root)
        self.use_rois(round_number, self.dataset_dicts)

    def _reset_default_trainer(self, round_number: int, _: List[Dict]):
        register_bbui_instances(self.dataset_name, self.bank.path(round_number), self.image_root)
        trainer = self.trainer
        trainer._trainer.reset_data_loader(lambda: trainer.build_train_loader(trainer.cfg))

    def _run_round(self, round_number: int):
        scored = score_all_candidates(
            self.model,
            self.build_round_loader(self.dataset_dicts),
            self.candidates_per_round,
            description=f"Round {round_number}/{self.schedule.rounds}: scoring candidates",
        )
        if comm.is_main_process():
            bbui, statistics = refine_rois(
                self.bank.read(round_number - 1),
                scored,
                self.rule,
                round_number=round_number,
                num_candidates=self.candidates_per_round,
            )
            # NaN, where nothing could be measured, is no JSON
            measured = {k: v for k, v in statistics._asdict().items() if v == v}
            bbui["info"] = {**bbui.get("info", {}), "round": round_number, "statistics": measured}
            path = self.bank.write(round_number, bbui)
            logger.info(
                "Round %d wrote %s: %s",
                round_number,
                path,
                ", ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in measured.items()),
            )
            for key, value in measured.items():
                self.trainer.storage.put_scalar(f"refinement/{key}", value, smoothing_hint=False)
            self.trainer.storage.put_scalar("refinement/round", round_number, smoothing_hint=False)
        comm.synchronize()  # the other ranks read what rank 0 wrote
        self._use_round(round_number)
