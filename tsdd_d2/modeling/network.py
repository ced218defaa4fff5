"""What the networks of both training stages share: D-Net's boxes, a diagnosis for each, Detectron2's contract."""

from typing import Dict, List

import torch
from torch import Tensor, nn

from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils import comm

from .cnet import CNet, add_diagnoses
from .dnet import DNet


class DiagnosesImages:
    """What a network inherits that diagnoses an image without a given ROI: its inference has a ``malignancy``."""


class TSDDNetwork(DiagnosesImages, nn.Module):
    """D-Net and C-Net in one Detectron2 meta-architecture.

    Obeys Detectron2's contract: a dict of losses in training, ``[{"instances": Instances}]`` at inference with
    ``pred_boxes`` (original image, absolute XYXY, best first), ``scores`` (D-Net's ranking, in [0, 1]),
    ``pred_classes`` (0 benign, 1 malignant) and ``malignancy`` (the probability).

    A stage defines :meth:`losses`, :meth:`class_probabilities` and whether the latter takes D-Net's features.
    """

    diagnoses_with_dnet: bool

    def __init__(self, *, dnet: DNet, cnet: CNet, bfloat16: bool):
        """
        Args:
            bfloat16: train in bfloat16 mixed precision (autocast), which needs no gradient scaler.
        """
        super().__init__()
        self.dnet = dnet
        self.cnet = cnet
        self.bfloat16 = bfloat16

    @property
    def device(self):
        return self.dnet.device

    def losses(self, batched_inputs: List[Dict]) -> Dict[str, Tensor]:
        """The terms of the stage's loss, each by its name."""
        raise NotImplementedError

    def class_probabilities(
        self, images: ImageList, features: List[Tensor], boxes: List[Tensor]
    ) -> List[Tensor]:
        """The diagnosis of arbitrary boxes: the one function that scores candidates and diagnoses.

        Args:
            images: N images, normalised.
            features: D-Net's feature levels, each (N, C, Hi, Wi); unused unless ``diagnoses_with_dnet``.
            boxes: N tensors (Ri, 4), absolute XYXY in the image tensor.
        Returns:
            N tensors (Ri, 2), benign and malignant, each row sums to 1.
        """
        raise NotImplementedError

    def forward(self, batched_inputs: List[Dict]):
        """
        Args:
            batched_inputs: outputs of the mapper, one dict for each image: ``image`` (3, H, W); in training
                ``instances`` with ``gt_boxes`` and ``gt_classes``, and ``partially_annotated`` (bool); at inference
                ``height`` and ``width`` of the output.
        """
        if not self.training:
            return self.inference(batched_inputs)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            return self.losses(batched_inputs)

    def propose(
        self, images: ImageList, features: List[Tensor], max_per_image: int
    ) -> List[Instances]:
        """D-Net's best-ranked boxes in the image tensor, see :meth:`DNet.propose`."""
        return self.dnet.propose(self.dnet.predict(features), images.image_sizes, max_per_image)

    @torch.no_grad()
    def inference(self, batched_inputs: List[Dict]) -> List[Dict[str, Instances]]:
        """D-Net's boxes with their diagnoses; see the class docstring."""
        images = self.dnet.preprocess_image(batched_inputs)
        features = self.dnet.extract_features(images)
        proposals = self.propose(images, features, self.dnet.max_detections_per_image)
        return self._diagnosed(batched_inputs, images, features, proposals)

    @torch.no_grad()
    def diagnose(self, batched_inputs: List[Dict]) -> List[Dict[str, Instances]]:
        """Diagnoses of given ROIs (``rois``, (M, 4) XYXY in the original image): the oracle of the evaluation.

        Returns the inference format, with score 1 for each ROI.
        """
        images = self.dnet.preprocess_image(batched_inputs)
        features = self.dnet.extract_features(images) if self.diagnoses_with_dnet else []
        given = [
            Instances(size, pred_boxes=Boxes(boxes), scores=torch.ones_like(boxes[:, 0]))
            for boxes, size in zip(rois_in_tensor(batched_inputs, images), images.image_sizes)
        ]
        return self._diagnosed(batched_inputs, images, features, given)

    def _diagnosed(self, batched_inputs, images, features, proposals) -> List[Dict[str, Instances]]:
        probabilities = self.class_probabilities(
            images, features, [x.pred_boxes.tensor for x in proposals]
        )
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
