"""The first training stage (paper III.B): warm-up on fa images, then rounds of candidate selection."""

from typing import Dict, List

from torch.utils.data import DataLoader

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import hooks
from detectron2.utils import comm

from ..data.files import read_json
from ..data.folds import keep_rois
from ..data.roi import is_fully_annotated
from ..refinement import CandidateSelectionHook, RoundSchedule, apply_veto_file
from ..refinement.round_loader import round_loader, round_mapper
from .hooks import WeightsBeforeRefinement
from .run_folder import effective_p_seed
from .trainer import TSDDTrainer


class Stage1Trainer(TSDDTrainer):
    """Trains D-Net and C-Net together while candidate selection rewrites their ROIs."""

    def __init__(self, cfg):
        self.schedule = RoundSchedule.of(cfg)
        super().__init__(cfg)
        # one for all rounds
        self.round_mapper = round_mapper(cfg, DatasetCatalog.get(cfg.DATASETS.TRAIN[0]), self.read_pixels)

    def initial_rois(self) -> Dict:
        return initial_annotation(self.cfg)

    def stage_hooks(self) -> List[hooks.HookBase]:
        return [
            WeightsBeforeRefinement(self.weights_only, self.schedule.start(1))
            if comm.is_main_process() and self.schedule.rounds
            else None,
            CandidateSelectionHook(
                self.cfg,
                model=self.network,
                bank=self.bank,
                build_round_loader=self.build_round_loader,
                reset_train_loader=self.use_round,
            ),
        ]

    def use_round(self, round_number: int) -> None:
        """Trains on the ROIs that the dataset's catalog entry now names.

        Round 0 trains on the fully annotated images alone.
        """
        dataset_dicts = [x for x in DatasetCatalog.get(self.cfg.DATASETS.TRAIN[0]) if x["annotations"]]
        if round_number == 0:
            dataset_dicts = [x for x in dataset_dicts if is_fully_annotated(x["annotations"])]
        self.load_images(
            dataset_dicts,
            self.schedule.start(round_number),
            self.schedule.start(round_number + 1),
            _mix(self.cfg.SEED, round_number),
        )

    def build_round_loader(self, dataset_dicts: List[Dict]) -> DataLoader:
        """Batches for one pass of candidate selection: this rank's share of all training images."""
        return round_loader(self.cfg, dataset_dicts, self.round_mapper)


def initial_annotation(cfg) -> Dict:
    """Round 0: the training set's file, with the ROIs of the share p of its patients alone."""
    bbui = read_json(MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).json_file)
    bbui = apply_veto_file(bbui, cfg.DATASETS.VETOES, cfg.DATASETS.TRAIN[0])
    return keep_rois(bbui, cfg.DATASETS.P, effective_p_seed(cfg))


def _mix(seed: int, round_number: int) -> int:
    """One seed for each round of a run."""
    return seed * 1000 + round_number
