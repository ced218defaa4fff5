"""D-Net: a RetinaNet that only localises (paper III.A, Fig. 3)."""

import math
from typing import Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss, nms

from detectron2.config import configurable
from detectron2.layers import ShapeSpec, get_norm
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_anchor_generator, build_backbone
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou

from ..errors import InputError
from .boxes import clip_boxes, elementwise_iou, sizes_as_tensor
from .groups import fa_and_pa_terms, group_sizes, partially_annotated_images
from .preprocessing import PreprocessesImages
from .ranking import RANKING_REGISTRY, needs_quality

# MODEL.RETINANET.BBOX_REG_LOSS_TYPE beside smooth_l1: losses of the decoded box.
IOU_LOSSES = {"giou": generalized_box_iou_loss, "diou": distance_box_iou_loss, "ciou": complete_box_iou_loss}
# Beside the quality channel they have the weight that ATSS gives them (arXiv:1912.02424).
IOU_LOSS_WEIGHT = 2.0


class DensePredictions(NamedTuple):
    """D-Net's output for N images with R anchors each (all levels concatenated).

    anchors: (R, 4) absolute XYXY in the image tensor; deltas: (N, R, 4); quality_logits: (N, R) or None.
    """

    anchors: Tensor
    deltas: Tensor
    quality_logits: Optional[Tensor]


class BoxSubnet(nn.Module):
    """RetinaNet's box subnet, with an optional localisation-quality channel for each anchor.

    There is no class subnet. Parameter names follow Detectron2's ``RetinaNetHead``.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_anchors: int,
        num_convs: int,
        norm: str = "",
        with_quality: bool,
        prior_prob: float = 0.01,
    ):
        """
        Args:
            in_channels: channels of every feature level, kept throughout the subnet.
            num_anchors: anchors for each location.
            num_convs: 3x3 convolutions before the predictor.
            norm: a normalisation that is safe to share between levels ("" or "GN").
            with_quality: add the channel that predicts the IoU of each regressed box with the ROI.
            prior_prob: what this channel says of every anchor when training starts: nearly all are far from the lesion.
        """
        super().__init__()
        layers = []
        for _ in range(num_convs):
            layers += [nn.Conv2d(in_channels, in_channels, 3, padding=1, bias=not norm)]
            layers += [get_norm(norm, in_channels)] if norm else []
            layers += [nn.ReLU(inplace=True)]
        self.bbox_subnet = nn.Sequential(*layers)
        self.bbox_pred = nn.Conv2d(in_channels, num_anchors * 4, 3, padding=1)
        self.quality = nn.Conv2d(in_channels, num_anchors, 3, padding=1) if with_quality else None

        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.quality is not None:
            nn.init.constant_(self.quality.bias, -math.log((1 - prior_prob) / prior_prob))

    def forward(self, features: List[Tensor]) -> Tuple[List[Tensor], List[Tensor]]:
        """Per level (N, C, Hi, Wi) -> deltas (N, A*4, Hi, Wi) and quality logits (N, A, Hi, Wi; [] without)."""
        deltas, quality_logits = [], []
        for feature in features:
            hidden = self.bbox_subnet(feature)
            deltas.append(self.bbox_pred(hidden))
            if self.quality is not None:
                quality_logits.append(self.quality(hidden))
        return deltas, quality_logits


class InputPooling(Backbone):
    """A backbone that sees the image averaged over ``stride`` x ``stride`` pixels.

    Localisation needs less resolution than diagnosis: the small profiles let C-Net crop from the full image
    tensor while D-Net sees it reduced. Strides are reported relative to the image tensor, so anchors and boxes stay
    in its coordinates.
    """

    def __init__(self, body: Backbone, stride: int):
        super().__init__()
        self.body = body
        self.stride = stride

    def forward(self, images: Tensor) -> Dict[str, Tensor]:
        if self.stride == 2:
            # the mean of four pixels; on a CPU this kernel is several times as fast as that of avg_pool2d
            return self.body(F.interpolate(images, scale_factor=0.5, mode="bilinear", align_corners=False))
        return self.body(F.avg_pool2d(images, self.stride))

    def output_shape(self) -> Dict[str, ShapeSpec]:
        return {
            name: ShapeSpec(channels=shape.channels, stride=shape.stride * self.stride)
            for name, shape in self.body.output_shape().items()
        }

    @property
    def size_divisibility(self) -> int:
        return self.body.size_divisibility * self.stride


@META_ARCH_REGISTRY.register()
class DNet(PreprocessesImages, DenseDetector):
    """RetinaNet (arXiv:1708.02002) without its classification subnet.

    Usable alone as a Detectron2 meta-architecture (class-agnostic: ``pred_classes`` is 0), and as the
    :class:`~tsdd_d2.modeling.contract.Localiser` inside the networks of both stages.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: BoxSubnet,
        head_in_features: List[str],
        anchor_generator: nn.Module,
        box2box_transform: Box2BoxTransform,
        anchor_matcher: Matcher,
        ranking: str,
        alpha: float,
        box_loss: str = "smooth_l1",
        smooth_l1_beta: float,
        nms_thresh: float,
        topk_candidates: int,
        max_detections_per_image: int,
        pixel_mean: List[float],
        pixel_std: List[float],
    ):
        """
        Args:
            backbone, head, head_in_features, pixel_mean, pixel_std: see :class:`DenseDetector`.
            anchor_generator, box2box_transform, anchor_matcher: RetinaNet's parts.
            ranking: name of a ranking in :data:`~tsdd_d2.modeling.ranking.RANKING_REGISTRY`.
            alpha: weight of the partially annotated images, Eq. (1).
            box_loss: smooth_l1, which is the paper's, or a name in :data:`IOU_LOSSES`.
            smooth_l1_beta: L1 to L2 transition point of Eq. (2).
            nms_thresh: of two boxes that overlap this much the lower ranked one is no candidate.
            topk_candidates: boxes that enter NMS.
            max_detections_per_image: boxes returned at inference.
        """
        super().__init__(backbone, head, head_in_features, pixel_mean=pixel_mean, pixel_std=pixel_std)
        self.anchor_generator = anchor_generator
        self.box2box_transform = box2box_transform
        self.anchor_matcher = anchor_matcher
        self.rank = RANKING_REGISTRY.get(ranking)
        self.alpha = alpha
        self.box_loss = box_loss
        self.smooth_l1_beta = smooth_l1_beta
        self.nms_thresh = nms_thresh
        self.topk_candidates = topk_candidates
        self.max_detections_per_image = max_detections_per_image
        self.to(memory_format=torch.channels_last)  # a fifth faster convolutions on CPU, tensor cores on CUDA

    @classmethod
    def from_config(cls, cfg):
        backbone = build_backbone(cfg)
        if cfg.MODEL.DNET.INPUT_STRIDE > 1:
            backbone = InputPooling(backbone, cfg.MODEL.DNET.INPUT_STRIDE)
        in_features = cfg.MODEL.RETINANET.IN_FEATURES
        feature_shapes = [backbone.output_shape()[name] for name in in_features]
        anchor_generator = build_anchor_generator(cfg, feature_shapes)
        head = BoxSubnet(
            in_channels=feature_shapes[0].channels,
            num_anchors=anchor_generator.num_anchors[0],
            num_convs=cfg.MODEL.RETINANET.NUM_CONVS,
            norm=cfg.MODEL.RETINANET.NORM,
            with_quality=needs_quality(cfg.MODEL.DNET.RANKING),
            prior_prob=cfg.MODEL.RETINANET.PRIOR_PROB,
        )
        return {
            "backbone": backbone,
            "head": head,
            "head_in_features": in_features,
            "anchor_generator": anchor_generator,
            "box2box_transform": Box2BoxTransform(weights=cfg.MODEL.RETINANET.BBOX_REG_WEIGHTS),
            "anchor_matcher": Matcher(
                cfg.MODEL.RETINANET.IOU_THRESHOLDS,
                cfg.MODEL.RETINANET.IOU_LABELS,
                allow_low_quality_matches=True,
            ),
            "ranking": cfg.MODEL.DNET.RANKING,
            "alpha": cfg.MODEL.DNET.ALPHA,
            "box_loss": cfg.MODEL.RETINANET.BBOX_REG_LOSS_TYPE,
            "smooth_l1_beta": cfg.MODEL.RETINANET.SMOOTH_L1_LOSS_BETA,
            "nms_thresh": cfg.MODEL.RETINANET.NMS_THRESH_TEST,
            "topk_candidates": cfg.MODEL.RETINANET.TOPK_CANDIDATES_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    def feature_shapes(self) -> List[ShapeSpec]:
        """Channels and stride of each level of :meth:`extract_features`."""
        return [self.backbone.output_shape()[name] for name in self.head_in_features]

    def predict(self, features: List[Tensor], predictions=None) -> DensePredictions:
        """Runs the box subnet on a list of feature levels, unless its ``predictions`` are given."""
        deltas, quality_logits = self.head(features) if predictions is None else predictions
        (deltas,) = self._transpose_dense_predictions([deltas], [4])
        anchors = Boxes.cat(self.anchor_generator(features)).tensor
        if quality_logits:
            (quality_logits,) = self._transpose_dense_predictions([quality_logits], [1])
        return DensePredictions(
            anchors,
            torch.cat(deltas, dim=1).float(),
            torch.cat(quality_logits, dim=1).squeeze(-1).float() if quality_logits else None,
        )

    def extract_features(self, images: ImageList) -> List[Tensor]:
        """The feature levels of the head, each (N, C, Hi, Wi)."""
        features = self.backbone(images.tensor)
        return [features[name] for name in self.head_in_features]

    def decode(self, predictions: DensePredictions) -> Tensor:
        """(N, R, 4) regressed boxes, absolute XYXY in the image tensor, not clipped."""
        num_images, num_anchors, _ = predictions.deltas.shape
        anchors = predictions.anchors.expand(num_images, -1, -1).reshape(-1, 4)
        boxes = self.box2box_transform.apply_deltas(predictions.deltas.reshape(-1, 4), anchors)
        return boxes.view(num_images, num_anchors, 4)

    # ---------------------------------------------------------------- training

    def forward(self, batched_inputs: List[Dict[str, Tensor]]):
        """See :meth:`DenseDetector.forward`, whose ``forward_training`` would not learn the group of an image."""
        if not self.training:
            return super().forward(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        return self.losses(
            self.predict(self.extract_features(images)),
            [x["instances"].to(self.device) for x in batched_inputs],
            partially_annotated_images(batched_inputs, self.device),
        )

    @torch.no_grad()
    def label_anchors(self, anchors: Tensor, gt_instances: List[Instances]) -> Tuple[Tensor, Tensor]:
        """Matches anchors with ROIs by RetinaNet's thresholds.

        Returns:
            labels (N, R): 1 positive, 0 background, -1 ignored; gt_boxes (N, R, 4): the ROI each anchor matched
            (of no meaning in an image without ROI, which has no positive anchor).
        """
        labels, gt_boxes = [], []
        for instances in gt_instances:
            iou = pairwise_iou(instances.gt_boxes, Boxes(anchors))
            matched, label = self.anchor_matcher(iou)
            if len(instances) == 0:
                gt_boxes.append(torch.zeros_like(anchors))
            else:
                gt_boxes.append(instances.gt_boxes.tensor[matched])
            labels.append(label)
        return torch.stack(labels), torch.stack(gt_boxes)

    def losses(
        self,
        predictions: DensePredictions,
        gt_instances: List[Instances],
        partially_annotated: Tensor,
    ) -> Dict[str, Tensor]:
        """Eq. (1) and (2), fully (fa) and partially annotated (pa) images as separate entries; beside them, which the
        paper does not have, the loss of the quality channel where the ranking needs one.

        Each half is divided by its own number of positive anchors, so that alpha means what the paper says at
        every mix of fa and pa images in a minibatch.

        Args:
            gt_instances: N ``Instances`` with ``gt_boxes`` in the image tensor.
            partially_annotated: (N,) bool.
        """
        labels, gt_boxes = self.label_anchors(predictions.anchors, gt_instances)
        image_index, anchor_index = (labels == 1).nonzero(as_tuple=True)
        loss_per_anchor = self._box_loss(
            predictions.deltas[image_index, anchor_index],
            predictions.anchors[anchor_index],
            gt_boxes[image_index, anchor_index],
        )

        is_pa = partially_annotated[image_index]
        num_positive = group_sizes(is_pa)
        # Eq. (1): L(fa) + alpha L(pa)
        losses = fa_and_pa_terms("loss_dnet", loss_per_anchor, is_pa, self.alpha, num_positive)
        if predictions.quality_logits is not None:
            loss_per_image = self._quality_loss(predictions, labels, gt_boxes)
            losses.update(fa_and_pa_terms("loss_quality", loss_per_image, partially_annotated, self.alpha, num_positive))
        return losses

    def _box_loss(self, deltas: Tensor, anchors: Tensor, gt_boxes: Tensor) -> Tensor:
        """(P,) loss of P positive anchors with these regressed deltas; all arguments (P, 4)."""
        if self.box_loss in IOU_LOSSES:
            boxes = self.box2box_transform.apply_deltas(deltas, anchors)
            return IOU_LOSS_WEIGHT * IOU_LOSSES[self.box_loss](boxes, gt_boxes)
        target_deltas = self.box2box_transform.get_deltas(anchors, gt_boxes)
        # Eq. (2): the sum over x, y, w, h of smooth L1
        return F.smooth_l1_loss(deltas, target_deltas, beta=self.smooth_l1_beta, reduction="none").sum(dim=1)

    def _quality_loss(self, predictions: DensePredictions, labels: Tensor, gt_boxes: Tensor) -> Tensor:
        """(N,) quality focal loss (arXiv:2006.04388), summed over the anchors of each image.

        The target of an anchor is the IoU of *its own regressed box* with the ROI; background anchors have target
        zero. Trained on all anchors: trained on positive ones alone the channel is high everywhere.
        """
        with torch.no_grad():
            boxes = self.decode(predictions)
            target = elementwise_iou(boxes, gt_boxes)
            target[labels == 0] = 0.0
        logits = predictions.quality_logits
        modulation = (target - logits.sigmoid()).abs().square()
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * modulation
        return (loss * (labels >= 0)).sum(dim=1)

    # --------------------------------------------------------------- inference

    @torch.no_grad()
    def propose(
        self, predictions: DensePredictions, image_sizes: List[Tuple[int, int]], max_per_image: int
    ) -> List[Instances]:
        """The best-ranked boxes of each image after NMS, best first.

        Returns:
            N ``Instances`` in the image tensor with ``pred_boxes`` (clipped to the image), ``scores`` in [0, 1] and
            ``pred_classes`` (zeros).
        """
        boxes = self.decode(predictions)
        sizes = sizes_as_tensor(image_sizes, like=boxes)
        scores = self.rank(boxes, predictions.quality_logits, predictions.anchors, sizes)
        # the single best box needs no NMS
        num_candidates = 1 if max_per_image == 1 else min(self.topk_candidates, scores.shape[1])
        scores, top = scores.topk(num_candidates, dim=1)
        boxes = clip_boxes(boxes.gather(1, top[:, :, None].expand(-1, -1, 4)), sizes)
        # an exported network raises nothing
        if not torch.compiler.is_exporting() and not boxes.isfinite().all():
            raise InputError("D-Net's boxes are infinite or NaN: the training diverged. Lower SOLVER.BASE_LR.")
        proposals = [
            Instances(size, pred_boxes=Boxes(b), scores=s, pred_classes=torch.zeros_like(t))
            for size, b, s, t in zip(image_sizes, boxes, scores, top)
        ]
        if num_candidates == 1:
            return proposals
        return [self._distinct(x, max_per_image) for x in proposals]

    def _distinct(self, ranked: Instances, max_per_image: int) -> Instances:
        """NMS on ``Instances`` that are sorted by their scores; there is always a best box."""
        keep = ranked.pred_boxes.nonempty() & (ranked.scores > 0)
        keep[0] = True
        ranked = ranked[keep]
        return ranked[nms(ranked.pred_boxes.tensor, ranked.scores, self.nms_thresh)[:max_per_image]]

    def forward_inference(self, images, features, predictions) -> List[Instances]:
        dense = self.predict(features, predictions)
        return self.propose(dense, images.image_sizes, self.max_detections_per_image)
