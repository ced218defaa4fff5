"""The network of the first training stage: D-Net and C-Net side by side (paper III.B)."""

from typing import Dict, List, NamedTuple

import torch
from torch import Tensor, nn

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_roi_heads
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances

from .cnet import CNet
from .dnet import DNet
from .groups import partially_annotated_images
from .ranking import split_ranking_name


class ScoredBoxes(NamedTuple):
    """Candidates and current ROIs of one image with C-Net's class probabilities, all from one pass.

    Boxes are absolute XYXY in the *original* image; probabilities are (.., 2), benign and malignant.
    """

    candidate_boxes: Tensor
    candidate_probabilities: Tensor
    roi_probabilities: Tensor


@META_ARCH_REGISTRY.register()
class TSDDStage1(nn.Module):
    """D-Net and C-Net trained together, each on its own loss; C-Net diagnoses D-Net's boxes at inference.

    Obeys Detectron2's contract: a dict of losses in training, ``[{"instances": Instances}]`` at inference with
    ``pred_boxes`` (original image, absolute XYXY, best first), ``scores`` (D-Net's ranking, in [0, 1]),
    ``pred_classes`` (0 benign, 1 malignant) and ``malignancy`` (C-Net's probability).
    """

    @configurable
    def __init__(
        self, *, dnet: DNet, cnet: CNet, cnet_weighs_in: bool, bfloat16: bool
    ):
        """
        Args:
            cnet_weighs_in: multiply D-Net's ranking by C-Net's confidence (rankings named ``...+cnet``).
            bfloat16: train in bfloat16 mixed precision (autocast), which needs no gradient scaler.
        """
        super().__init__()
        self.dnet = dnet
        self.cnet = cnet
        self.cnet_weighs_in = cnet_weighs_in
        self.bfloat16 = bfloat16

    @classmethod
    def from_config(cls, cfg):
        dnet = DNet(cfg)
        return {
            "dnet": dnet,
            "cnet": build_roi_heads(cfg, dnet.backbone.output_shape()),
            "cnet_weighs_in": split_ranking_name(cfg.MODEL.DNET.RANKING)[1],
            "bfloat16": cfg.SOLVER.AMP.ENABLED,
        }

    @property
    def device(self):
        return self.dnet.device

    def forward(self, batched_inputs: List[Dict]):
        """
        Args:
            batched_inputs: outputs of the mapper, one dict for each image: ``image`` (3, H, W); in training
                ``instances`` with ``gt_boxes``, ``gt_classes``, ``partially_annotated``; at inference ``height``
                and ``width`` of the output.
        """
        if not self.training:
            return self.inference(batched_inputs)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            return self.losses(batched_inputs)

    def losses(self, batched_inputs: List[Dict]) -> Dict[str, Tensor]:
        """The terms of Eq. (1) and (3), each by its name."""
        images = self.dnet.preprocess_image(batched_inputs)
        gt_instances = [x["instances"].to(self.device) for x in batched_inputs]
        partially_annotated = partially_annotated_images(gt_instances)
        predictions = self.dnet.predict(self.dnet.extract_features(images))
        losses = self.dnet.losses(predictions, gt_instances, partially_annotated)
        losses.update(self.cnet.losses(images.tensor, gt_instances, partially_annotated))
        return losses

    @torch.no_grad()
    def inference(self, batched_inputs: List[Dict]) -> List[Dict[str, Instances]]:
        """Boxes from D-Net, diagnoses from C-Net; see the class docstring."""
        images = self.dnet.preprocess_image(batched_inputs)
        proposals = self.propose(images, self.dnet.max_detections_per_image)
        instances, _ = self.cnet(images, None, proposals)
        return [
            {"instances": detector_postprocess(x, *output_size(inputs, size))}
            for x, inputs, size in zip(instances, batched_inputs, images.image_sizes)
        ]

    def propose(self, images: ImageList, max_per_image: int) -> List[Instances]:
        """D-Net's best-ranked boxes in the image tensor, re-ranked by C-Net's confidence if the ranking says so."""
        predictions = self.dnet.predict(self.dnet.extract_features(images))
        if not self.cnet_weighs_in:
            return self.dnet.propose(predictions, images.image_sizes, max_per_image)
        proposals = self.dnet.propose(predictions, images.image_sizes, max(max_per_image, RERANKED))
        boxes = [x.pred_boxes.tensor for x in proposals]
        reranked = []
        for x, probabilities in zip(
            proposals, self.cnet.class_probabilities(images.tensor, boxes)
        ):
            x.scores = x.scores * probabilities.max(dim=1).values
            reranked.append(x[x.scores.argsort(descending=True)[:max_per_image]])
        return reranked

    @torch.no_grad()
    def diagnose(self, batched_inputs: List[Dict]) -> List[Dict[str, Instances]]:
        """C-Net alone on given ROIs (``rois``, (M, 4) XYXY in the original image): the oracle of the evaluation.

        Returns the inference format, with score 1 for each ROI.
        """
        images = self.dnet.preprocess_image(batched_inputs)
        proposals = []
        for boxes, size in zip(self._rois_in_tensor(batched_inputs, images), images.image_sizes):
            proposals.append(
                Instances(size, pred_boxes=Boxes(boxes), scores=torch.ones_like(boxes[:, 0]))
            )
        instances, _ = self.cnet(images, None, proposals)
        return [
            {"instances": detector_postprocess(x, *output_size(inputs, size))}
            for x, inputs, size in zip(instances, batched_inputs, images.image_sizes)
        ]

    @torch.no_grad()
    def score_candidates(
        self, batched_inputs: List[Dict], candidates_per_image: int
    ) -> List[ScoredBoxes]:
        """One pass of candidate selection (Fig. 4): D-Net once per image, C-Net once for all boxes of the batch.

        The current ROIs (``rois``, (M, 4) XYXY in the original image) are scored with the same C-Net in the same
        call as the candidates, since scores of different rounds are not comparable.
        """
        images = self.dnet.preprocess_image(batched_inputs)
        proposals = self.propose(images, candidates_per_image)
        rois = self._rois_in_tensor(batched_inputs, images)
        boxes = [torch.cat([x.pred_boxes.tensor, r]) for x, r in zip(proposals, rois)]
        results = []
        for x, inputs, size, probabilities in zip(
            proposals,
            batched_inputs,
            images.image_sizes,
            self.cnet.class_probabilities(images.tensor, boxes),
        ):
            num_candidates = len(x)
            x = detector_postprocess(
                Instances(size, pred_boxes=x.pred_boxes), *output_size(inputs, size)
            )
            # detector_postprocess drops empty boxes; a candidate without area is none
            assert len(x) == num_candidates, "a candidate box has no area"
            results.append(
                ScoredBoxes(
                    x.pred_boxes.tensor.cpu(),
                    probabilities[:num_candidates].cpu(),
                    probabilities[num_candidates:].cpu(),
                )
            )
        return results

    def _rois_in_tensor(self, batched_inputs: List[Dict], images: ImageList) -> List[Tensor]:
        """``rois`` of each input, scaled from the original image to the image tensor."""
        rois = []
        for inputs, size in zip(batched_inputs, images.image_sizes):
            boxes = Boxes(inputs["rois"].to(self.device, torch.float32).clone())
            height, width = output_size(inputs, size)
            boxes.scale(size[1] / width, size[0] / height)
            rois.append(boxes.tensor)
        return rois


# How many of D-Net's boxes C-Net's confidence may re-order.
RERANKED = 8


def output_size(inputs: Dict, image_size) -> tuple:
    """(height, width) of the original image, or of the image tensor where the input names none."""
    return inputs.get("height", image_size[0]), inputs.get("width", image_size[1])
