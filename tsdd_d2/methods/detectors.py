"""Detectron2's own detectors with the classes benign and malignant, as TSDDNet's peers."""

from typing import Dict, List, Optional

import torch
from torch import Tensor

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN, RetinaNet
from detectron2.structures import Instances

from ..evaluation.detections import diagnose_detections
from ..modeling.contract import DiagnosisNetwork
from ..modeling.preprocessing import PreprocessesImages


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


@META_ARCH_REGISTRY.register()
class DiagnosingRetinaNet(Diagnosing, RetinaNet):
    """RetinaNet (arXiv:1708.02002)."""

    # Detectron2 keeps the running normaliser of the loss as a plain attribute, and a run that resumes would start it
    # anew: as extra state it is in the checkpoint.
    def get_extra_state(self) -> torch.Tensor:
        return torch.tensor(getattr(self, "loss_normalizer", 0.0), dtype=torch.float64)  # 0: no step yet

    def set_extra_state(self, state: torch.Tensor) -> None:
        if state > 0:
            self.loss_normalizer = state.item()


@META_ARCH_REGISTRY.register()
class DiagnosingRCNN(Diagnosing, GeneralizedRCNN):
    """Faster R-CNN (arXiv:1506.01497)."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # Detectron2's ROIAlign rounds the boxes to the features' type: in bfloat16 to whole pixels and worse
        self.backbone.register_forward_hook(lambda _, inputs, features: {k: x.float() for k, x in features.items()})
