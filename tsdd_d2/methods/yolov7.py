"""YOLOv7 (arXiv:2207.02696), the base model of its authors, without auxiliary head.

Blocks and channels are those of the authors' ``yolov7.yaml``, gains and assignment those of their ``ComputeLossOTA``. A mosaic
is of four images, where one in five of theirs is of nine; nothing is pasted in, which needs outlines. No package has weights of
its backbone, so that the small profile too trains from random initialisation, and as long as all methods do from there.
"""

from typing import Dict, List, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_convert, box_iou

from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY
from detectron2.modeling.backbone import Backbone
from detectron2.utils import comm

from ..data.mosaic import MosaicStyle
from ..method import FA_BOXES, Method, paper_row, register_method
from .detectors import ITERATIONS
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
)
from .yolov7_weights import CONVS, take_authors_weights

# A box is offered to the anchors that are at most this many times larger or smaller in either side.
ANCHOR_RATIO = 4.0
# The IoUs whose sum is the number of positives of a box.
TOP_IOUS = 10
# of the IoU term in the cost of an assignment
IOU_COST = 3.0
BOX_GAIN, OBJECTNESS_GAIN, CLASS_GAIN = 0.05, 0.7, 0.3
# of the objectness losses of stride 8, 16 and 32
LEVEL_BALANCE = (4.0, 1.0, 0.4)
# The data set and the side of the image for which the gains were set.
COCO_CLASSES, REFERENCE_SIDE = 80, 640


def conv(in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1) -> Conv2d:
    return conv_block(in_channels, out_channels, kernel, stride, nn.SiLU(inplace=True))


class ELAN(nn.Module):
    """Efficient layer aggregation: two 1x1 branches, a chain of convolutions on one of them, all joined by a 1x1."""

    def __init__(self, in_channels: int, branch: int, hidden: int, out_channels: int, convs: int, joined_every: int):
        """
        Args:
            convs: length of the chain.
            joined_every: each so many convolutions the chain's output is among what is joined.
        """
        super().__init__()
        self.shortcut = conv(in_channels, branch)
        self.entry = conv(in_channels, branch)
        self.chain = nn.ModuleList(conv(branch if i == 0 else hidden, hidden, 3) for i in range(convs))
        self.joined_every = joined_every
        self.out = conv(2 * branch + hidden * (convs // joined_every), out_channels)

    def forward(self, x: Tensor) -> Tensor:
        joined = [self.shortcut(x), self.entry(x)]
        x = joined[-1]
        for i, layer in enumerate(self.chain, 1):
            x = layer(x)
            if i % self.joined_every == 0:
                joined.append(x)
        return self.out(torch.cat(joined[::-1], dim=1))


class MaxPoolDown(nn.Module):
    """MP: halves the sides by a maximum and by a stride, each with half of the channels."""

    def __init__(self, in_channels: int, channels: int):
        """
        Args:
            channels: of each half.
        """
        super().__init__()
        self.pooled = conv(in_channels, channels)
        self.strided = nn.Sequential(conv(in_channels, channels), conv(channels, channels, 3, 2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.strided(x), self.pooled(F.max_pool2d(x, 2))], dim=1)


class SPPCSPC(nn.Module):
    """Spatial pyramid pooling (5, 9, 13) in one of two branches."""

    POOLING = (5, 9, 13)

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        hidden = out_channels
        self.entry = nn.Sequential(conv(in_channels, hidden), conv(hidden, hidden, 3), conv(hidden, hidden))
        self.merged = nn.Sequential(conv(hidden * (1 + len(self.POOLING)), hidden), conv(hidden, hidden, 3))
        self.shortcut = conv(in_channels, hidden)
        self.out = conv(2 * hidden, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        deep = self.entry(x)
        pooled = [F.max_pool2d(deep, size, stride=1, padding=size // 2) for size in self.POOLING]
        return self.out(torch.cat([self.merged(torch.cat([deep, *pooled], dim=1)), self.shortcut(x)], dim=1))


class RepConv(nn.Module):
    """A 3x3 and a 1x1 convolution, each with its normalisation, summed; at inference one 3x3 convolution (arXiv:2101.03697).

    The authors' third branch, an identity, needs as many channels out as in, which this network has nowhere.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.dense = conv_block(in_channels, out_channels, 3)
        self.pointwise = conv_block(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return F.silu(self.dense(x) + self.pointwise(x))
        return F.silu(F.conv2d(x, *self.reparametrised(), padding=1))

    def reparametrised(self) -> Tuple[Tensor, Tensor]:
        """The weights (out, in, 3, 3) and bias (out,) of the one convolution that it is at inference."""
        (dense, dense_bias), (pointwise, pointwise_bias) = map(_without_norm, (self.dense, self.pointwise))
        return dense + F.pad(pointwise, (1, 1, 1, 1)), dense_bias + pointwise_bias


def _without_norm(layer: Conv2d) -> Tuple[Tensor, Tensor]:
    """Weights and bias of a convolution that takes its batch normalisation in."""
    norm = layer.norm
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return layer.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


class ImplicitPredictor(nn.Module):
    """A 1x1 convolution with implicit knowledge (arXiv:2105.04206): A is added to its input, M multiplies its output."""

    def __init__(self, in_channels: int, num_anchors: int, num_classes: int, stride: int):
        super().__init__()
        outputs = num_anchors * (5 + num_classes)
        self.added = nn.Parameter(torch.empty(1, in_channels, 1, 1).normal_(0, 0.02))
        self.multiplied = nn.Parameter(torch.empty(1, outputs, 1, 1).normal_(1, 0.02))
        self.conv = nn.Conv2d(in_channels, outputs, 1)
        with torch.no_grad():
            # what the authors expect at the start: 8 objects in an image of 640 pixels, 0.6 of all in one class
            bias = self.conv.bias.view(num_anchors, -1)
            bias[:, 4] += torch.tensor(8 / (REFERENCE_SIDE / stride) ** 2).log()
            bias[:, 5:] += torch.tensor(0.6 / (num_classes - 0.99)).log()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x + self.added) * self.multiplied


class YOLOv7Backbone(Backbone):
    """The backbone of YOLOv7: E-ELAN blocks, with MP between them."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, channels: int = 3):
        """
        Args:
            width: factor of all channels.
            depth: factor of the number of convolutions in a block.
            channels: of the images.
        """
        super().__init__()
        self._out_features = ["elan3", "elan4", "elan5"]
        c = [scaled_channels(x, width) for x in (32, 64, 128, 256, 512, 1024)]
        self.stem = nn.Sequential(
            conv(channels, c[0], 3), conv(c[0], c[1], 3, 2), conv(c[1], c[1], 3), conv(c[1], c[2], 3, 2)
        )
        self.elan2 = backbone_elan(c[2], c[1], c[3], depth)
        self.down3, self.elan3 = MaxPoolDown(c[3], c[2]), backbone_elan(2 * c[2], c[2], c[4], depth)
        self.down4, self.elan4 = MaxPoolDown(c[4], c[3]), backbone_elan(2 * c[3], c[3], c[5], depth)
        self.down5, self.elan5 = MaxPoolDown(c[5], c[4]), backbone_elan(2 * c[4], c[3], c[5], depth)
        self._out_feature_channels = {"elan3": c[4], "elan4": c[5], "elan5": c[5]}
        self._out_feature_strides = dict(zip(self._out_features, STRIDES))

    @property
    def size_divisibility(self) -> int:
        return max(STRIDES)

    def forward(self, x: Tensor) -> Dict[str, Tensor]:
        x = self.elan2(self.stem(x))
        elan3 = self.elan3(self.down3(x))
        elan4 = self.elan4(self.down4(elan3))
        return {"elan3": elan3, "elan4": elan4, "elan5": self.elan5(self.down5(elan4))}


def backbone_elan(in_channels: int, hidden: int, out_channels: int, depth: float) -> ELAN:
    convs = convs_at(depth)
    return ELAN(in_channels, hidden, hidden, out_channels, convs, joined_every=max(1, convs // 2))


def head_elan(in_channels: int, hidden: int, out_channels: int, depth: float) -> ELAN:
    return ELAN(in_channels, out_channels, hidden, out_channels, convs_at(depth), joined_every=1)


def convs_at(depth: float) -> int:
    return max(2, 2 * round(CONVS * depth / 2))


@BACKBONE_REGISTRY.register()
def build_yolov7_backbone(cfg, input_shape: ShapeSpec) -> YOLOv7Backbone:
    """The backbone of YOLOv7, for ``MODEL.BACKBONE.NAME``."""
    return YOLOv7Backbone(cfg.MODEL.YOLOV7.WIDTH, cfg.MODEL.YOLOV7.DEPTH, input_shape.channels)


class YOLOv7Head(PAN):
    """SPPCSPC, PAN of E-ELAN blocks, RepConv and the predictions, on three levels."""

    def __init__(
        self, in_channels: Sequence[int], num_classes: int, num_anchors: int = 3, width: float = 1.0, depth: float = 1.0
    ):
        """
        Args:
            in_channels: of the backbone's levels of stride 8, 16 and 32.
            width, depth: see :class:`YOLOv7Backbone`.
        """
        super().__init__()
        c64, c128, c256, c512, c1024 = (scaled_channels(x, width) for x in (64, 128, 256, 512, 1024))
        self.spp = SPPCSPC(in_channels[2], c512)
        self.reduce5, self.lateral4 = conv(c512, c256), conv(in_channels[1], c256)
        self.down_path4 = head_elan(2 * c256, c128, c256, depth)
        self.reduce4, self.lateral3 = conv(c256, c128), conv(in_channels[0], c128)
        self.down_path3 = head_elan(2 * c128, c64, c128, depth)
        self.down4, self.up_path4 = MaxPoolDown(c128, c128), head_elan(2 * c128 + c256, c128, c256, depth)
        self.down5, self.up_path5 = MaxPoolDown(c256, c256), head_elan(2 * c256 + c512, c256, c512, depth)
        self.rep = nn.ModuleList([RepConv(c128, c256), RepConv(c256, c512), RepConv(c512, c1024)])
        self.predictors = nn.ModuleList(
            ImplicitPredictor(c, num_anchors, num_classes, stride) for c, stride in zip((c256, c512, c1024), STRIDES)
        )

    def forward(self, features: List[Tensor]) -> List[Tensor]:
        """Levels of stride 8, 16 and 32 -> as many tensors (N, A * (5 + K), Hi, Wi)."""
        return [predictor(rep(x)) for predictor, rep, x in zip(self.predictors, self.rep, self.aggregate(features))]


@META_ARCH_REGISTRY.register()
class YOLOv7(YOLODetector):
    """YOLOv7 (arXiv:2207.02696), on its own backbone or another of ``BACKBONE_REGISTRY``."""

    @configurable
    def __init__(self, *, objectness_by_area: bool = True, **detector):
        """
        Args:
            objectness_by_area: whether the gain of the objectness loss falls with the area of the images.
            detector: see :class:`~tsdd_d2.methods.yolo.YOLODetector`.
        """
        super().__init__(**detector)
        self.objectness_by_area = objectness_by_area
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps, module.momentum = 1e-3, 0.03
        self.register_load_state_dict_pre_hook(take_authors_weights)

    @classmethod
    def from_config(cls, cfg):
        arguments = super().from_config(cfg)
        backbone, yolov7 = arguments["backbone"], cfg.MODEL.YOLOV7
        shapes = backbone.output_shape()
        arguments["head"] = YOLOv7Head(
            [shapes[name].channels for name in levels_of(backbone)],
            arguments["num_classes"],
            width=yolov7.WIDTH,
            depth=yolov7.DEPTH,
        )
        arguments["nms_threshold"] = yolov7.NMS_THRESH_TEST
        arguments["objectness_by_area"] = yolov7.OBJECTNESS_BY_AREA
        return arguments

    def decode(self, logits: Tensor, cells: Tensor, anchors: Tensor, stride: int) -> Tensor:
        shares = logits.sigmoid()
        centres = (shares[..., :2] * 2 - 0.5 + cells) * stride
        sizes = (shares[..., 2:] * 2) ** 2 * anchors
        return box_convert(torch.cat([centres, sizes], dim=-1), "cxcywh", "xyxy")

    def losses(self, predictions: List[Tensor], targets: Targets) -> Dict[str, Tensor]:
        box_loss = objectness_loss = class_loss = sum(p.sum() for p in predictions) * 0
        for level, (prediction, positives) in enumerate(zip(predictions, self.assign(predictions, targets))):
            objectness = torch.zeros_like(prediction[..., 4])
            if len(positives.box) > 0:
                boxes, logits = self.at_positives(level, prediction, positives)
                iou = complete_iou(boxes, targets.boxes[positives.box])
                objectness[positives[:4]] = iou.detach().clamp(min=0)
                classes = F.one_hot(targets.classes[positives.box], self.num_classes).to(logits)
                box_loss = box_loss + (1 - iou).mean()
                class_loss = class_loss + F.binary_cross_entropy_with_logits(logits[:, 5:], classes)
            of_level = F.binary_cross_entropy_with_logits(prediction[..., 4], objectness)
            objectness_loss = objectness_loss + of_level * LEVEL_BALANCE[level]
        # The authors' scales: per batch, not per image; objectness by the number of cells, the class loss by that of
        # classes.
        batch = len(predictions[0]) * comm.get_world_size()
        area = predictions[0][0, 0, ..., 0].numel() * STRIDES[0] ** 2 if self.objectness_by_area else REFERENCE_SIDE**2
        return {
            "loss_box": box_loss * BOX_GAIN * batch,
            "loss_objectness": objectness_loss * OBJECTNESS_GAIN * area / REFERENCE_SIDE**2 * batch,
            "loss_class": class_loss * CLASS_GAIN * self.num_classes / COCO_CLASSES * batch,
        }

    @torch.no_grad()
    def assign(self, predictions: List[Tensor], targets: Targets) -> List[Positives]:
        """The predictions that each box trains: those of its candidate cells with the lowest cost, see :func:`match`."""
        candidates = [
            candidate_cells(targets, anchors, stride, tuple(p.shape[2:4]))
            for p, anchors, stride in zip(predictions, self.anchors, STRIDES)
        ]
        found = [self.at_positives(i, p, c) for i, (p, c) in enumerate(zip(predictions, candidates))]
        boxes, logits = torch.cat([b for b, _ in found]), torch.cat([x for _, x in found])
        image = torch.cat([c.image for c in candidates])
        matched = torch.full_like(image, -1)
        for i in targets.image.unique():
            own, of_image = (targets.image == i).nonzero()[:, 0], (image == i).nonzero()[:, 0]
            ious = box_iou(targets.boxes[own], boxes[of_image])
            cost = assignment_cost(ious, logits[of_image], targets.classes[own])
            match_of_image = match(cost, ious)
            matched[of_image] = torch.where(match_of_image >= 0, own[match_of_image], -1)
        per_level = matched.split([len(c.image) for c in candidates])
        return [
            Positives(c.image[m >= 0], c.anchor[m >= 0], c.y[m >= 0], c.x[m >= 0], m[m >= 0])
            for c, m in zip(candidates, per_level)
        ]


def candidate_cells(targets: Targets, anchors: Tensor, stride: int, grid: Tuple[int, int]) -> Positives:
    """
    Where boxes may be predicted on a level: with every anchor of like size (:data:`ANCHOR_RATIO`), in the cell of the box's
    centre and in the two cells beside it that are nearest to the centre.

    Args:
        anchors: (A, 2) in pixels.
        grid: rows and columns of the level.
    """
    centres, sizes = box_convert(targets.boxes, "xyxy", "cxcywh").split(2, dim=1)
    ratio = sizes[:, None] / anchors
    box, anchor = (torch.maximum(ratio, 1 / ratio).amax(dim=-1) < ANCHOR_RATIO).nonzero(as_tuple=True)
    centre, limit = (centres / stride)[box], centres.new_tensor([grid[1], grid[0]])
    offset = centre % 1
    before = (offset < 0.5) & (centre > 1)
    after = (offset > 0.5) & (centre < limit - 1)
    everywhere = torch.ones_like(box, dtype=torch.bool)
    inside = torch.stack([everywhere, before[:, 0], before[:, 1], after[:, 0], after[:, 1]], dim=1)
    steps = torch.tensor([[0, 0], [-1, 0], [0, -1], [1, 0], [0, 1]], device=box.device)
    which, step = inside.nonzero(as_tuple=True)
    # a centre on the border of the image belongs to the last cell
    cell = torch.minimum((centre[which].floor() + steps[step]).clamp(min=0), limit - 1).long()
    return Positives(targets.image[box[which]], anchor[which], cell[:, 1], cell[:, 0], box[which])


def assignment_cost(ious: Tensor, logits: Tensor, classes: Tensor) -> Tensor:
    """
    Args:
        ious: (M, P), of M boxes of an image with P predictions.
        logits: (P, 5 + K).
        classes: (M,), of the boxes.
    Returns:
        (M, P): cross-entropy of the classes, with the square root of objectness times class as probability, and
        :data:`IOU_COST` times -log IoU.
    """
    probability = (logits[:, 4:5].sigmoid() * logits[:, 5:].sigmoid()).sqrt()
    one_hot = F.one_hot(classes, logits.shape[1] - 5).to(logits)
    shape = (len(classes), *probability.shape)
    class_cost = F.binary_cross_entropy_with_logits(
        probability.logit(eps=1e-6).expand(shape), one_hot[:, None].expand(shape), reduction="none"
    ).sum(dim=-1)
    return class_cost - IOU_COST * (ious + 1e-8).log()


def match(cost: Tensor, ious: Tensor) -> Tensor:
    """
    Simplified optimal transport (arXiv:2107.08430): a box takes the k predictions of lowest cost, where k is the sum of its
    :data:`TOP_IOUS` highest IoUs, rounded down, and at least 1. Of several boxes a prediction goes to that of lowest cost.

    Args:
        cost, ious: (M, P).
    Returns:
        (P,): the box of each prediction, -1 for none.
    """
    num_boxes, num_predictions = cost.shape
    taken = torch.zeros_like(cost, dtype=torch.bool)
    if num_predictions == 0:
        return taken.new_empty(0, dtype=torch.long)
    k = ious.topk(min(TOP_IOUS, num_predictions), dim=1).values.sum(dim=1).int().clamp(min=1)
    for i in range(num_boxes):
        taken[i, cost[i].topk(int(k[i]), largest=False).indices] = True
    matched = torch.where(taken.sum(dim=0) > 1, cost.argmin(dim=0), taken.int().argmax(dim=0))
    return torch.where(taken.any(dim=0), matched, -1)


class YOLOv7Trainer(YOLOTrainer):
    # implicit knowledge; what multiplies starts at 1, and decay would draw all outputs to 0
    without_decay = ("added", "multiplied")

    @staticmethod
    def mosaic_style(cfg) -> MosaicStyle:
        yolov7 = cfg.MODEL.YOLOV7
        return MosaicStyle(yolov7.MOSAIC, scale=yolov7.SCALE, shift=0.2, mixup=yolov7.MIXUP)


SMALL = {
    "MODEL.YOLOV7.WIDTH": 0.25,
    "MODEL.YOLOV7.DEPTH": 0.5,
    # the authors' for a data set of one's own; MIXUP, which they leave out there, stays
    "MODEL.YOLOV7.SCALE": (0.5, 1.6),
    # or few boxes in small images, all of which have a lesion, hardly teach the trunk where it is
    "MODEL.YOLOV7.OBJECTNESS_BY_AREA": False,
}

register_method(
    Method(
        "yolov7",
        "YOLOv7",
        "YOLOv7",
        FA_BOXES,
        overrides={**YOLO, "MODEL.BACKBONE.NAME": "build_yolov7_backbone"},
        profiles={
            "paper": {**YOLO_PROFILES["paper"], "SOLVER.EMA_DECAY": 0.9999},
            "cpu": {**YOLO_PROFILES["cpu"], **ITERATIONS["scratch"], **SMALL},
            "scratch": {**YOLO_PROFILES["scratch"], **SMALL},
        },
        trainer=YOLOv7Trainer,
        paper=(paper_row("table1", 1.0, "86.09±1.14 87.26±1.35 84.46±1.46 71.72±2.23"),),
    )
)
