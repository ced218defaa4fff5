"""SPA (arXiv:2103.04523): where the lesion is, from the classes of the images alone.

A classifier is trained with restricted activation; at inference the self-correlation of its last two blocks turns its class
map into one that keeps the structure of the object. The class map is the output of its last 1x1 convolution, as in the authors'
software: class activation mapping by construction, which needs no library. Its box is that of the largest part, where theirs
holds all parts. New layers learn at twice the rate of the backbone in the small profile, where theirs learn at ten times.

How its values are chosen:

* The seeds, the box threshold and the minimum of the first order need no training. The authors have others for each data set.
  ``tools/tune_spa.py`` tells what a trained run is worth with others on the validation images, whose boxes choose these and
  nothing else.
* The restriction takes the variance over the class probabilities. With two classes, of probability p and 1 - p, that is
  (2p - 1)² / 2: how certain a cell is, not which class it shows. In an image that has undecided cells and ones with p near 0 or
  1, it is (2p - 1)² when scaled, and the values 0.2 and 0.4 make background of 0.28 < p < 0.72, and object of p > 0.82 or
  p < 0.18. These lie between those of the authors, 0.1 and 0.3 for birds (object from p > 0.77 on) and 0.4 and 0.5 for
  ImageNet (p > 0.85). Others need another training, and were not tried.
"""

import math
from typing import Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.backbone import Backbone
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage

from ..data.categories import CLASS_NAMES
from ..errors import InputError
from ..evaluation.detections import MALIGNANT
from ..method import CLASSES, Method, paper_row, register_method
from ..modeling.contract import DiagnosisNetwork
from ..modeling.network import output_size
from ..modeling.preprocessing import PreprocessesImages
from .detectors import ONE_STAGE

# The last two, which have one stride as in the authors' VGG: the last one is dilated.
BLOCKS = ("res4", "res5")
# Correlations of the second order below this are none, in units of an even distribution.
SECOND_ORDER_MIN = 0.5
SECOND_ORDER_WEIGHT = 2.0
EPSILON = 1e-5


@META_ARCH_REGISTRY.register()
class SPA(DiagnosisNetwork, PreprocessesImages, nn.Module):
    """A classifier on a backbone of ``BACKBONE_REGISTRY``, whose maps of one class each say where that class is.

    The one box of an image is that of the structure-preserving map of the more probable class; its score is the probability
    of that class.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        hidden: int,
        num_classes: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        restriction_weight: float,
        restriction_start: int,
        restriction_variances: Tuple[float, float],
        seeds: Tuple[float, float],
        first_order_min: float,
        threshold: float,
        bfloat16: bool,
    ):
        """
        Args:
            backbone: with the levels "res4" and "res5" at one stride.
            hidden: channels of the two convolutions before the class maps.
            pixel_mean, pixel_std: of the channels, in 0-255.
            restriction_weight: of the restricted activation in the loss.
            restriction_start: the iteration from which on it is there.
            restriction_variances: see :func:`restricted_activation`.
            seeds: see :func:`structure_map`.
            first_order_min: see :func:`self_correlation`.
            threshold: see :func:`largest_part`.
            bfloat16: see :class:`~tsdd_d2.modeling.contract.DiagnosisNetwork`.
        Raises:
            InputError: the backbone has not these levels.
        """
        super().__init__()
        self.backbone = backbone
        shapes = backbone.output_shape()
        if len({shapes[x].stride if x in shapes else x for x in BLOCKS}) > 1:
            raise InputError(
                f"SPA needs the levels {' and '.join(BLOCKS)} at one stride: MODEL.BACKBONE.NAME must be "
                f"build_dilated_timm_backbone or build_dilated_resnet_backbone."
            )
        self.stride = shapes[BLOCKS[-1]].stride
        self.classifier = nn.Sequential(
            nn.Conv2d(shapes[BLOCKS[-1]].channels, hidden, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, num_classes, 1),
        )
        for layer in self.classifier[::2]:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.restriction_weight = restriction_weight
        self.restriction_start = restriction_start
        self.restriction_variances = restriction_variances
        self.seeds = seeds
        self.first_order_min = first_order_min
        self.threshold = threshold
        self.bfloat16 = bfloat16
        self.register_pixel_statistics(pixel_mean, pixel_std)
        self.to(memory_format=torch.channels_last)

    @classmethod
    def from_config(cls, cfg):
        spa = cfg.MODEL.SPA
        return {
            "backbone": build_backbone(cfg),
            "hidden": spa.HIDDEN,
            "num_classes": len(CLASS_NAMES),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "restriction_weight": spa.RESTRICTION_WEIGHT,
            "restriction_start": int(spa.RESTRICTION_START * cfg.SOLVER.MAX_ITER),
            "restriction_variances": spa.RESTRICTION_VARIANCES,
            "seeds": spa.SEEDS,
            "first_order_min": spa.FIRST_ORDER_MIN,
            "threshold": spa.THRESHOLD,
            "bfloat16": cfg.SOLVER.AMP.ENABLED,
        }

    @property
    def device(self):
        return self.pixel_mean.device

    @property
    def size_divisibility(self) -> int:
        return self.stride

    def training_losses(self, batched_inputs: List[Dict]) -> Dict[str, Tensor]:
        """Of the classes of the images alone: boxes are not looked at."""
        maps, _ = self.class_maps(batched_inputs)
        classes = torch.tensor([x["category_id"] for x in batched_inputs], device=self.device)
        losses = {"loss_class": F.cross_entropy(torch.stack([x.mean(dim=(1, 2)) for x in maps]), classes)}
        restriction = torch.stack([restricted_activation(x, c, *self.restriction_variances) for x, c in zip(maps, classes)])
        started = get_event_storage().iter >= self.restriction_start
        losses["loss_restriction"] = restriction.mean() * (self.restriction_weight if started else 0.0)
        return losses

    def class_maps(self, batched_inputs: List[Dict]) -> Tuple[List[Tensor], List[List[Tensor]]]:
        """For each of N images the class maps (K, h, w), logits, and the features (Ci, h, w) of the last two blocks; without
        the padding."""
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        blocks = [features[name] for name in BLOCKS]
        maps = [x.float() for x in (self.classifier(blocks[-1]), *blocks)]
        cells = [tuple(math.ceil(side / self.stride) for side in size) for size in images.image_sizes]
        cropped = [[x[i, :, :h, :w] for x in maps] for i, (h, w) in enumerate(cells)]
        return [x[0] for x in cropped], [x[1:] for x in cropped]

    @torch.no_grad()
    def detect(self, batched_inputs: List[Dict], max_per_image: Optional[int] = None) -> List[Dict[str, Instances]]:
        # one by one: the padding that a larger image brings would change the cells at the border
        return [{"instances": self._found(x)[:max_per_image]} for x in batched_inputs]

    def _found(self, inputs: Dict) -> Instances:
        (maps,), (blocks,) = self.class_maps([inputs])
        probabilities = maps.mean(dim=(1, 2)).softmax(dim=0)
        score, predicted = probabilities.max(dim=0)
        size = tuple(inputs["image"].shape[1:])
        structure = self.structure(maps, blocks, size)
        found = Instances(
            size,
            pred_boxes=Boxes(largest_part(structure, self.threshold)[None]),
            scores=score[None],
            pred_classes=predicted[None],
            malignancy=probabilities[None, MALIGNANT],
        )
        return detector_postprocess(found, *output_size(inputs, size))

    def structure(self, maps: Tensor, blocks: List[Tensor], size: Tuple[int, int]) -> Tensor:
        """The structure-preserving map of the more probable class: (H, W) of the image tensor, in [0, 1].

        Args:
            maps, blocks: of one image, see :meth:`class_maps`.
            size: H and W.
        """
        correlation = sum(self_correlation(x, self.first_order_min) for x in blocks)
        return at_pixels(structure_map(class_map(maps), correlation, *self.seeds), self.stride, size)


def class_map(maps: Tensor) -> Tensor:
    """(h, w) in [0, 1]: of the (K, h, w) maps of an image, that of the more probable class."""
    return scaled(maps[maps.mean(dim=(1, 2)).argmax()].relu())


def scaled(x: Tensor, dim: Optional[int] = None) -> Tensor:
    """To [0, 1], along a dimension or in all; zeros where all are equal."""
    low, high = (x.amin(dim, keepdim=True), x.amax(dim, keepdim=True)) if dim is not None else (x.min(), x.max())
    return (x - low) / (high - low).clamp(min=1e-10)


def restricted_activation(maps: Tensor, label: Tensor, background: float, foreground: float) -> Tensor:
    """
    The loss that flattens the map of an image's class (Sec. 3.2 of the paper): 0 on the background, 1 on the object.

    Args:
        maps: (K, h, w), logits.
        label: of the image.
        background, foreground: cells whose variance over the class probabilities, scaled to [0, 1] in the image, is below
            the first are background, those above the second object; the others do not count.
    """
    variance = scaled(maps.detach().softmax(dim=0).var(dim=0))
    activation = maps[label].sigmoid()
    return (activation * (variance < background) + (1 - activation) * (variance > foreground)).mean()


def self_correlation(features: Tensor, first_order_min: float) -> Tensor:
    """
    How alike the cells of a feature map are, directly or by way of a third one (Sec. 3.3 of the paper).

    Features count where they are positive, as in the authors' VGG, whose blocks end in a ReLU. The blocks of an EfficientNet
    end without one, and half of their features are negative.

    Args:
        features: (C, h, w).
        first_order_min: cosines below it count as 0.
    Returns:
        (hw, hw), each column sums to 1: the higher of first and second order.
    """
    cells = F.normalize(features.flatten(1).relu(), dim=0, eps=1e-10)
    cosine = cells.T @ cells
    cosine = cosine * (cosine >= first_order_min)
    first = _columns(cosine)
    step = _columns(cosine - torch.diag(cosine.diag()))  # a cell is no third one to itself
    second = _columns(step @ step)
    second = second * (second >= SECOND_ORDER_MIN / len(second))
    return _columns(torch.maximum(first, SECOND_ORDER_WEIGHT * second))


def _columns(x: Tensor) -> Tensor:
    return x / (x.sum(dim=0, keepdim=True) + EPSILON)


def structure_map(class_map: Tensor, correlation: Tensor, background: float, foreground: float) -> Tensor:
    """
    The structure-preserving map: what is like the seeds of the object less what is like those of the background.

    Args:
        class_map: (h, w), in [0, 1].
        correlation: (hw, hw), a column for each cell.
        background, foreground: cells up to the first value, and from the second on, are seeds.
    Returns:
        (h, w), in [0, 1].
    """
    seeds = class_map.flatten()
    like = []
    for chosen in (seeds >= foreground, seeds <= background):
        like.append(scaled(scaled(correlation[:, chosen], dim=0).sum(dim=1)))
    return scaled((like[0] - like[1]).relu()).view_as(class_map)


def at_pixels(values: Tensor, stride: int, size: Tuple[int, int]) -> Tensor:
    """
    Values of cells between which pixels are interpolated.

    The cell (i, j) is at the pixel (stride * i, stride * j), where a chain of convolutions looks that are strided and padded
    on both sides; cells of the authors' VGG, which pools without padding, look half a stride further.

    Args:
        values: (h, w).
        size: H and W, at most stride * h and stride * w.
    Returns:
        (H, W); beyond the last cell its value.
    """
    repeated = F.pad(values[None, None], (0, 1, 0, 1), mode="replicate")
    sides = [stride * side + 1 for side in values.shape]
    return F.interpolate(repeated, size=sides, mode="bilinear", align_corners=True)[0, 0, : size[0], : size[1]]


def largest_part(values: Tensor, threshold: float) -> Tensor:
    """The box (4,), XYXY, of the largest connected part of (H, W) values that are at least a threshold; of the whole where
    none is."""
    mask = (values >= threshold).cpu().numpy().astype(np.uint8)
    _, _, parts, _ = cv2.connectedComponentsWithStats(mask)
    if len(parts) == 1:
        return values.new_tensor([0, 0, values.shape[1], values.shape[0]])
    x, y, width, height, _ = parts[1 + parts[1:, cv2.CC_STAT_AREA].argmax()]
    return values.new_tensor([x, y, x + width, y + height])


# of both profiles on Detectron2's ResNets
RESNET = {"MODEL.BACKBONE.NAME": "build_dilated_resnet_backbone"}
register_method(
    Method(
        "spa",
        "SPA",
        "SPA",
        CLASSES,
        overrides={"MODEL.CNET.WEIGHTS": "", "REFINEMENT.ENABLED": False},
        profiles={
            "cpu": {
                **ONE_STAGE["cpu"],
                "MODEL.BACKBONE.NAME": "build_dilated_timm_backbone",
                "MODEL.SPA.HIDDEN": 256,
                # the best of BUS-BRA's fold 1, p = 0.2, on its validation images
                "MODEL.SPA.SEEDS": (0.05, 0.7),
                "MODEL.SPA.THRESHOLD": 0.5,
            },
            "scratch": {**ONE_STAGE["scratch"], **RESNET, "MODEL.SPA.HIDDEN": 256},
            "paper": {**ONE_STAGE["paper"], **RESNET},
        },
        paper=(paper_row("table1", 0.2, "85.77±1.30 86.83±2.40 84.90±2.65 71.73±2.62"),),
    )
)
