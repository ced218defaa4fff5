"""The network of the first training stage: D-Net and C-Net side by side (paper III.B)."""

from typing import Dict, List

import torch
from torch import Tensor

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, ImageList

from .boxes import elementwise_iou
from .contract import ScoredBoxes
from .groups import partially_annotated_images
from .network import TSDDNetwork, boxes_in_original, build_classifier, build_localiser, rois_in_tensor

# Shorter sides, in pixels of the original image, could become 0 in the two decimals of an annotation file.
MIN_CANDIDATE_SIDE = 0.01


@META_ARCH_REGISTRY.register()
class TSDDStage1(TSDDNetwork):
    """D-Net and C-Net trained together, each on its own loss; C-Net alone diagnoses D-Net's boxes."""

    diagnoses_with_dnet = False

    @configurable
    def __init__(self, *, dnet_box_probability: float = 0.0, **networks):
        """
        Args:
            dnet_box_probability: how often C-Net is trained on D-Net's box instead of the ROI, see
                :func:`mix_in_dnet_boxes`; 0 is the paper.
            networks: see :class:`TSDDNetwork`.
        """
        super().__init__(**networks)
        self.dnet_box_probability = dnet_box_probability

    @classmethod
    def from_config(cls, cfg):
        dnet = build_localiser(cfg)
        return {
            "dnet": dnet,
            "cnet": build_classifier(cfg),
            "dnet_box_probability": cfg.MODEL.CNET.DNET_BOX_PROBABILITY,
            "bfloat16": cfg.SOLVER.AMP.ENABLED,
        }

    def training_losses(self, batched_inputs: List[Dict]) -> Dict[str, Tensor]:
        """The terms of Eq. (1) and (3)."""
        images = self.dnet.preprocess_image(batched_inputs)
        gt_instances = [x["instances"].to(self.device) for x in batched_inputs]
        partially_annotated = partially_annotated_images(batched_inputs, self.device)
        predictions = self.dnet.predict(self.dnet.extract_features(images))
        losses = self.dnet.losses(predictions, gt_instances, partially_annotated)
        boxes = [x.gt_boxes.tensor for x in gt_instances]
        if self.dnet_box_probability > 0:
            found = torch.cat([x.pred_boxes.tensor for x in self.dnet.propose(predictions, images.image_sizes, 1)])
            boxes = mix_in_dnet_boxes(boxes, found, self.dnet_box_probability)
        losses.update(self.cnet.losses(images.tensor, boxes, gt_instances, partially_annotated))
        return losses

    def class_probabilities(self, images: ImageList, features: List[Tensor], boxes: List[Tensor]) -> List[Tensor]:
        """C-Net's; D-Net's features have no part in the first stage."""
        return self.cnet.class_probabilities(images.tensor, boxes)

    @torch.no_grad()
    def score_candidates(self, batched_inputs: List[Dict], candidates_per_image: int) -> List[ScoredBoxes]:
        """One pass of candidate selection (Fig. 4): D-Net once per image, C-Net once for all boxes of the batch.

        The current ROIs (``rois``, (M, 4) XYXY in the original image) are scored with the same C-Net in the same
        call as the candidates, since scores of different rounds are not comparable. Many candidates are scored in
        several calls, see :func:`~tsdd_d2.modeling.cnet.probabilities_of_boxes`. A candidate without area is left out,
        so an image may have none.
        """
        images = self.dnet.preprocess_image(batched_inputs)
        features = self.dnet.extract_features(images)
        proposals = self.propose(images, features, candidates_per_image)
        candidates = [x.pred_boxes.tensor for x in proposals]
        rois = rois_in_tensor(batched_inputs, images)
        boxes = [torch.cat(x) for x in zip(candidates, rois)]
        results = []
        for original, probabilities in zip(
            boxes_in_original(candidates, batched_inputs, images),
            self.class_probabilities(images, features, boxes),
        ):
            num_candidates = len(original)
            # where D-Net places every box outside the image, the best one is clipped to nothing
            has_area = Boxes(original).nonempty(MIN_CANDIDATE_SIDE)
            # what is kept is copied: a view would keep the tensors of the whole batch
            results.append(
                ScoredBoxes(
                    original[has_area].cpu(),
                    probabilities[:num_candidates][has_area].cpu(),
                    probabilities[num_candidates:].cpu().clone(),
                )
            )
        return results


# D-Net's box shows the lesion of a ROI if it overlaps it this much (IoU).
SAME_LESION_IOU = 0.5


def mix_in_dnet_boxes(rois: List[Tensor], found: Tensor, probability: float) -> List[Tensor]:
    """Replaces, in some images, the ROI that D-Net's box overlaps most by that box, if both show the same lesion.

    Args:
        rois: N tensors (Ri, 4) absolute XYXY; found: (N, 4), D-Net's box of each image.
        probability: of each image.
    Returns:
        N tensors (Ri, 4).
    """
    drawn = torch.rand(len(rois), device=found.device) < probability
    mixed = []
    for boxes, box, replace in zip(rois, found, drawn):
        if replace and len(boxes) > 0:
            iou = elementwise_iou(boxes, box)
            nearest = torch.arange(len(boxes), device=iou.device) == iou.argmax()
            boxes = torch.where((nearest & (iou >= SAME_LESION_IOU))[:, None], box, boxes)
        mixed.append(boxes)
    return mixed
