"""Faster R-CNN (arXiv:1506.01497): Detectron2's, with the classes benign and malignant."""

from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN

from ..method import FA_BOXES, Method, paper_row, register_method
from .detectors import ONE_STAGE, Diagnosing


@META_ARCH_REGISTRY.register()
class DiagnosingRCNN(Diagnosing, GeneralizedRCNN):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # Detectron2's ROIAlign rounds the boxes to the features' type: in bfloat16 to whole pixels and worse
        self.backbone.register_forward_hook(lambda _, inputs, features: {k: x.float() for k, x in features.items()})


# also what the semi-supervised methods are made of
FASTER_RCNN = {
    "MODEL.CNET.WEIGHTS": "",
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_HEADS.NUM_CLASSES": 2,
    # the diagnosis needs the top detection of both classes, however low their scores
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "REFINEMENT.ENABLED": False,
    "TEST.DETECTIONS_PER_IMAGE": 100,
}
# fewer proposals and a narrower head: a small image holds one lesion
SMALL = {
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128]],
    "MODEL.RPN.IN_FEATURES": ["p3", "p4", "p5"],
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 300,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 300,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 300,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 300,
    "MODEL.ROI_HEADS.IN_FEATURES": ["p3", "p4", "p5"],
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 64,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 256,
}
FASTER_RCNN_PROFILES = {
    "cpu": {**ONE_STAGE["cpu"], **SMALL},
    "scratch": {**ONE_STAGE["scratch"], **SMALL},
    # the levels and anchors of Detectron2's model zoo
    "paper": {
        **ONE_STAGE["paper"],
        "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
        "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
        "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
        "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
        "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
        "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 2000,
        "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1000,
        "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
        "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
    },
}

register_method(
    Method(
        "faster_rcnn",
        "Faster R-CNN",
        "DiagnosingRCNN",
        FA_BOXES,
        overrides=FASTER_RCNN,
        profiles=FASTER_RCNN_PROFILES,
        paper=(paper_row("table1", 1.0, "85.65±1.27 86.04±1.31 83.74±1.28 69.78±2.13"),),
    )
)
