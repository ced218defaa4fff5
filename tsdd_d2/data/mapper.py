"""From a BBUI dataset dict to what the networks take."""

import contextlib
import copy
from typing import Callable, Dict, Tuple

import numpy as np
import torch

from detectron2.config import configurable
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T

from .decoding import read_pixels
from .draws import numpy_seed
from .roi import is_fully_annotated, rois_xyxy


class BBUIMapper(DatasetMapper):
    """Detectron2's mapper for boxes, and beside it:

    * ``image`` has one channel in the format "L"; otherwise the three equal channels of a grey one share their memory;
    * in training, ``partially_annotated`` (bool, see :func:`~tsdd_d2.data.roi.is_fully_annotated`) and ``instances``,
      both unless the ROIs are withheld, and augmentation seeded by ``draw_seed`` where :class:`~tsdd_d2.data.draws.TrainingDraws` set one;
    * at inference, ``rois``: the ROIs in the file, (M, 4) absolute XYXY in the *original* image.
    """

    @configurable
    def __init__(self, is_train: bool, *, read_pixels: Callable = read_pixels, **kwargs):
        """
        Args:
            read_pixels: what decodes a file, with the signature of :func:`~tsdd_d2.data.decoding.read_pixels`.
            kwargs: see ``DatasetMapper``.
        """
        super().__init__(is_train, **kwargs)
        self.read_pixels = read_pixels

    @classmethod
    def from_config(cls, cfg, is_train: bool = True):
        arguments = super().from_config(cfg, is_train)
        if not is_train:
            return arguments
        zoom, shift, jitter = cfg.INPUT.RANDOM_ZOOM, cfg.INPUT.RANDOM_SHIFT, cfg.INPUT.INTENSITY_JITTER
        if zoom > 0 or shift > 0:
            # before the resizing, which makes a smaller part larger
            arguments["augmentations"].insert(0, T.RandomExtent((1 - zoom, 1 + zoom), (shift, shift)))
        if jitter > 0:
            arguments["augmentations"] += [
                T.RandomBrightness(1 - jitter, 1 + jitter),
                T.RandomContrast(1 - jitter, 1 + jitter),
            ]
        return arguments

    def __call__(self, dataset_dict: Dict) -> Dict:
        if not self.is_train:
            rois = rois_xyxy(dataset_dict)
            dataset_dict = self._load(dataset_dict)
            dataset_dict["rois"] = torch.from_numpy(rois)
            return dataset_dict
        with numpy_seed(dataset_dict["draw_seed"]) if "draw_seed" in dataset_dict else contextlib.nullcontext():
            mapped = self._load(dataset_dict)
        if "annotations" in dataset_dict:
            # of the dict before the augmentation, which may move the ROIs out of view
            mapped["partially_annotated"] = not is_fully_annotated(dataset_dict["annotations"])
        return mapped

    def _load(self, dataset_dict: Dict) -> Dict:
        """What ``DatasetMapper.__call__`` does for images and boxes; a grey image goes through in one channel."""
        dataset_dict = copy.deepcopy(dataset_dict)
        pixels = self.read_pixels(dataset_dict["file_name"], self.image_format)
        utils.check_image_size(dataset_dict, pixels)
        pixels, transforms = self._augmented(dataset_dict, pixels)
        image = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
        dataset_dict["image"] = image if self.image_format == "L" else image.expand(3, -1, -1)
        if self.is_train and "annotations" in dataset_dict:
            self._transform_annotations(dataset_dict, transforms, tuple(image.shape[1:]))
        else:
            dataset_dict.pop("annotations", None)
        return dataset_dict

    def _augmented(self, dataset_dict: Dict, pixels: np.ndarray) -> Tuple[np.ndarray, T.TransformList]:
        aug_input = T.AugInput(pixels)
        transforms = self.augmentations(aug_input)
        return aug_input.image, transforms
