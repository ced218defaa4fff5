"""YOLOv4 (arXiv:2004.10934) on a backbone of Detectron2's registry, as the paper compares it on a ResNet.

Neck, head and loss are those of the authors' ``yolov4.cfg``. Its Mish is in its own backbone alone: neck and head are leaky.
"""

import math
from typing import Dict, List, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_convert, box_iou

from detectron2.layers import Conv2d
from detectron2.modeling import META_ARCH_REGISTRY

from ..data.mosaic import MosaicStyle
from ..method import FA_BOXES, Method, paper_row, register_method
from .yolo import (
    PAN,
    STRIDES,
    YOLO,
    YOLO_PROFILES,
    Positives,
    Targets,
    YOLODetector,
    YOLOTrainer,
    complete_iou,
    conv_block,
    levels_of,
    scaled_channels,
    shape_iou,
)

# scale_x_y of stride 8, 16 and 32: a centre reaches the border of its cell
CENTRE_SCALES = {8: 1.2, 16: 1.1, 32: 1.05}
# A box is a positive of its best anchor and of every other of at least this shape IoU.
POSITIVE_IOU = 0.213
# A prediction that overlaps a box more than this is no negative.
IGNORE_IOU = 0.7
# darknet's 0.07 multiplies derivatives by the box in shares of the image, without those of sigmoid, cell and anchor. On
# BUS-BRA's boxes they are about as long as the exact gradient times this: 0.3 to 0.8 times for sizes, 2 to 14 for centres.
BOX_GAIN = 0.6
# Of objectness at the start, as in RetinaNet: Adam moves a bias by no more than the learning rate in a step, where darknet's
# SGD follows the sum over all cells.
PRIOR = 0.01
# Sides grow at most this much beyond an anchor's, as in Detectron2: the exponential must not overflow.
MAX_LOG_SCALE = math.log(1000 / 16)


def conv(in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1) -> Conv2d:
    return conv_block(in_channels, out_channels, kernel, stride, nn.LeakyReLU(0.1, inplace=True))


def alternating(in_channels: int, channels: int, convs: int) -> nn.Sequential:
    """1x1 to ``channels``, 3x3 to twice as many, 1x1 back, and so on."""
    layers = []
    for i in range(convs):
        out, kernel = (2 * channels, 3) if i % 2 else (channels, 1)
        layers.append(conv(in_channels, out, kernel))
        in_channels = out
    return nn.Sequential(*layers)


class SPP(nn.Module):
    """Spatial pyramid pooling (arXiv:1406.4729) at one scale: the map beside its maxima over 5, 9 and 13 cells."""

    POOLING = (5, 9, 13)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [F.max_pool2d(x, size, stride=1, padding=size // 2) for size in reversed(self.POOLING)]
        return torch.cat([*pooled, x], dim=1)


class YOLOv4Head(PAN):
    """SPP, PAN and the predictions, on three levels."""

    def __init__(self, in_channels: Sequence[int], num_classes: int, num_anchors: int = 3, width: float = 1.0):
        """
        Args:
            in_channels: of the backbone's levels of stride 8, 16 and 32.
            width: factor of all channels.
        """
        super().__init__()
        c3, c4, c5 = (scaled_channels(x, width) for x in (128, 256, 512))
        spp = SPP()
        self.spp = nn.Sequential(alternating(in_channels[2], c5, 3), spp, alternating(c5 * (1 + len(spp.POOLING)), c5, 3))
        self.reduce5, self.lateral4, self.down_path4 = conv(c5, c4), conv(in_channels[1], c4), alternating(2 * c4, c4, 5)
        self.reduce4, self.lateral3, self.down_path3 = conv(c4, c3), conv(in_channels[0], c3), alternating(2 * c3, c3, 5)
        self.down4, self.up_path4 = conv(c3, c4, 3, 2), alternating(2 * c4, c4, 5)
        self.down5, self.up_path5 = conv(c4, c5, 3, 2), alternating(2 * c5, c5, 5)
        self.predictors = nn.ModuleList(
            nn.Sequential(conv(c, 2 * c, 3), nn.Conv2d(2 * c, num_anchors * (5 + num_classes), 1)) for c in (c3, c4, c5)
        )
        with torch.no_grad():
            for predictor in self.predictors:
                predictor[-1].bias.view(num_anchors, -1)[:, 4] = math.log(PRIOR / (1 - PRIOR))

    def forward(self, features: List[Tensor]) -> List[Tensor]:
        """Levels of stride 8, 16 and 32 -> as many tensors (N, A * (5 + K), Hi, Wi)."""
        return [predictor(x) for predictor, x in zip(self.predictors, self.aggregate(features))]


@META_ARCH_REGISTRY.register()
class YOLOv4(YOLODetector):
    """YOLOv4 (arXiv:2004.10934)."""

    @classmethod
    def from_config(cls, cfg):
        arguments = super().from_config(cfg)
        shapes = arguments["backbone"].output_shape()
        arguments["head"] = YOLOv4Head(
            [shapes[name].channels for name in levels_of(arguments["backbone"])],
            arguments["num_classes"],
            width=cfg.MODEL.YOLOV4.WIDTH,
        )
        arguments["nms_threshold"] = cfg.MODEL.YOLOV4.NMS_THRESH_TEST
        return arguments

    def decode(self, logits: Tensor, cells: Tensor, anchors: Tensor, stride: int) -> Tensor:
        scale = CENTRE_SCALES[stride]
        centres = logits[..., :2].sigmoid() * scale - (scale - 1) / 2 + cells
        sizes = logits[..., 2:].clamp(max=MAX_LOG_SCALE).exp() * anchors
        return box_convert(torch.cat([centres * stride, sizes], dim=-1), "cxcywh", "xyxy")

    def losses(self, predictions: List[Tensor], targets: Targets) -> Dict[str, Tensor]:
        grids = [tuple(p.shape[2:4]) for p in predictions]
        all_positives = assign(targets, self.anchors, grids)
        with torch.no_grad():
            all_boxes = self.decode_all(predictions)
        box_loss = objectness_loss = class_loss = sum(p.sum() for p in predictions) * 0
        for level, (prediction, positives, boxes) in enumerate(zip(predictions, all_positives, all_boxes)):
            objectness = torch.zeros_like(prediction[..., 4])
            objectness[positives[:4]] = 1
            counted = (objectness > 0) | ~overlapping(boxes, targets)
            of_level = F.binary_cross_entropy_with_logits(prediction[..., 4], objectness, reduction="none")
            objectness_loss = objectness_loss + (of_level * counted).sum()
            boxes, logits = self.at_positives(level, prediction, positives)
            box_loss = box_loss + (1 - complete_iou(boxes, targets.boxes[positives.box])).sum()
            classes = F.one_hot(targets.classes[positives.box], self.num_classes).to(logits)
            class_loss = class_loss + F.binary_cross_entropy_with_logits(logits[:, 5:], classes, reduction="sum")
        # Darknet sums over an image and takes the mean of the batch.
        num_images = len(predictions[0])
        return {
            "loss_box": box_loss * BOX_GAIN / num_images,
            "loss_objectness": objectness_loss / num_images,
            "loss_class": class_loss / num_images,
        }


@torch.no_grad()
def assign(targets: Targets, anchors: Tensor, grids: Sequence[Tuple[int, int]]) -> List[Positives]:
    """
    The predictions that each box trains: in the cell of its centre, of the anchor that is most like it in shape, and of all
    others that are like it (:data:`POSITIVE_IOU`).

    Args:
        anchors: (L, A, 2) in pixels.
        grids: rows and columns of each level.
    Returns:
        for each level.
    """
    centres, sizes = box_convert(targets.boxes, "xyxy", "cxcywh").split(2, dim=1)
    ious = shape_iou(sizes, anchors.flatten(0, 1))
    positive = ious > POSITIVE_IOU
    positive[torch.arange(len(ious), device=ious.device), ious.argmax(dim=1)] = True
    found = []
    for of_level, stride, (rows, columns) in zip(positive.split(anchors.shape[1], dim=1), STRIDES, grids):
        box, anchor = of_level.nonzero(as_tuple=True)
        cell = (centres[box] / stride).long()
        y, x = cell[:, 1].clamp(0, rows - 1), cell[:, 0].clamp(0, columns - 1)
        found.append(Positives(targets.image[box], anchor, y, x, box))
    return found


@torch.no_grad()
def overlapping(boxes: Tensor, targets: Targets) -> Tensor:
    """Which of the predicted boxes (N, A, H, W, 4) overlap a box of their image by more than :data:`IGNORE_IOU`; darknet also
    asks of them a probability of a class above 0.25."""
    result = torch.zeros(boxes.shape[:-1], dtype=torch.bool, device=boxes.device)
    for i in targets.image.unique():
        ious = box_iou(boxes[i].view(-1, 4), targets.boxes[targets.image == i])
        result[i] = (ious > IGNORE_IOU).any(dim=1).view(result[i].shape)
    return result


class YOLOv4Trainer(YOLOTrainer):
    @staticmethod
    def mosaic_style(cfg) -> MosaicStyle:
        # darknet's four images of full size meet at a point that is not near the border
        return MosaicStyle(cfg.MODEL.YOLOV4.MOSAIC, centre=(0.2, 0.8))


register_method(
    Method(
        "yolov4",
        "YOLOv4",
        "YOLOv4",
        FA_BOXES,
        overrides={k: v for k, v in YOLO.items() if k != "MODEL.WEIGHTS"},
        profiles={
            "paper": {**YOLO_PROFILES["paper"], "MODEL.BACKBONE.NAME": "build_resnet_backbone"},
            "cpu": {**YOLO_PROFILES["cpu"], "MODEL.BACKBONE.NAME": "build_timm_backbone", "MODEL.YOLOV4.WIDTH": 0.25},
            "scratch": {
                **YOLO_PROFILES["scratch"],
                "MODEL.BACKBONE.NAME": "build_resnet_backbone",
                "MODEL.YOLOV4.WIDTH": 0.25,
            },
        },
        trainer=YOLOv4Trainer,
        paper=(paper_row("table1", 1.0, "84.93±1.21 85.17±1.46 82.46±1.23 67.63±2.38"),),
    )
)
