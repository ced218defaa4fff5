"""Unbiased Teacher (arXiv:2102.09480): Faster R-CNN whose running average labels the images without ROI.

After a burn-in on the labelled images the teacher's confident boxes in the weak view of an unlabelled image train the student on
its strong view: classes alone, since the score of a box does not tell how well it lies (Sec. 3.2). A focal loss keeps the
classes balanced (Sec. 3.3).
"""

from dataclasses import replace
from typing import Dict, List

import torch
from torch import Tensor
from torch.nn import functional as F

from detectron2.data import transforms as T
from detectron2.modeling import ROI_HEADS_REGISTRY, StandardROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers

from ..data.strong_augmentation import Blur, ColourJitter, Erasing, Grey
from ..data.views import ViewsMapper
from ..method import EVERYTHING, FA_BOXES_PA_IMAGES, Method, paper_row, register_method
from .faster_rcnn import FASTER_RCNN, FASTER_RCNN_PROFILES
from .pseudo_boxes import LABELLED, STRONG, UNLABELLED, WEAK, TeacherTrainer, carried, of, statistics_kept

FOCAL_GAMMA = 1.5
# What the pseudo-boxes train: no box regression, neither in the RPN nor in the ROI heads.
PSEUDO_LOSSES = ("loss_rpn_cls", "loss_cls")

# Appendix A.4, table 6
STRONG_AUGMENTATION = (
    T.RandomApply(ColourJitter(0.4, 0.4, 0.4, 0.1), 0.8),
    T.RandomApply(Grey(), 0.2),
    T.RandomApply(Blur(0.1, 2.0), 0.5),
    T.RandomApply(Erasing((0.05, 0.2), (0.3, 3.3)), 0.7),
    T.RandomApply(Erasing((0.02, 0.2), (0.1, 6.0)), 0.5),
    T.RandomApply(Erasing((0.02, 0.2), (0.05, 8.0)), 0.3),
)


def focal_loss(logits: Tensor, classes: Tensor, gamma: float) -> Tensor:
    """The mean of ``(1 - p) ** gamma * -log p`` over N boxes, p the probability of the class; (N, K + 1) logits, (N,)."""
    cross_entropy = F.cross_entropy(logits.float(), classes, reduction="none")
    return ((1 - torch.exp(-cross_entropy)) ** gamma * cross_entropy).sum() / max(len(classes), 1)


class FocalOutputLayers(FastRCNNOutputLayers):
    """Detectron2's predictor with a focal loss for the class."""

    def losses(self, predictions, proposals):
        classes = torch.cat([x.gt_classes for x in proposals])
        return {**super().losses(predictions, proposals), "loss_cls": focal_loss(predictions[0], classes, FOCAL_GAMMA)}


@ROI_HEADS_REGISTRY.register()
class FocalROIHeads(StandardROIHeads):
    @classmethod
    def _init_box_head(cls, cfg, input_shape):
        parts = super()._init_box_head(cfg, input_shape)
        return {**parts, "box_predictor": FocalOutputLayers(cfg, parts["box_head"].output_shape)}


class UnbiasedTeacher(TeacherTrainer):
    """The labelled images are seen in both views, unlabelled ones by the teacher in the weak one and by the student in the
    strong one. Both views of an image have one geometry, as in the authors' software. Their learning rate is constant; here it
    falls as that of all methods does."""

    def labelled_views(self) -> ViewsMapper:
        return self.views(one_geometry=True, **{STRONG: STRONG_AUGMENTATION, WEAK: ()})

    unlabelled_views = labelled_views

    def losses(self, batch: List[Dict]) -> Dict[str, Tensor]:
        losses = self.trained_network(of(batch, LABELLED))
        weak, strong = of(batch, UNLABELLED, WEAK), of(batch, UNLABELLED, STRONG)
        if not weak:
            return losses
        teacher = self.cfg.TEACHER
        found = self.teacher_boxes(weak, teacher.THRESHOLD)
        targets = [carried(x, *views) for x, *views in zip(found, weak, strong)]
        with statistics_kept(self.trained_network):
            unsupervised = self.trained_network([{**x, "instances": y} for x, y in zip(strong, targets)])
        pseudo = {f"{name}_pseudo": unsupervised[name] * teacher.UNLABELLED_WEIGHT for name in PSEUDO_LOSSES}
        return {**losses, **pseudo}


UNBIASED_TEACHER = register_method(
    Method(
        "unbiased_teacher",
        "Unbiased Teacher",
        "DiagnosingRCNN",
        FA_BOXES_PA_IMAGES,
        overrides={
            **FASTER_RCNN,
            "MODEL.ROI_HEADS.NAME": "FocalROIHeads",
            "MODEL.RPN.POSITIVE_FRACTION": 0.25,
            "TEACHER.THRESHOLD": 0.7,
            "TEACHER.UNLABELLED_WEIGHT": 4.0,
            # Reached after 22,500 steps, see tsdd_d2.engine.hooks.decay_at: before, the teacher is the average of about the
            # last ninth of the steps of the run, or a short schedule would end with the weights of the burn-in.
            "SOLVER.EMA_DECAY": 0.9996,
        },
        profiles={
            "paper": {**FASTER_RCNN_PROFILES["paper"], "TEACHER.BURN_IN": 2000},
            # A third of the schedule: a teacher whose scores stay below the threshold teaches that nothing is there.
            "scratch": {**FASTER_RCNN_PROFILES["scratch"], "TEACHER.BURN_IN": 800},
            "cpu": {**FASTER_RCNN_PROFILES["cpu"], "TEACHER.BURN_IN": 350},
        },
        trainer=UnbiasedTeacher,
        paper=(paper_row("table1", 0.2, "83.82±1.13 84.73±1.13 82.74±1.62 67.47±1.59"),),
    )
)
# with the class of the images without ROI, as TSDDNet
register_method(
    replace(UNBIASED_TEACHER, name="unbiased_teacher_weak", title="Unbiased Teacher, classes", sees=EVERYTHING, paper=())
)
