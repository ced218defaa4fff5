"""What a network offers, so that training, evaluation, prediction and export ask for nothing else.

Every network is a :class:`DiagnosisNetwork`. What only some can do is a protocol: ask
``isinstance(model, ScoresCandidates)`` of a network, and ``supports(name, ScoresCandidates)`` of a name in Detectron2's
``META_ARCH_REGISTRY``. D-Net is exchangeable for any other :class:`Localiser`, C-Net for any other :class:`ROIClassifier`.

Boxes are absolute XYXY in pixels: of the *original* image in everything that the networks take and return as dicts and
``Instances``, of the *image tensor* in a localiser and in a classifier.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Protocol, Tuple, runtime_checkable

import torch
from torch import Tensor

from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import ImageList, Instances

# What a network diagnoses, as the results of a run name it.
FOUND_BOX, MANUAL_ROI, WHOLE_IMAGE = "found box", "manual ROI", "whole image"


class DiagnosisNetwork:
    """Mixed in before ``nn.Module`` or a Detectron2 meta-architecture: losses in training, diagnosed boxes at inference.

    Attributes:
        bfloat16: train in bfloat16 mixed precision (autocast), which needs no gradient scaler.
        diagnosed_boxes: :data:`FOUND_BOX`; or what it is given, :data:`MANUAL_ROI` or :data:`WHOLE_IMAGE`.
    """

    bfloat16: bool = False
    diagnosed_boxes: str = FOUND_BOX

    def training_losses(self, batched_inputs: List[Dict]) -> Dict[str, Tensor]:
        """
        Args:
            batched_inputs: one dict for each image, see :class:`~tsdd_d2.data.mapper.BBUIMapper`: ``image`` (C, H, W),
                ``instances`` with ``gt_boxes`` (of the image tensor) and ``gt_classes``, ``partially_annotated`` (bool).
        Returns:
            the terms of the loss, each by its name.
        """
        raise NotImplementedError

    def detect(self, batched_inputs: List[Dict], max_per_image: Optional[int] = None) -> List[Dict[str, Instances]]:
        """
        Args:
            batched_inputs: one dict for each image: ``image`` (C, H, W), and ``height`` and ``width`` of the original;
                ``rois`` (M, 4) where the network diagnoses the manual ROI.
            max_per_image: at most so many boxes for each image; None: as many as the network is configured for.
        Returns:
            ``[{"instances": Instances}]``, best first: ``pred_boxes``, ``scores`` in [0, 1], ``pred_classes`` (0 benign,
            1 malignant) and ``malignancy`` (the probability).
        """
        raise NotImplementedError

    def forward(self, batched_inputs: List[Dict]):
        """Detectron2's contract: :meth:`training_losses` in training, :meth:`detect` at inference."""
        if not self.training:
            return self.detect(batched_inputs)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            return self.training_losses(batched_inputs)


class ScoredBoxes(NamedTuple):
    """K candidates and M current ROIs of one image with their class probabilities, all from one pass.

    Each row of probabilities is benign, malignant.

    Attributes:
        candidate_boxes: (K, 4), best first.
        candidate_probabilities: (K, 2).
        roi_probabilities: (M, 2), in the order of the input's ``rois``.
    """

    candidate_boxes: Tensor
    candidate_probabilities: Tensor
    roi_probabilities: Tensor


@runtime_checkable
class ScoresCandidates(Protocol):
    """Its ROIs may be rewritten by rounds of candidate selection (paper III.B), and its runs are first stages."""

    def score_candidates(self, batched_inputs: List[Dict], candidates_per_image: int) -> List[ScoredBoxes]:
        """Candidates and current ROIs (``rois``, (M, 4)) of each image, scored in the same pass."""


@runtime_checkable
class DiagnosesROIs(Protocol):
    """It finds its boxes, and can diagnose given ones: the oracle of the evaluation."""

    def diagnose_rois(self, batched_inputs: List[Dict]) -> List[Dict[str, Instances]]:
        """Diagnoses of ``rois`` (M, 4), in the format of :meth:`DiagnosisNetwork.detect`, with a score of 1 each."""


@runtime_checkable
class DiagnosesTensors(Protocol):
    """It can be exported: the chain from pixels to the single best box, without lists and ``Instances``."""

    def diagnose_tensor(self, images: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """
        Args:
            images: (N, C, H, W) uint8, any H and W.
        Returns:
            boxes (N, 4) in ``images``, without area where nothing was found; scores (N,) in [0, 1]; malignancy (N,).
        """

    def coarsest_stride(self) -> int:
        """Pixels of ``images`` between two cells of its coarsest feature level."""


def supports(architecture: str, protocol: type) -> bool:
    """Whether networks of this name in Detectron2's ``META_ARCH_REGISTRY`` offer a protocol of this module."""
    return architecture in META_ARCH_REGISTRY and issubclass(META_ARCH_REGISTRY.get(architecture), protocol)


@runtime_checkable
class Localiser(Protocol):
    """The detector inside TSDDNet: it finds boxes without a class. :class:`~tsdd_d2.modeling.dnet.DNet` is the paper's.

    N is the number of images. What ``predict`` returns is the localiser's own affair.
    """

    device: torch.device
    max_detections_per_image: int

    def preprocess_image(self, batched_inputs: List[Dict]) -> ImageList:
        """The image tensor, from which C-Net crops too: moved, padded, normalised."""

    def preprocess_tensor(self, images: Tensor) -> ImageList:
        """The same of (N, C, H, W) pixels, for export."""

    def feature_shapes(self) -> List[ShapeSpec]:
        """Channels and stride of each level of :meth:`extract_features`."""

    def extract_features(self, images: ImageList) -> List[Tensor]:
        """The feature levels, each (N, Ci, Hi, Wi)."""

    def predict(self, features: List[Tensor]) -> Any:
        """The raw outputs of the head."""

    def losses(self, predictions: Any, gt_instances: List[Instances], partially_annotated: Tensor) -> Dict[str, Tensor]:
        """Terms for fully and partially annotated images; ``partially_annotated``: (N,) bool."""

    def propose(self, predictions: Any, image_sizes: List[Tuple[int, int]], max_per_image: int) -> List[Instances]:
        """The best boxes of each image, at least one, best first: ``pred_boxes``, ``scores``, ``pred_classes`` (zeros)."""


@runtime_checkable
class ROIClassifier(Protocol):
    """The classifier inside TSDDNet: it diagnoses given boxes. :class:`~tsdd_d2.modeling.cnet.CNet` is the paper's.

    ``images`` are (N, C, H, W), normalised; ``boxes`` N tensors (Ri, 4) in them. For the second stage it has
    ``num_features``, the length of a vector of :meth:`features`, and ``classifier``, the module from these to logits, which
    that stage leaves out.
    """

    def losses(
        self, images: Tensor, boxes: List[Tensor], gt_instances: List[Instances], partially_annotated: Tensor
    ) -> Dict[str, Tensor]:
        """``loss_cnet_fa`` and ``loss_cnet_pa``; ``gt_classes`` of ``gt_instances`` are those of the boxes, and
        ``partially_annotated``: (N,) bool."""

    def class_probabilities(self, images: Tensor, boxes: List[Tensor]) -> List[Tensor]:
        """N tensors (Ri, 2), benign and malignant, each row sums to 1."""

    def features(self, images: Tensor, boxes: List[Tensor]) -> Tensor:
        """(sum of Ri, num_features)."""
