"""C-Net without a detector: the two yardsticks of what localisation is worth."""

from typing import Dict, List, Optional

import torch
from torch import Tensor, nn

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances

from ..method import CLASSES, FA_BOXES, Method, register_method
from ..modeling.cnet import add_diagnoses
from ..modeling.contract import MANUAL_ROI, WHOLE_IMAGE, DiagnosisNetwork, ROIClassifier
from ..modeling.network import build_classifier, output_size, rois_in_tensor
from ..modeling.preprocessing import PreprocessesImages
from .detectors import ITERATIONS, image_sizes


class CNetAlone(DiagnosisNetwork, PreprocessesImages, nn.Module):
    """C-Net on boxes that nobody had to find, with a score of 1 for each.

    A kind of box defines :meth:`training_boxes` and :meth:`inference_boxes`.
    """

    size_divisibility = 0  # there are no feature levels to fit

    @configurable
    def __init__(self, *, cnet: ROIClassifier, pixel_mean: List[float], pixel_std: List[float], bfloat16: bool):
        """
        Args:
            pixel_mean, pixel_std: of the channels, in 0-255.
            bfloat16: see :class:`~tsdd_d2.modeling.contract.DiagnosisNetwork`.
        """
        super().__init__()
        self.cnet = cnet
        self.bfloat16 = bfloat16
        self.register_pixel_statistics(pixel_mean, pixel_std)

    @classmethod
    def from_config(cls, cfg):
        return {
            "cnet": build_classifier(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "bfloat16": cfg.SOLVER.AMP.ENABLED,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def training_boxes(self, batched_inputs: List[Dict], images: ImageList) -> List[Instances]:
        """N ``Instances`` in the image tensor with ``gt_boxes`` and ``gt_classes``."""
        raise NotImplementedError

    def inference_boxes(self, batched_inputs: List[Dict], images: ImageList) -> List[Tensor]:
        """N tensors (Ri, 4), absolute XYXY in the image tensor."""
        raise NotImplementedError

    def training_losses(self, batched_inputs: List[Dict]) -> Dict[str, Tensor]:
        images = self.preprocess_image(batched_inputs)
        targets = self.training_boxes(batched_inputs, images)
        # all of them in the fa half of Eq. (3): there is no other
        partially_annotated = torch.zeros(len(targets), dtype=torch.bool, device=self.device)
        boxes = [x.gt_boxes.tensor for x in targets]
        losses = self.cnet.losses(images.tensor, boxes, targets, partially_annotated)
        return {"loss_cnet": losses["loss_cnet_fa"]}

    @torch.no_grad()
    def detect(self, batched_inputs: List[Dict], max_per_image: Optional[int] = None) -> List[Dict[str, Instances]]:
        """The boxes that it was given with their diagnoses."""
        images = self.preprocess_image(batched_inputs)
        boxes = [b[:max_per_image] for b in self.inference_boxes(batched_inputs, images)]
        given = [
            Instances(size, pred_boxes=Boxes(b), scores=torch.ones_like(b[:, 0]))
            for b, size in zip(boxes, images.image_sizes)
        ]
        add_diagnoses(given, self.cnet.class_probabilities(images.tensor, boxes))
        return [
            {"instances": detector_postprocess(x, *output_size(inputs, size))}
            for x, inputs, size in zip(given, batched_inputs, images.image_sizes)
        ]


@META_ARCH_REGISTRY.register()
class CNetOnROI(CNetAlone):
    """C-Net on the manual ROI, in training and at test time: what it would diagnose if localisation were solved.

    An image without ROI has no diagnosis, and :func:`~tsdd_d2.engine.final_evaluation.evaluate` leaves it out.
    """

    diagnosed_boxes = MANUAL_ROI

    def training_boxes(self, batched_inputs: List[Dict], images: ImageList) -> List[Instances]:
        return [x["instances"].to(self.device) for x in batched_inputs]

    def inference_boxes(self, batched_inputs: List[Dict], images: ImageList) -> List[Tensor]:
        return rois_in_tensor(batched_inputs, images)


@META_ARCH_REGISTRY.register()
class CNetOnImage(CNetAlone):
    """C-Net on the whole image: diagnosis without localisation, which needs no ROI and trains on every image."""

    diagnosed_boxes = WHOLE_IMAGE

    def training_boxes(self, batched_inputs: List[Dict], images: ImageList) -> List[Instances]:
        boxes = self.inference_boxes(batched_inputs, images)
        return [
            Instances(size, gt_boxes=Boxes(b), gt_classes=torch.tensor([inputs["category_id"]], device=self.device))
            for b, inputs, size in zip(boxes, batched_inputs, images.image_sizes)
        ]

    def inference_boxes(self, batched_inputs: List[Dict], images: ImageList) -> List[Tensor]:
        return [images.tensor.new_tensor([[0, 0, width, height]]) for height, width in images.image_sizes]


# In the small profile more steps learn the few images by heart.
STEPS = {**ITERATIONS, "cpu": {"SOLVER.MAX_ITER": 400}}
NO_DETECTOR = {"MODEL.WEIGHTS": "", "REFINEMENT.ENABLED": False}

register_method(
    Method(
        "cnet_whole_image",
        "C-Net, whole image",
        "CNetOnImage",
        CLASSES,
        # there is nothing around the image
        overrides={**NO_DETECTOR, "MODEL.CNET.CONTEXT": 1.0, "MODEL.CNET.SCALES": (1.0,)},
        profiles={**STEPS, "cpu": {**STEPS["cpu"], **image_sizes(240, 320)}},
    )
)
register_method(
    Method("cnet_oracle", "C-Net, manual ROI (oracle)", "CNetOnROI", FA_BOXES, overrides=NO_DETECTOR, profiles=STEPS)
)
