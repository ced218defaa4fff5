"""Training in one stage, without rounds, for the methods that TSDDNet is compared with."""

from typing import Dict

from detectron2.data import MetadataCatalog

from ..data.bbui import load_bbui_json
from .stage1_trainer import initial_annotation
from .trainer import TSDDTrainer


class SupervisedTrainer(TSDDTrainer):
    """Trains on the ROIs that ``DATASETS.P`` leaves, so on the fully annotated images alone.

    A network that takes no ROI (``needs_rois`` False) trains on all images: their classes are known.
    """

    def initial_rois(self) -> Dict:
        return initial_annotation(self.cfg)

    def before_train(self):
        image_root = MetadataCatalog.get(self.cfg.DATASETS.TRAIN[0]).image_root
        dataset_dicts = load_bbui_json(self.bank.path(0), image_root)
        if self.checkpointer.model.needs_rois:
            dataset_dicts = [x for x in dataset_dicts if x["annotations"]]
        self.load_images(dataset_dicts, 0, self.max_iter, self.cfg.SEED)
        super().before_train()
