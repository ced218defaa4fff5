"""What YOLOv4 and YOLOv7 share: anchors, the detector around their networks, its detections, and its training on mosaics.

Letters in shapes: N images, L levels of A anchors each, (Hi, Wi) cells of level i, K classes, M boxes, B anchors of all
levels.
"""

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import configurable
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.layers import Conv2d, batched_nms, ciou_loss, get_norm
from detectron2.modeling import build_backbone
from detectron2.modeling.backbone import Backbone
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances

from ..data.categories import CLASS_NAMES
from ..data.draws import Stream
from ..data.mapper import BBUIMapper
from ..data.mosaic import MosaicMapper, MosaicStyle
from ..data.roi import drawn_by_hand
from ..engine.trainer import Trainer
from ..evaluation.detections import MALIGNANT, diagnose_detections
from ..modeling.contract import DiagnosisNetwork
from ..modeling.network import output_size
from ..modeling.preprocessing import PreprocessesImages
from .detectors import ONE_STAGE

# Those of both originals for COCO; a run replaces them with those of its training set.
COCO_ANCHORS = ((12, 16), (19, 36), (40, 28), (36, 75), (76, 55), (72, 146), (142, 110), (192, 243), (459, 401))
STRIDES = (8, 16, 32)
# Boxes of each class that go into the suppression of overlapping ones.
CANDIDATES = 300
KMEANS_STEPS = 100


class Positives(NamedTuple):
    """The P predictions of one level that a box is assigned to; each a (P,) tensor.

    Attributes:
        image, anchor, y, x: indices of the prediction.
        box: index of the box among those of all images.
    """

    image: Tensor
    anchor: Tensor
    y: Tensor
    x: Tensor
    box: Tensor


class Targets(NamedTuple):
    """The boxes of a batch: image (M,), boxes (M, 4) absolute XYXY in the image tensor, classes (M,)."""

    image: Tensor
    boxes: Tensor
    classes: Tensor

    @classmethod
    def of(cls, batched_inputs: List[Dict], device) -> "Targets":
        given = [x["instances"].to(device) for x in batched_inputs]
        return cls(
            torch.cat([x.gt_classes.new_full((len(x),), i) for i, x in enumerate(given)]),
            torch.cat([x.gt_boxes.tensor for x in given]),
            torch.cat([x.gt_classes for x in given]),
        )


class YOLODetector(DiagnosisNetwork, PreprocessesImages, nn.Module):
    """A backbone, a network on three of its levels, and what :class:`~tsdd_d2.modeling.contract.DiagnosisNetwork` asks for.

    A box's score is objectness times class probability, its ``malignancy`` that of
    :func:`~tsdd_d2.evaluation.detections.diagnose_detections`.

    The anchors are a buffer, so that a checkpoint predicts without the training set. A method defines :meth:`decode` and
    :meth:`losses`.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        num_classes: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        nms_threshold: float,
        max_detections_per_image: int,
        bfloat16: bool,
    ):
        """
        Args:
            backbone: with levels of stride 8, 16 and 32.
            head: L = 3 feature maps -> L tensors (N, A * (5 + K), Hi, Wi): for each anchor the 4 logits of the box,
                objectness, and K classes.
            pixel_mean, pixel_std: of the channels, in 0-255.
            nms_threshold: IoU from which the lower of two detections of a class goes.
            max_detections_per_image: for all classes together; each class has its share, since the diagnosis needs the top
                detection of both.
            bfloat16: see :class:`~tsdd_d2.modeling.contract.DiagnosisNetwork`.
        """
        super().__init__()
        self.bfloat16 = bfloat16
        self.backbone = backbone
        self.levels = levels_of(backbone)
        self.head = head
        self.num_classes = num_classes
        self.nms_threshold = nms_threshold
        self.max_detections_per_class = max(1, max_detections_per_image // num_classes)
        self.register_buffer("anchors", torch.tensor(COCO_ANCHORS, dtype=torch.float32).view(len(STRIDES), -1, 2))
        self.register_pixel_statistics(pixel_mean, pixel_std)
        self.to(memory_format=torch.channels_last)

    @classmethod
    def from_config(cls, cfg):
        return {
            "backbone": build_backbone(cfg),
            "num_classes": len(CLASS_NAMES),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "bfloat16": cfg.SOLVER.AMP.ENABLED,
        }

    @property
    def device(self):
        return self.pixel_mean.device

    def fit_anchors(self, sizes: Tensor) -> None:
        """Takes the anchors of the training set: ``sizes`` (M, 2), width and height of its boxes in the image tensor."""
        fitted = kmeans_anchors(sizes, self.anchors[..., 0].numel())
        self.anchors.copy_(fitted.view_as(self.anchors))

    def decode(self, logits: Tensor, cells: Tensor, anchors: Tensor, stride: int) -> Tensor:
        """
        Args:
            logits: (..., 4).
            cells: (..., 2), column and row.
            anchors: (..., 2), width and height in pixels.
        Returns:
            (..., 4), absolute XYXY in the image tensor.
        """
        raise NotImplementedError

    def losses(self, predictions: List[Tensor], targets: Targets) -> Dict[str, Tensor]:
        """
        Args:
            predictions: L tensors (N, A, Hi, Wi, 5 + K), logits.
        """
        raise NotImplementedError

    @property
    def size_divisibility(self) -> int:
        # the levels are joined, so that all strides must divide the sides, whatever the backbone alone asks for
        return max(STRIDES)

    def training_losses(self, batched_inputs: List[Dict]) -> Dict[str, Tensor]:
        predictions = self.predict(self.preprocess_image(batched_inputs).tensor)
        return self.losses(predictions, Targets.of(batched_inputs, self.device))

    @torch.no_grad()
    def detect(self, batched_inputs: List[Dict], max_per_image: Optional[int] = None) -> List[Dict[str, Instances]]:
        images = self.preprocess_image(batched_inputs)
        boxes, scores = self.boxes_and_scores(self.predict(images.tensor))
        found = [self._suppressed(b, s, size) for b, s, size in zip(boxes, scores, images.image_sizes)]
        found = [detector_postprocess(x, *output_size(i, x.image_size)) for x, i in zip(found, batched_inputs)]
        # all boxes decide the diagnosis, not those alone that are asked for
        return [{"instances": diagnose_detections(x)[:max_per_image]} for x in found]

    def coarsest_stride(self) -> int:
        return max(STRIDES)

    def diagnose_tensor(self, images: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """See :class:`~tsdd_d2.modeling.contract.DiagnosesTensors`. The best box of a class outlives every suppression."""
        image_list = self.preprocess_tensor(images)
        boxes, scores = self.boxes_and_scores(self.predict(image_list.tensor))
        height, width = image_list.image_sizes[0]
        boxes = torch.stack([boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)], dim=-1).flatten(-2)
        scores = scores * (boxes[..., 2:] > boxes[..., :2]).all(dim=-1, keepdim=True)
        of_class = scores.amax(dim=1)
        best_score, best = scores.amax(dim=2).max(dim=1)
        best_box = boxes.gather(1, best[:, None, None].expand(-1, 1, 4))[:, 0]
        return best_box, best_score, of_class[:, MALIGNANT] / of_class.sum(dim=1)

    def predict(self, images: Tensor) -> List[Tensor]:
        """(N, C, H, W) normalised -> L tensors (N, A, Hi, Wi, 5 + K) of logits in full precision."""
        features = self.backbone(images)
        outputs = self.head([features[name] for name in self.levels])
        # losses and boxes lose too much in half precision
        return [x.float().unflatten(1, (self.anchors.shape[1], -1)).permute(0, 1, 3, 4, 2) for x in outputs]

    def decode_all(self, predictions: List[Tensor]) -> List[Tensor]:
        """The boxes of all predictions: L tensors (N, A, Hi, Wi, 4), absolute XYXY in the image tensor."""
        return [
            self.decode(p[..., :4], cells_of(p), anchors[:, None, None], stride)
            for p, anchors, stride in zip(predictions, self.anchors, STRIDES)
        ]

    def at_positives(self, level: int, prediction: Tensor, positives: Positives) -> Tuple[Tensor, Tensor]:
        """The P predictions of a level that have a box: their boxes (P, 4) XYXY, and all their logits (P, 5 + K)."""
        logits = prediction[positives[:4]]
        cells = torch.stack([positives.x, positives.y], dim=1)
        return self.decode(logits[:, :4], cells, self.anchors[level, positives.anchor], STRIDES[level]), logits

    def boxes_and_scores(self, predictions: List[Tensor]) -> Tuple[Tensor, Tensor]:
        """All R predictions of each image: (N, R, 4) absolute XYXY in the image tensor, and (N, R, K)."""
        boxes = torch.cat([x.flatten(1, 3) for x in self.decode_all(predictions)], dim=1)
        logits = torch.cat([x.flatten(1, 3) for x in predictions], dim=1)[..., 4:]
        return boxes, logits[..., :1].sigmoid() * logits[..., 1:].sigmoid()

    def _suppressed(self, boxes: Tensor, scores: Tensor, image_size: Tuple[int, int]) -> Instances:
        """``Instances`` of (R, 4) boxes and their (R, K) scores."""
        boxes = Boxes(boxes)
        boxes.clip(image_size)
        scores = scores * boxes.nonempty()[:, None]  # what lies in the padding comes last
        top, indices = scores.topk(min(CANDIDATES, len(scores)), dim=0)
        classes = torch.arange(self.num_classes, device=top.device).expand_as(top).flatten()
        boxes, top = boxes.tensor[indices.flatten()], top.flatten()
        keep = batched_nms(boxes, top, classes, self.nms_threshold)
        keep = torch.cat([keep[classes[keep] == c][: self.max_detections_per_class] for c in range(self.num_classes)])
        return Instances(image_size, pred_boxes=Boxes(boxes[keep]), scores=top[keep], pred_classes=classes[keep])


def conv_block(in_channels: int, out_channels: int, kernel: int, stride: int = 1, activation: nn.Module = None) -> Conv2d:
    """A convolution that keeps the size at stride 1, batch normalisation and an activation."""
    return Conv2d(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=kernel // 2,
        bias=False,
        norm=get_norm("BN", out_channels),
        activation=activation,
    )


class PAN(nn.Module):
    """A path aggregation network (arXiv:1803.01534) that concatenates levels in place of adding them; a subclass makes its
    layers."""

    spp: nn.Module
    reduce4: nn.Module
    reduce5: nn.Module
    lateral3: nn.Module
    lateral4: nn.Module
    down_path3: nn.Module
    down_path4: nn.Module
    down4: nn.Module
    down5: nn.Module
    up_path4: nn.Module
    up_path5: nn.Module

    def aggregate(self, features: List[Tensor]) -> Tuple[Tensor, Tensor, Tensor]:
        """Levels of stride 8, 16 and 32 -> as many, each of which has seen the others."""
        level3, level4, level5 = features
        level5 = self.spp(level5)
        level4 = self.down_path4(torch.cat([self.lateral4(level4), _enlarged(self.reduce5(level5))], dim=1))
        level3 = self.down_path3(torch.cat([self.lateral3(level3), _enlarged(self.reduce4(level4))], dim=1))
        level4 = self.up_path4(torch.cat([self.down4(level3), level4], dim=1))
        level5 = self.up_path5(torch.cat([self.down5(level4), level5], dim=1))
        return level3, level4, level5


def _enlarged(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, 2H, 2W), each cell four times."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def scaled_channels(channels: int, width: float) -> int:
    """``width`` times as many channels, rounded up to a multiple of 8."""
    return -(-int(channels * width) // 8) * 8


def levels_of(backbone: Backbone) -> List[str]:
    """The names of the backbone's feature maps with the strides 8, 16 and 32, in this order.

    Raises:
        ValueError: it has no such maps.
    """
    by_stride = {shape.stride: name for name, shape in backbone.output_shape().items()}
    if not by_stride.keys() >= set(STRIDES):
        raise ValueError(f"A YOLO needs levels of stride {STRIDES}, and the backbone has {sorted(by_stride)}.")
    return [by_stride[stride] for stride in STRIDES]


def cells_of(prediction: Tensor) -> Tensor:
    """(N, A, H, W, ...) -> (H, W, 2), column and row of each cell."""
    height, width = prediction.shape[2:4]
    rows, columns = torch.meshgrid(
        torch.arange(height, device=prediction.device), torch.arange(width, device=prediction.device), indexing="ij"
    )
    return torch.stack([columns, rows], dim=-1)


def complete_iou(boxes: Tensor, other: Tensor) -> Tensor:
    """CIoU of corresponding boxes (arXiv:1911.08287): two (P, 4) XYXY -> (P,), 1 for equal ones, below 0 for far ones."""
    return 1 - ciou_loss(boxes, other)


def shape_iou(sizes: Tensor, other: Tensor) -> Tensor:
    """IoU of boxes about one centre: (M, 2) and (B, 2), width and height -> (M, B)."""
    intersection = torch.minimum(sizes[:, None], other).prod(dim=-1)
    return intersection / (sizes.prod(dim=-1)[:, None] + other.prod(dim=-1) - intersection)


def kmeans_anchors(sizes: Tensor, num_anchors: int) -> Tensor:
    """
    k-means of box sizes with 1 - IoU as the distance (arXiv:1612.08242, Sec. 2), without a random start: the first anchors
    are boxes at equal steps of area. An anchor that no box is nearest to stays where it is.

    Args:
        sizes: (M, 2), width and height, M at least 1.
    Returns:
        (num_anchors, 2), by area.
    """
    by_area = sizes[sizes.prod(dim=1).argsort(stable=True)]
    positions = (torch.arange(num_anchors) + 0.5) * len(sizes) / num_anchors
    anchors = by_area[positions.long()].clone()
    for _ in range(KMEANS_STEPS):
        nearest = shape_iou(sizes, anchors).argmax(dim=1)
        moved = anchors.clone()
        for i in nearest.unique():
            moved[i] = sizes[nearest == i].mean(dim=0)
        if torch.equal(moved, anchors):
            break
        anchors = moved
    return anchors[anchors.prod(dim=1).argsort(stable=True)]


class YOLOTrainer(Trainer):
    """Trains on mosaics, with the anchors of the boxes that the run may see. A method defines :meth:`mosaic_style`."""

    @staticmethod
    def mosaic_style(cfg) -> MosaicStyle:
        raise NotImplementedError

    @classmethod
    def initialise(cls, cfg, network: YOLODetector) -> None:
        super().initialise(cfg, network)
        network.fit_anchors(box_sizes(cls.initial_rois(cfg), cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST))

    def streams(self, images: List[Dict]) -> List[Stream]:
        style = self.mosaic_style(self.cfg)
        mapper = MosaicMapper(BBUIMapper(self.cfg, is_train=True, read_pixels=self.read_pixels), style)
        return [Stream(images, self.cfg.SOLVER.IMS_PER_BATCH, mapper, style.composed_of)]


def box_sizes(bbui: Dict, min_size: int, max_size: int) -> Tensor:
    """
    Args:
        bbui: the content of a BBUI file.
        min_size, max_size: pixels of the shorter and at most of the longer side of an image tensor.
    Returns:
        (M, 2): width and height of the manual ROIs, in pixels of the image tensor.
    """
    scales = {}
    for image in bbui["images"]:
        height, width = image["height"], image["width"]
        new_height, new_width = ResizeShortestEdge.get_output_shape(height, width, min_size, max_size)
        scales[image["id"]] = (new_width / width, new_height / height)
    # a pseudo ROI is a guess at what the method may not see
    manual = [x for x in bbui["annotations"] if drawn_by_hand(x)]
    sizes = [[side * scale for side, scale in zip(x["bbox"][2:], scales[x["image_id"]])] for x in manual]
    return torch.tensor(sizes, dtype=torch.float32).view(-1, 2)


# Both are trained and tested on these keys; the diagnosis needs more than the one best box.
YOLO = {
    "MODEL.WEIGHTS": "",
    "MODEL.CNET.WEIGHTS": "",
    "REFINEMENT.ENABLED": False,
    "SOLVER.WEIGHT_DECAY_BIAS": 0.0,  # of both authors
    "TEST.DETECTIONS_PER_IMAGE": 100,
}
YOLO_PROFILES = {
    **ONE_STAGE,
    "scratch": {**ONE_STAGE["scratch"], "SOLVER.AMP.ENABLED": False},  # bfloat16 makes narrow convolutions slower on CPUs
}
