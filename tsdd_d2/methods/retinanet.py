"""RetinaNet (arXiv:1708.02002): Detectron2's, with the classes benign and malignant."""

import torch

from detectron2.modeling import META_ARCH_REGISTRY, RetinaNet

from ..method import FA_BOXES, Method, paper_row, register_method
from .detectors import ONE_STAGE, Diagnosing


@META_ARCH_REGISTRY.register()
class DiagnosingRetinaNet(Diagnosing, RetinaNet):
    # Detectron2 keeps the running normaliser of the loss as a plain attribute, and a run that resumes would start it
    # anew: as extra state it is in the checkpoint.
    def get_extra_state(self) -> torch.Tensor:
        return torch.tensor(getattr(self, "loss_normalizer", 0.0), dtype=torch.float64)  # 0: no step yet

    def set_extra_state(self, state: torch.Tensor) -> None:
        if state > 0:
            self.loss_normalizer = state.item()


# of the small profiles
ANCHORS = [[32, 40.32, 50.8], [64, 80.63, 101.59], [128, 161.27, 203.19]]

register_method(
    Method(
        "retinanet",
        "RetinaNet",
        "DiagnosingRetinaNet",
        FA_BOXES,
        overrides={
            "MODEL.CNET.WEIGHTS": "",
            "MODEL.RETINANET.NUM_CLASSES": 2,
            "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": 0.1,
            # the diagnosis needs the top detection of both classes, however low their scores
            "MODEL.RETINANET.SCORE_THRESH_TEST": 0.0,
            "REFINEMENT.ENABLED": False,
            "TEST.DETECTIONS_PER_IMAGE": 100,
        },
        profiles={
            "cpu": {**ONE_STAGE["cpu"], "MODEL.ANCHOR_GENERATOR.SIZES": ANCHORS},
            "scratch": {**ONE_STAGE["scratch"], "MODEL.ANCHOR_GENERATOR.SIZES": ANCHORS},
            "paper": ONE_STAGE["paper"],
        },
        paper=(paper_row("table1 table2 table3", 1.0, "84.84±1.08 86.01±0.82 82.70±1.09 68.71±1.74"),),
    )
)
