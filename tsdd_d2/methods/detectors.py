"""What makes a detector of Detectron2 a compared method: its boxes leave it with a diagnosis."""

from typing import Any, Dict, List, Optional

import torch
from torch import Tensor

from detectron2.config import configurable
from detectron2.structures import Instances

from ..evaluation.detections import diagnose_detections
from ..modeling.contract import DiagnosisNetwork
from ..modeling.preprocessing import PreprocessesImages

# A method in one stage draws as many training images as both stages of TSDDNet.
ITERATIONS = {"cpu": {"SOLVER.MAX_ITER": 1050}, "scratch": {"SOLVER.MAX_ITER": 2400}, "paper": {"SOLVER.MAX_ITER": 19000}}


def image_sizes(shorter: int, longer: int) -> Dict[str, Any]:
    """The keys of the size of the image tensor, in pixels, at which the longer side is at most ``longer``."""
    sizes = {"MIN_SIZE_TRAIN": (shorter,), "MIN_SIZE_TEST": shorter, "MAX_SIZE_TRAIN": longer, "MAX_SIZE_TEST": longer}
    return {f"INPUT.{key}": value for key, value in sizes.items()}


# In the small profiles a detector sees 240 pixels, as D-Net does; from random initialisation D-Net sees 160.
ONE_STAGE = {
    "cpu": {**ITERATIONS["cpu"], **image_sizes(240, 320)},
    "scratch": {**ITERATIONS["scratch"], **image_sizes(240, 320)},
    "paper": ITERATIONS["paper"],
}


class Diagnosing(DiagnosisNetwork, PreprocessesImages):
    """Mixed into a Detectron2 detector with the classes benign and malignant; the ``malignancy`` of its boxes is that of
    :func:`~tsdd_d2.evaluation.detections.diagnose_detections`.
    """

    @configurable
    def __init__(self, *, bfloat16: bool, **detector):
        """
        Args:
            bfloat16: see :class:`~tsdd_d2.modeling.contract.DiagnosisNetwork`.
            detector: see the detector's class.
        """
        super().__init__(**detector)
        self.bfloat16 = bfloat16
        self.to(memory_format=torch.channels_last)

    @classmethod
    def from_config(cls, cfg):
        return {**super().from_config(cfg), "bfloat16": cfg.SOLVER.AMP.ENABLED}

    def training_losses(self, batched_inputs: List[Dict]) -> Dict[str, Tensor]:
        return self._detector_forward(batched_inputs)

    @torch.no_grad()
    def detect(self, batched_inputs: List[Dict], max_per_image: Optional[int] = None) -> List[Dict[str, Instances]]:
        # all of the detector's boxes decide the diagnosis, not those alone that are asked for
        outputs = self._detector_forward(batched_inputs)
        return [{"instances": diagnose_detections(x["instances"])[:max_per_image]} for x in outputs]

    def _detector_forward(self, batched_inputs: List[Dict]):
        # past the contract's forward, which calls the methods above
        return super(DiagnosisNetwork, self).forward(batched_inputs)
