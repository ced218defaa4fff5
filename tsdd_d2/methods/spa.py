"""SPA (arXiv:2103.04523): where the lesion is, from the classes of the images alone.

A classifier is trained with restricted activation; at inference the self-correlation of its last two blocks turns its class
map, its own last convolution as in the authors' software, into one that keeps the structure of the object. Its box is that of
the largest part, where theirs holds all parts. With two classes the variance over the class probabilities, which the
restriction takes, is (2p - 1)² / 2: it tells how certain a cell is, not which class it shows.
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
from ..evaluation.detections import MALIGNANT
from ..method import CLASSES, Method, paper_row, register_method
from ..modeling.contract import DiagnosisNetwork
from ..modeling.network import output_size
from ..modeling.preprocessing import PreprocessesImages
from .detectors import ONE_STAGE

# The blocks' maps have this stride, as in the authors' VGG; those of the last block of a ResNet are enlarged to it.
STRIDE = 16
# Correlations below these are none; the second, of the second order, in units of an even distribution.
FIRST_ORDER_MIN, SECOND_ORDER_MIN = 0.1, 0.5
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
        threshold: float,
        bfloat16: bool,
    ):
        """
        Args:
            backbone: with levels of stride 16 and 32.
            hidden: channels of the two convolutions before the class maps.
            pixel_mean, pixel_std: of the channels, in 0-255.
            restriction_weight: of the restricted activation in the loss.
            restriction_start: the iteration from which on it is there.
            restriction_variances: see :func:`restricted_activation`.
            seeds: see :func:`structure_map`.
            threshold: see :func:`largest_part`.
            bfloat16: see :class:`~tsdd_d2.modeling.contract.DiagnosisNetwork`.
        """
        super().__init__()
        self.backbone = backbone
        by_stride = {shape.stride: (name, shape.channels) for name, shape in backbone.output_shape().items()}
        self.blocks = [by_stride[STRIDE][0], by_stride[2 * STRIDE][0]]
        self.classifier = nn.Sequential(
            nn.Conv2d(by_stride[2 * STRIDE][1], hidden, 3, padding=1),
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
        self.threshold = threshold
        self.bfloat16 = bfloat16
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)
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
            "threshold": spa.THRESHOLD,
            "bfloat16": cfg.SOLVER.AMP.ENABLED,
        }

    @property
    def device(self):
        return self.pixel_mean.device

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
        fine, coarse = (features[name] for name in self.blocks)
        coarse = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear")
        maps, blocks = self.classifier(coarse).float(), [fine.float(), coarse.float()]
        cells = [tuple(math.ceil(side / STRIDE) for side in size) for size in images.image_sizes]
        cropped = [[x[i, :, :h, :w] for x in (maps, *blocks)] for i, (h, w) in enumerate(cells)]
        return [x[0] for x in cropped], [x[1:] for x in cropped]

    @torch.no_grad()
    def detect(self, batched_inputs: List[Dict], max_per_image: Optional[int] = None) -> List[Dict[str, Instances]]:
        maps, blocks = self.class_maps(batched_inputs)
        return [
            {"instances": self._found(x, b, inputs)[:max_per_image]} for x, b, inputs in zip(maps, blocks, batched_inputs)
        ]

    def _found(self, maps: Tensor, blocks: List[Tensor], inputs: Dict) -> Instances:
        probabilities = maps.mean(dim=(1, 2)).softmax(dim=0)
        score, predicted = probabilities.max(dim=0)
        correlation = sum(self_correlation(x) for x in blocks)
        structure = structure_map(scaled(maps[predicted].relu()), correlation, *self.seeds)
        size = tuple(inputs["image"].shape[1:])
        structure = F.interpolate(structure[None, None], size=size, mode="bilinear")[0, 0]
        found = Instances(
            size,
            pred_boxes=Boxes(largest_part(structure, self.threshold)[None]),
            scores=score[None],
            pred_classes=predicted[None],
            malignancy=probabilities[None, MALIGNANT],
        )
        return detector_postprocess(found, *output_size(inputs, size))


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


def self_correlation(features: Tensor) -> Tensor:
    """
    How alike the cells of a feature map are, directly or by way of a third one (Sec. 3.3 of the paper).

    Args:
        features: (C, h, w).
    Returns:
        (hw, hw), each column sums to 1: the higher of first and second order.
    """
    cells = F.normalize(features.flatten(1), dim=0, eps=1e-10)
    cosine = (cells.T @ cells).relu()
    cosine = cosine * (cosine >= FIRST_ORDER_MIN)
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


def largest_part(values: Tensor, threshold: float) -> Tensor:
    """The box (4,), XYXY, of the largest connected part of (H, W) values that are at least a threshold; of the whole where
    none is."""
    mask = (values >= threshold).cpu().numpy().astype(np.uint8)
    _, _, parts, _ = cv2.connectedComponentsWithStats(mask)
    if len(parts) == 1:
        return values.new_tensor([0, 0, values.shape[1], values.shape[0]])
    x, y, width, height, _ = parts[1 + parts[1:, cv2.CC_STAT_AREA].argmax()]
    return values.new_tensor([x, y, x + width, y + height])


register_method(
    Method(
        "spa",
        "SPA",
        "SPA",
        CLASSES,
        overrides={"MODEL.CNET.WEIGHTS": "", "REFINEMENT.ENABLED": False},
        profiles={
            "cpu": {**ONE_STAGE["cpu"], "MODEL.BACKBONE.NAME": "build_timm_backbone", "MODEL.SPA.HIDDEN": 256},
            "scratch": {**ONE_STAGE["scratch"], "MODEL.BACKBONE.NAME": "build_resnet_backbone", "MODEL.SPA.HIDDEN": 256},
            "paper": {**ONE_STAGE["paper"], "MODEL.BACKBONE.NAME": "build_resnet_backbone"},
        },
        paper=(paper_row("table1", 0.2, "85.77±1.30 86.83±2.40 84.90±2.65 71.73±2.62"),),
    )
)
