"""What the networks of both training stages share: D-Net's boxes, a diagnosis for each, Detectron2's contract."""

from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, ROI_HEADS_REGISTRY, build_roi_heads
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils import comm

from ..errors import InputError
from .cnet import MALIGNANT, add_diagnoses
from .contract import DiagnosisNetwork, Localiser, ROIClassifier


def build_localiser(cfg: CfgNode) -> Localiser:
    """The localiser that ``MODEL.DNET.NAME`` names in Detectron2's ``META_ARCH_REGISTRY``.

    Raises:
        InputError: what it names is no localiser.
    """
    localiser = META_ARCH_REGISTRY.get(cfg.MODEL.DNET.NAME)(cfg)
    if not isinstance(localiser, Localiser):
        raise InputError(f"MODEL.DNET.NAME {cfg.MODEL.DNET.NAME} is no localiser: see tsdd_d2/modeling/contract.py.")
    return localiser


def build_classifier(cfg: CfgNode) -> ROIClassifier:
    """The classifier that ``MODEL.ROI_HEADS.NAME`` names in Detectron2's ``ROI_HEADS_REGISTRY``.

    Raises:
        InputError: what it names is no classifier of ROIs.
    """
    name = cfg.MODEL.ROI_HEADS.NAME
    # asked of the class: ROI heads of Detectron2 cannot be built without a feature map
    head = ROI_HEADS_REGISTRY.get(name)
    if not issubclass(head, ROIClassifier):
        missing = [x for x in ("losses", "class_probabilities", "features") if not hasattr(head, x)]
        raise InputError(
            f"MODEL.ROI_HEADS.NAME {name} is no classifier of ROIs, see tsdd_d2/modeling/contract.py: it has no {', '.join(missing)}."
        )
    return build_roi_heads(cfg, {})


class TSDDNetwork(DiagnosisNetwork, nn.Module):
    """D-Net and C-Net in one Detectron2 meta-architecture; the ``scores`` of its boxes are those of D-Net's ranking.

    A stage defines :meth:`training_losses`, :meth:`class_probabilities` and whether the latter takes D-Net's features.
    """

    diagnoses_with_dnet: bool

    def __init__(self, *, dnet: Localiser, cnet: ROIClassifier, bfloat16: bool):
        """
        Args:
            bfloat16: see :class:`~tsdd_d2.modeling.contract.DiagnosisNetwork`.
        """
        super().__init__()
        self.dnet = dnet
        self.cnet = cnet
        self.bfloat16 = bfloat16

    @property
    def device(self):
        return self.dnet.device

    def class_probabilities(self, images: ImageList, features: List[Tensor], boxes: List[Tensor]) -> List[Tensor]:
        """The diagnosis of arbitrary boxes: the one function that scores candidates and diagnoses.

        Args:
            images: N images, normalised.
            features: D-Net's feature levels, each (N, C, Hi, Wi); unused unless ``diagnoses_with_dnet``.
            boxes: N tensors (Ri, 4), absolute XYXY in the image tensor.
        Returns:
            N tensors (Ri, 2), benign and malignant, each row sums to 1.
        """
        raise NotImplementedError

    def propose(self, images: ImageList, features: List[Tensor], max_per_image: int) -> List[Instances]:
        """D-Net's best-ranked boxes in the image tensor, see :meth:`DNet.propose`."""
        return self.dnet.propose(self.dnet.predict(features), images.image_sizes, max_per_image)

    @torch.no_grad()
    def detect(self, batched_inputs: List[Dict], max_per_image: Optional[int] = None) -> List[Dict[str, Instances]]:
        """D-Net's boxes with their diagnoses."""
        images = self.dnet.preprocess_image(batched_inputs)
        features = self.dnet.extract_features(images)
        proposals = self.propose(images, features, max_per_image or self.dnet.max_detections_per_image)
        return self._diagnosed(batched_inputs, images, features, proposals)

    @torch.no_grad()
    def diagnose_rois(self, batched_inputs: List[Dict]) -> List[Dict[str, Instances]]:
        """See :class:`~tsdd_d2.modeling.contract.DiagnosesROIs`."""
        images = self.dnet.preprocess_image(batched_inputs)
        features = self.dnet.extract_features(images) if self.diagnoses_with_dnet else []
        given = [
            Instances(size, pred_boxes=Boxes(boxes), scores=torch.ones_like(boxes[:, 0]))
            for boxes, size in zip(rois_in_tensor(batched_inputs, images), images.image_sizes)
        ]
        return self._diagnosed(batched_inputs, images, features, given)

    def diagnose_tensor(self, images: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """See :class:`~tsdd_d2.modeling.contract.DiagnosesTensors`."""
        image_list = self.dnet.preprocess_tensor(images)
        features = self.dnet.extract_features(image_list)
        proposals = self.propose(image_list, features, 1)
        boxes = [x.pred_boxes.tensor for x in proposals]
        malignancy = torch.cat(self.class_probabilities(image_list, features, boxes))[:, MALIGNANT]
        return torch.cat(boxes), torch.cat([x.scores for x in proposals]), malignancy

    def coarsest_stride(self) -> int:
        return max(shape.stride for shape in self.dnet.feature_shapes())

    def _diagnosed(self, batched_inputs, images, features, proposals) -> List[Dict[str, Instances]]:
        probabilities = self.class_probabilities(images, features, [x.pred_boxes.tensor for x in proposals])
        add_diagnoses(proposals, probabilities)
        return [
            {"instances": detector_postprocess(x, *output_size(inputs, size))}
            for x, inputs, size in zip(proposals, batched_inputs, images.image_sizes)
        ]


def rois_in_tensor(batched_inputs: List[Dict], images: ImageList) -> List[Tensor]:
    """``rois`` of each input, scaled from the original image: N tensors (Mi, 4), absolute XYXY in the image tensor."""
    rois = []
    for inputs, size in zip(batched_inputs, images.image_sizes):
        boxes = Boxes(inputs["rois"].to(images.tensor.device, torch.float32).clone())
        height, width = output_size(inputs, size)
        boxes.scale(size[1] / width, size[0] / height)
        rois.append(boxes.tensor)
    return rois


def boxes_in_original(boxes: List[Tensor], batched_inputs: List[Dict], images: ImageList) -> List[Tensor]:
    """N tensors (Ri, 4), scaled from the image tensor to the original images and clipped to these."""
    scaled = []
    for x, inputs, size in zip(boxes, batched_inputs, images.image_sizes):
        height, width = output_size(inputs, size)
        x = Boxes(x.clone())
        x.scale(width / size[1], height / size[0])
        x.clip((height, width))
        scaled.append(x.tensor)
    return scaled


def share_buffers(model: nn.Module) -> None:
    """Gives a network on all ranks the buffers of rank 0, before it predicts on all of them.

    Each rank's batch normalisation has statistics of its own; those of rank 0 are in the checkpoints.
    """
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, src=0)


def output_size(inputs: Dict, image_size) -> tuple:
    """(height, width) of the original image, or of the image tensor where the input names none."""
    return inputs.get("height", image_size[0]), inputs.get("width", image_size[1])
