"""Several views of one training image, and the way of boxes from one to another."""

from typing import Callable, Dict, List, Mapping, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.structures import Boxes

from .mapper import BBUIMapper
from .roi import rois_xyxy

# A box of which less is left in view, in pixels, is gone.
MIN_SIDE = 1.0


class ViewsMapper:
    """
    Maps a dataset dict to a list of views, each as :class:`~tsdd_d2.data.mapper.BBUIMapper` maps an image, and with

    * ``view``: its name;
    * ``transform``: (3, 3) float64, from the original image to the view, for points (x, y, 1) in pixels.

    Each view has the flip, zoom, shift and size that the configuration has for all methods, and then what is its own. The
    brightness and contrast of all methods (``INPUT.INTENSITY_JITTER``) are left to the views.
    """

    def __init__(
        self,
        cfg: CfgNode,
        views: Mapping[str, Sequence[T.Augmentation]],
        read_pixels: Callable,
        one_geometry: bool = False,
        whole: Sequence[str] = (),
    ):
        """
        Args:
            views: name -> what follows. Augmentations may ask for ``boxes``, (M, 4) XYXY: those of the annotations.
            read_pixels: see :class:`~tsdd_d2.data.mapper.BBUIMapper`.
            one_geometry: whether the configuration's part is drawn once for all views.
            whole: views without its zoom and shift, which show all of the image.
        """
        self.mappers = {
            name: _ViewMapper(
                is_train=True,
                augmentations=[*_geometry(cfg, whole=name in whole), *own],
                image_format=cfg.INPUT.FORMAT,
                read_pixels=read_pixels,
            )
            for name, own in views.items()
        }
        self.one_geometry = one_geometry

    def __call__(self, dataset_dict: Dict) -> List[Dict]:
        mapped = []
        for number, (name, mapper) in enumerate(self.mappers.items()):
            # what is drawn first depends on the seed alone
            seed = [*dataset_dict["draw_seed"], 0 if self.one_geometry else number]
            mapped.append({**mapper({**dataset_dict, "draw_seed": seed}), "view": name})
        return mapped


def _geometry(cfg: CfgNode, whole: bool) -> List[T.Augmentation]:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.INPUT.INTENSITY_JITTER = 0.0
    if whole:
        cfg.INPUT.RANDOM_ZOOM = cfg.INPUT.RANDOM_SHIFT = 0.0
    return BBUIMapper.from_config(cfg)["augmentations"]


class _ViewMapper(BBUIMapper):
    def _augmented(self, dataset_dict: Dict, pixels: np.ndarray) -> Tuple[np.ndarray, T.TransformList]:
        aug_input = T.AugInput(pixels, boxes=rois_xyxy(dataset_dict))
        transforms = self.augmentations(aug_input)
        dataset_dict["transform"] = transform_matrix(transforms, pixels.shape[:2])
        return aug_input.image, transforms


def transform_matrix(transforms: T.Transform, size: Tuple[int, int]) -> Tensor:
    """
    The matrix (3, 3), float64, of transforms of Detectron2 that are affine, for points (x, y, 1).

    Args:
        size: height and width of the image; the matrix is taken from its corners, since some transforms round to float32.
    """
    height, width = size
    corners = transforms.apply_coords(np.array([[0.0, 0.0], [width, 0.0], [0.0, height]])).astype(float)
    origin = corners[0]
    columns = [(corners[1] - origin) / width, (corners[2] - origin) / height, origin]
    return torch.from_numpy(np.vstack([np.stack(columns, axis=1), [0.0, 0.0, 1.0]]))


def carry_boxes(boxes: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """
    Boxes of one view in another one, not clipped: the smallest that hold all four corners.

    Args:
        boxes: (R, 4), absolute XYXY.
        source, target: the ``transform`` of either view, (3, 3); the unit matrix for the original image.
    Returns:
        (R, 4), of the type of ``boxes``.
    """
    matrix = (target.double() @ torch.linalg.inv(source.double())).to(boxes.device)
    x = boxes[:, [0, 2, 2, 0]].double()
    y = boxes[:, [1, 1, 3, 3]].double()
    corners = torch.stack([x, y, torch.ones_like(x)], dim=-1) @ matrix[:2].T
    return torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1).to(boxes.dtype)


def in_view(boxes: Tensor, size: Tuple[int, int]) -> Tuple[Boxes, Tensor]:
    """Boxes (R, 4) clipped to a view of ``size`` (height, width), less those that are not in it; and which are, (R,) bool."""
    clipped = Boxes(boxes.clone())
    clipped.clip(size)
    seen = clipped.nonempty(MIN_SIDE)
    return clipped[seen], seen
