"""C-Net: the ROI classifier (paper III.A)."""

from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import roi_align

from detectron2.config import configurable
from detectron2.layers import get_norm
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.structures import Instances

from .backbones import create, freeze_first
from .boxes import enlarge_boxes, jitter_boxes, square_boxes
from .groups import fa_and_pa_terms

NUM_CLASSES = 2  # benign, malignant
MALIGNANT = 1

# Boxes in one forward pass at inference; with it, and not with the number of candidates, memory grows.
MAX_BOXES = 64


class View(NamedTuple):
    """One way to see a ROI: the crop with ``scale`` times the context, mirrored left to right or not."""

    scale: float = 1.0
    mirrored: bool = False


def views_of(scales: Sequence[float], mirror: bool) -> Tuple[View, ...]:
    """A view of each scale, and with ``mirror`` of each its mirror image."""
    return tuple(View(scale, mirrored) for scale in scales for mirrored in (False, True)[: 1 + mirror])


@ROI_HEADS_REGISTRY.register()
class CNet(nn.Module):
    """ResNet on the ROI crop, softmax over benign and malignant.

    ``MODEL.ROI_HEADS.NAME`` names it, but unlike Detectron2's ROI heads it crops from the *image* tensor and not from a
    feature map. Another :class:`~tsdd_d2.modeling.contract.ROIClassifier` can take its place.
    """

    @configurable
    def __init__(
        self,
        *,
        depth: int,
        backbone: str = "",
        channels: int = 3,
        input_size: int,
        context: float,
        square_crop: bool = False,
        scales: Sequence[float] = (1.0,),
        mirror: bool = False,
        norm_eps: float = 0.0,
        freeze_at: int = 0,
        norm: str,
        beta: float,
        label_smoothing: float = 0.0,
        roi_jitter: float = 0.0,
    ):
        """
        Args:
            depth: 18, 34, 50 ... (torchvision's ResNets).
            backbone: a network of timm in place of the ResNet, with its own normalisation layers; "": the ResNet.
            channels: of the images.
            input_size: side in pixels of the square crop.
            context: factor that enlarges the ROI about its centre before cropping; 1.0 is the paper.
            square_crop: crop with the ROI's longer side in both directions; False is the paper: the ROI is stretched.
            scales, mirror: the views of a ROI that C-Net averages at inference, see :func:`views_of`; one crop is the paper. A
                box that the detector drew a little too narrow or too wide then changes the diagnosis less.
            norm_eps, freeze_at: of the network of timm, see :func:`~tsdd_d2.modeling.backbones.create` and
                :func:`~tsdd_d2.modeling.backbones.freeze_first`.
            norm: normalisation layer of the ResNet, by Detectron2's names ("BN", "FrozenBN", "SyncBN", "GN").
            beta: weight of the partially annotated images, Eq. (3).
            label_smoothing: of the cross-entropy, Eq. (4); 0 is the paper.
            roi_jitter: in training each side of the ROI moves by up to this share of its length; 0 is the paper.
        """
        super().__init__()
        self.views = views_of(scales, mirror)
        self.input_size = input_size
        self.context = context
        self.square_crop = square_crop
        self.beta = beta
        self.label_smoothing = label_smoothing
        self.roi_jitter = roi_jitter
        # The network of stage 2 takes the features and removes the classifier (paper III.C).
        if backbone:
            self.resnet = create(backbone, norm_eps, num_classes=0, in_chans=channels)
            self.num_features = self.resnet.num_features
            freeze_first(self.resnet, freeze_at)
        elif freeze_at:
            raise ValueError(f"MODEL.CNET.FREEZE_AT {freeze_at} is for a MODEL.CNET.BACKBONE of timm.")
        else:
            self.resnet = torchvision.models.get_model(
                f"resnet{depth}", weights=None, norm_layer=lambda channels: get_norm(norm, channels)
            )
            self.num_features = self.resnet.fc.in_features
            self.resnet.fc = nn.Identity()
            if channels != 3:
                self.resnet.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
                nn.init.kaiming_normal_(self.resnet.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision does
        self.classifier = nn.Linear(self.num_features, NUM_CLASSES)
        self.to(memory_format=torch.channels_last)

    @classmethod
    def from_config(cls, cfg, input_shape=None):
        return {
            "depth": cfg.MODEL.CNET.DEPTH,
            "backbone": cfg.MODEL.CNET.BACKBONE,
            "channels": len(cfg.MODEL.PIXEL_MEAN),
            "input_size": cfg.MODEL.CNET.INPUT_SIZE,
            "context": cfg.MODEL.CNET.CONTEXT,
            "square_crop": cfg.MODEL.CNET.SQUARE_CROP,
            "scales": cfg.MODEL.CNET.SCALES,
            "mirror": cfg.MODEL.CNET.MIRROR,
            "norm_eps": cfg.MODEL.BACKBONE.NORM_EPS,
            "freeze_at": cfg.MODEL.CNET.FREEZE_AT,
            "norm": cfg.MODEL.CNET.NORM,
            "beta": cfg.MODEL.CNET.BETA,
            "label_smoothing": cfg.MODEL.CNET.LABEL_SMOOTHING,
            "roi_jitter": cfg.MODEL.CNET.ROI_JITTER,
        }

    def crop(self, images: Tensor, boxes: List[Tensor], view: View = View()) -> Tensor:
        """Resamples every ROI of a minibatch in one call.

        Args:
            images: (N, C, H, W), normalised.
            boxes: N tensors (Ri, 4), absolute XYXY in ``images``.
        Returns:
            (sum of Ri, C, S, S); what lies outside the image is zero, the mean grey.
        """
        # no gradient to the boxes: diagnosis does not train localisation
        boxes = [b.detach() for b in boxes]
        if self.square_crop:
            boxes = [square_boxes(b) for b in boxes]
        boxes = [enlarge_boxes(b, self.context * view.scale) for b in boxes]
        if torch.compiler.is_exporting():
            # the same in one operator of ONNX; torchvision's kernel has one thread on a CPU
            crops = roi_align(images.contiguous(), boxes, output_size=self.input_size, sampling_ratio=1, aligned=True)
        else:
            crops = bilinear_crop(images, boxes, self.input_size)
        if view.mirrored:
            crops = crops.flip(3)
        return crops.contiguous(memory_format=torch.channels_last)

    def features(self, images: Tensor, boxes: List[Tensor]) -> Tensor:
        """(sum of Ri, num_features): the last convolutional features, pooled; arguments as in :meth:`crop`."""
        views = (View(),) if self.training else self.views
        crops = [self.crop(images, boxes, view) for view in views]
        if len(views) == 1:
            return self.resnet(crops[0])
        return self.resnet(torch.cat(crops)).unflatten(0, (len(views), -1)).mean(dim=0)

    def class_logits(self, images: Tensor, boxes: List[Tensor]) -> Tensor:
        """(sum of Ri, 2) logits for the boxes of a minibatch; arguments as in :meth:`crop`."""
        return self.classifier(self.features(images, boxes)).float()

    def class_probabilities(self, images: Tensor, boxes: List[Tensor]) -> List[Tensor]:
        """Class probabilities of arbitrary boxes.

        Args:
            images: (N, C, H, W), normalised.
            boxes: N tensors (Ri, 4), absolute XYXY in ``images``.
        Returns:
            N tensors (Ri, 2), benign and malignant, each row sums to 1.
        """
        return probabilities_of_boxes(lambda some: self.class_logits(images, some), boxes)

    def losses(
        self,
        images: Tensor,
        boxes: List[Tensor],
        gt_instances: List[Instances],
        partially_annotated: Tensor,
    ) -> Dict[str, Tensor]:
        """Eq. (3) and (4), fully (fa) and partially annotated (pa) images as separate entries.

        Each half is averaged over its own ROIs.

        Args:
            images: (N, C, H, W), normalised.
            boxes: N tensors (Ri, 4) to crop, absolute XYXY in ``images``; by the paper those of the ROIs.
            gt_instances: N ``Instances`` with ``gt_classes`` of these.
            partially_annotated: (N,) bool.
        """
        if self.roi_jitter > 0:
            boxes = [jitter_boxes(b, self.roi_jitter) for b in boxes]
        counts = torch.tensor([len(b) for b in boxes], device=partially_annotated.device)
        # Eq. (4)
        loss_per_roi = F.cross_entropy(
            self.class_logits(images, boxes),
            torch.cat([x.gt_classes for x in gt_instances]),
            label_smoothing=self.label_smoothing,
            reduction="none",
        )
        # Eq. (3): L(fa) + beta L(pa)
        return fa_and_pa_terms("loss_cnet", loss_per_roi, partially_annotated.repeat_interleave(counts), self.beta)


def probabilities_of_boxes(class_logits: Callable[[List[Tensor]], Tensor], boxes: List[Tensor]) -> List[Tensor]:
    """Class probabilities of the boxes of N images, in as few calls as :data:`MAX_BOXES` allows.

    Args:
        class_logits: N tensors (Ri, 4) -> (sum of Ri, 2).
        boxes: N tensors (Ri, 4).
    Returns:
        N tensors (Ri, 2), each row sums to 1.
    """
    counts = [len(b) for b in boxes]
    if sum(counts) == 0:
        return [b.new_zeros(0, NUM_CLASSES) for b in boxes]
    image_of_box = [i for i, count in enumerate(counts) for _ in range(count)]
    logits = []
    for some in torch.cat(boxes).split(MAX_BOXES):
        images, image_of_box = image_of_box[: len(some)], image_of_box[len(some) :]
        logits.append(class_logits(list(some.split([images.count(i) for i in range(len(boxes))]))))
    return list(torch.cat(logits).softmax(dim=1).split(counts))


def add_diagnoses(proposals: List[Instances], probabilities: List[Tensor]) -> None:
    """Sets ``pred_classes`` and ``malignancy`` (Ri,) of N ``Instances`` from their (Ri, 2) class probabilities."""
    for instances, p in zip(proposals, probabilities):
        instances.pred_classes = p.argmax(dim=1)
        instances.malignancy = p[:, MALIGNANT]


def bilinear_crop(images: Tensor, boxes: List[Tensor], size: int) -> Tensor:
    """``roi_align(..., sampling_ratio=1, aligned=True)``, which on a CPU has one thread and is slower.

    One sample for each pixel of the crop: most ROIs are enlarged, and where one is reduced the bilinear sample still
    covers two pixels.

    Args:
        images: (N, C, H, W).
        boxes: N tensors (Ri, 4), absolute XYXY in ``images``.
        size: side of the square crops.
    Returns:
        (sum of Ri, C, size, size).
    """
    height, width = images.shape[-2:]
    counts = [len(b) for b in boxes]
    if sum(counts) == 0:
        return images.new_zeros(0, images.shape[1], size, size)
    if 0 in counts:  # where nothing is to be sampled
        some = [i for i, count in enumerate(counts) if count]
        images, boxes, counts = images[some], [boxes[i] for i in some], [counts[i] for i in some]
    # as many boxes for each image, M, so that no image is copied for its boxes; the crops stand below each other
    x0, y0, x1, y1 = pad_sequence(boxes, batch_first=True).unsqueeze(-1).unbind(dim=2)
    # the centres of the crop's pixels, as a share of the box
    share = (torch.arange(size, device=images.device, dtype=images.dtype) + 0.5) / size
    x = _grid_coordinates(x0 + (x1 - x0) * share, width)
    y = _grid_coordinates(y0 + (y1 - y0) * share, height)
    grid = torch.stack([x[:, :, None, :].expand(-1, -1, size, -1), y[:, :, :, None].expand(-1, -1, -1, size)], dim=-1)
    crops = F.grid_sample(images, grid.flatten(1, 2), padding_mode="zeros", align_corners=False)
    crops = crops.unflatten(2, (-1, size)).transpose(1, 2)
    return torch.cat([of_image[:count] for of_image, count in zip(crops, counts)])


def _grid_coordinates(positions: Tensor, size: int) -> Tensor:
    """grid_sample's coordinates, -1 and 1 at the borders, for positions in pixels along a side of ``size`` pixels.

    As in ROIAlign, the pixel at the border goes on for half a pixel beyond it; what is farther out is zero.
    """
    centred = positions - 0.5
    inside = (centred * 2 + 1).clamp(1, 2 * size - 1) / size - 1
    return torch.where((centred >= -1) & (centred <= size), inside, -2.0)
