"""The second training stage (paper III.C): D-Net, C-Net and F-Net in one, on the ROIs that the first stage refined."""

from typing import Dict

from detectron2.data import MetadataCatalog

from ..data.bbui import load_bbui_json
from .run_folder import read_refined_rois
from .trainer import TSDDTrainer


class Stage2Trainer(TSDDTrainer):
    """Goes on from the first-stage run that ``MODEL.WEIGHTS`` names, on all images that have a ROI after its last round.

    The run keeps a copy of these ROIs as round 0 of its own bank, and needs the first stage no more.
    """

    def initial_rois(self) -> Dict:
        return read_refined_rois(self.cfg)

    def before_train(self):
        image_root = MetadataCatalog.get(self.cfg.DATASETS.TRAIN[0]).image_root
        dataset_dicts = load_bbui_json(self.bank.path(0), image_root)
        self.load_images(
            [x for x in dataset_dicts if x["annotations"]], 0, self.max_iter, self.cfg.SEED
        )
        super().before_train()
