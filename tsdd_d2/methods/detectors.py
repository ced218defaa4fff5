"""Detectron2's own detectors with the classes benign and malignant, as TSDDNet's peers."""

from typing import Dict, List

import torch

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN, RetinaNet

from ..evaluation.detections import diagnose_detections
from ..modeling.network import DiagnosesImages


class Diagnosing(DiagnosesImages):
    """Mixed into a Detectron2 detector: its boxes leave it with a diagnosis, and it trains in bfloat16 where asked.

    The outputs follow the contract of :class:`~tsdd_d2.modeling.network.TSDDNetwork`; the ``malignancy`` is that of
    :func:`~tsdd_d2.evaluation.detections.diagnose_detections`.
    """

    # see modeling/architectures.py
    needs_rois = True
    unused_keys = ("MODEL.FNET.",)

    @configurable
    def __init__(self, *, bfloat16: bool, **detector):
        """
        Args:
            bfloat16: train in bfloat16 mixed precision (autocast), which needs no gradient scaler.
            detector: see the detector's class.
        """
        super().__init__(**detector)
        self.bfloat16 = bfloat16
        self.to(memory_format=torch.channels_last)

    @classmethod
    def from_config(cls, cfg):
        return {**super().from_config(cfg), "bfloat16": cfg.SOLVER.AMP.ENABLED}

    def forward(self, batched_inputs: List[Dict]):
        if self.training:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
                return super().forward(batched_inputs)
        return [{"instances": diagnose_detections(x["instances"])} for x in super().forward(batched_inputs)]


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
