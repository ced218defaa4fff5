"""TSDDNet and its ablations (paper III, IV.B): how both stages train. Their networks are in :mod:`tsdd_d2.modeling`."""

from typing import Dict, List

from torch import nn
from torch.utils.data import DataLoader

from detectron2.engine import hooks
from detectron2.utils import comm

from ..data.draws import Stream
from ..data.roi import is_fully_annotated
from ..engine.checkpoint import load_first_stage
from ..engine.hooks import WeightsBeforeRefinement
from ..engine.run_folder import read_refined_rois
from ..engine.trainer import Trainer
from ..method import EVERYTHING, Method, paper_row, register_method
from ..refinement import CandidateSelectionHook, RoundSchedule
from ..refinement.round_loader import round_loader


class Stage1Trainer(Trainer):
    """The first stage (paper III.B): warm-up on the fully annotated images, then rounds of candidate selection.

    It trains D-Net and C-Net together while candidate selection rewrites their ROIs."""

    loads_rounds = True

    def __init__(self, cfg):
        self.schedule = RoundSchedule.of(cfg)
        super().__init__(cfg)

    def streams(self, images: List[Dict]) -> List[Stream]:
        return fa_and_pa(self.cfg, images)

    def method_hooks(self) -> List[hooks.HookBase]:
        return [
            WeightsBeforeRefinement(self.weights_only, self.schedule.start(1))
            if comm.is_main_process() and self.schedule.rounds
            else None,
            CandidateSelectionHook(
                self.cfg,
                model=self.network,
                bank=self.bank,
                build_round_loader=self.build_round_loader,
                use_rois=self.use_rois,
            ),
        ]

    def use_rois(self, round_number: int, dataset_dicts: List[Dict]) -> None:
        """Trains on the ROIs of a round; round 0 trains on the fully annotated images alone."""
        if round_number == 0:
            dataset_dicts = [x for x in dataset_dicts if is_fully_annotated(x["annotations"])]
        self.train_on(
            dataset_dicts,
            self.schedule.start(round_number),
            self.schedule.start(round_number + 1),
            _mix(self.cfg.SEED, round_number),
        )

    def build_round_loader(self, dataset_dicts: List[Dict]) -> DataLoader:
        """Batches for one pass of candidate selection: this rank's share of all training images."""
        return round_loader(self.cfg, dataset_dicts, self.read_pixels)


def _mix(seed: int, round_number: int) -> int:
    """One seed for each round of a run."""
    return seed * 1000 + round_number


class Stage2Trainer(Trainer):
    """The second stage (paper III.C): D-Net, C-Net and F-Net in one, on the ROIs that the first stage refined.

    It goes on from the first-stage run that ``MODEL.WEIGHTS`` names, on all images that have a ROI after its last round.

    The run keeps a copy of these ROIs as round 0 of its own bank, and needs the first stage no more.
    """

    @classmethod
    def initialise(cls, cfg, network: nn.Module) -> None:
        load_first_stage(network, cfg.MODEL.WEIGHTS)

    @classmethod
    def initial_rois(cls, cfg) -> Dict:
        return read_refined_rois(cfg)

    def streams(self, images: List[Dict]) -> List[Stream]:
        return fa_and_pa(self.cfg, images)


def fa_and_pa(cfg, images: List[Dict]) -> List[Stream]:
    """What batches are drawn from: the images with a ROI, of which ``DATASETS.FA_SHARE`` are fully annotated, or more if
    more of them are."""
    images = [x for x in images if x["annotations"]]
    size, processes = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    fa = [x for x in images if is_fully_annotated(x["annotations"])]
    # each process has as many
    share = min(processes * round(size * cfg.DATASETS.FA_SHARE / processes), size - processes)
    if not fa or share * len(images) <= size * len(fa):
        return [Stream(images, size)]
    pa = [x for x in images if not is_fully_annotated(x["annotations"])]
    return [Stream(fa, share, name="fa"), Stream(pa, size - share, name="pa")]


# The first stage without candidate selection: the manual ROIs stay, the others follow D-Net.
NO_SELECTION = {"REFINEMENT.RULE": "pseudo_label"}
NO_DISTILLATION = {"MODEL.FNET.SELF_DISTILLATION": False}


def _first_stage(name, title, overrides):
    register_method(Method(name, title, "TSDDStage1", EVERYTHING, overrides=overrides, trainer=Stage1Trainer))


def _second_stage(name, title, starts_from, overrides, *paper):
    register_method(
        Method(
            name,
            title,
            "TSDDStage2",
            EVERYTHING,
            config="tsdd_stage2",
            overrides=overrides,
            trainer=Stage2Trainer,
            starts_from=starts_from,
            paper=paper,
        )
    )


_first_stage("tsddnet_stage1", "TSDDNet, first stage", {})
_first_stage("tsdd_b_stage1", "TSDDNet-B, first stage", NO_SELECTION)
_second_stage(
    "tsddnet",
    "TSDDNet",
    "tsddnet_stage1",
    {},
    paper_row("table1 table2", 0.2, "89.62±1.24 90.73±1.15 87.59±1.27 78.32±1.95", auc=0.928),
    paper_row("table3", 0.2, "89.62±1.24 90.73±1.15 87.59±1.27 78.32±1.95"),
    paper_row("table3", 0.4, "90.19±1.30 91.26±1.31 88.62±1.09 79.88±2.18"),
    paper_row("table3", 0.6, "91.06±1.18 92.15±1.32 89.41±1.27 81.66±2.16"),
    paper_row("table3", 0.8, "91.57±1.23 92.40±1.13 90.76±1.08 83.16±2.09"),
)
_second_stage(
    "tsdd_b",
    "TSDDNet-B",
    "tsdd_b_stage1",
    {**NO_SELECTION, **NO_DISTILLATION},
    paper_row("table2", 0.2, "83.69±1.61 83.76±1.21 82.36±1.10 66.12±1.85"),
)
_second_stage(
    "tsdd_b_cs",
    "TSDDNet-B+CS",
    "tsddnet_stage1",
    NO_DISTILLATION,
    paper_row("table2", 0.2, "87.92±1.77 88.28±1.62 86.01±2.10 74.28±2.08"),
)
_second_stage(
    "tsdd_b_sd",
    "TSDDNet-B+SD",
    "tsdd_b_stage1",
    NO_SELECTION,
    paper_row("table2", 0.2, "85.05±1.14 86.79±1.45 84.40±1.43 71.19±2.30"),
)
