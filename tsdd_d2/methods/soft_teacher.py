"""Soft Teacher (arXiv:2106.09018): Faster R-CNN whose running average labels the images without ROI, end to end.

What the teacher finds is a box of the class loss where its score is high, and one of the box loss where its refinement hardly
depends on where it starts (Sec. 3.3). What overlaps no such box counts as background by as much as the teacher says (Sec. 3.2).
"""

from dataclasses import replace
from typing import Callable, Dict, List

import torch
from torch import Tensor
from torch.nn import functional as F

from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes, ImageList, Instances

from ..data.strong_augmentation import Affine, Cutout, OneColourOperation, Shuffled
from ..data.views import ViewsMapper, carry_boxes
from ..method import EVERYTHING, FA_BOXES_PA_IMAGES, Method, paper_row, register_method
from .faster_rcnn import FASTER_RCNN, FASTER_RCNN_PROFILES
from .pseudo_boxes import LABELLED, STRONG, UNLABELLED, WEAK, TeacherTrainer, carried, confident, of, statistics_kept

# Boxes below are no candidates for anything.
CANDIDATE_SCORE = 0.5
# The refinement of a box: from so many boxes around it, whose sides are off by this share of the box's.
JITTERS, JITTER_SIGMA = 10, 0.06
# A box of the box loss has a lower relative standard deviation.
MAX_DEVIATION = 0.02


def jittered(boxes: Tensor, number: int, sigma: float) -> Tensor:
    """(number, R, 4): the boxes (R, 4), XYXY, each coordinate moved by a normal share of the box's width or height."""
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1).repeat(1, 2)
    return boxes + torch.randn(number, *boxes.shape, device=boxes.device, dtype=boxes.dtype) * sides * sigma


def relative_deviation(boxes: Tensor) -> Tensor:
    """
    How far J refinements of each of R boxes lie apart.

    Args:
        boxes: (J, R, 4), XYXY.
    Returns:
        (R,): the mean over the coordinates of their standard deviation by the width, or height, of the mean box.
    """
    mean = boxes.mean(dim=0)
    sides = (mean[:, 2:] - mean[:, :2]).clamp(min=1).repeat(1, 2)
    # torch's std warns where R is 0
    deviation = ((boxes - mean).square().sum(dim=0) / (len(boxes) - 1)).sqrt()
    return (deviation / sides).mean(dim=1)


def soft_class_loss(logits: Tensor, classes: Tensor, background: Tensor) -> Tensor:
    """
    The cross-entropy of R boxes, those of no object weighted, by the sum of the weights.

    Args:
        logits: (R, K + 1), the last of the background.
        classes: (R,), K for none.
        background: (R,), the teacher's probability that a box is background.
    """
    is_background = classes == logits.shape[1] - 1
    weights = torch.where(is_background, background, torch.ones_like(background))
    losses = F.cross_entropy(logits.float(), classes, reduction="none")
    return (losses * weights).sum() / weights.sum().clamp(min=1)


class Features:
    """A Faster R-CNN on a batch of images, whose ROI heads may be asked again and again."""

    def __init__(self, network: GeneralizedRCNN, images: List[Dict]):
        self.network = network
        self.heads = network.roi_heads
        self.images: ImageList = network.preprocess_image(images)
        self.features = network.backbone(self.images.tensor)

    def predict(self, boxes: List[Boxes]):
        """Logits (R, K + 1) and box deltas (R, 4K) of the boxes of all images."""
        levels = [self.features[name] for name in self.heads.box_in_features]
        return self.heads.box_predictor(self.heads.box_head(self.heads.box_pooler(levels, boxes)))

    def refine(self, boxes: List[Boxes], classes: List[Tensor]) -> List[Tensor]:
        """The boxes (R, 4) of each image, moved as the heads say for their class (R,), and clipped."""
        proposals = [Instances(size, proposal_boxes=x) for size, x in zip(self.images.image_sizes, boxes)]
        refined = self.heads.box_predictor.predict_boxes(self.predict(boxes), proposals)
        chosen = []
        for size, x, k in zip(self.images.image_sizes, refined, classes):
            own = Boxes(x.view(len(k), x.shape[1] // 4, 4)[torch.arange(len(k), device=k.device), k])
            own.clip(size)
            chosen.append(own.tensor)
        return chosen

    def background(self, boxes: List[Boxes]) -> List[Tensor]:
        """The probability (R,) that each box is background."""
        return list(self.predict(boxes)[0].float().softmax(dim=1)[:, -1].split([len(x) for x in boxes]))


class SoftTeacher(TeacherTrainer):
    unlabelled_ratio = 4
    teacher_predicts = False

    def labelled_views(self) -> ViewsMapper:
        return self.views(**{STRONG: (OneColourOperation(),)})

    def unlabelled_views(self) -> ViewsMapper:
        strong = Shuffled(OneColourOperation(), Affine(0.1, 30.0, 30.0)), Cutout((1, 5), 0.2)
        # of an image that were cut, the teacher's boxes would be cut too
        return self.views(whole=(WEAK,), **{STRONG: strong, WEAK: ()})

    def losses(self, batch: List[Dict]) -> Dict[str, Tensor]:
        losses = self.trained_network(of(batch, LABELLED))
        weak, strong = of(batch, UNLABELLED, WEAK), of(batch, UNLABELLED, STRONG)
        if not weak:
            return losses
        with torch.no_grad():
            teacher = Features(self.teacher.eval(), weak)
            found = self.pseudo_boxes_of(teacher, weak)

        def background(boxes: List[Boxes]) -> Tensor:
            """The teacher's, of boxes in the strong views."""
            with torch.no_grad():
                in_weak = [
                    Boxes(carry_boxes(x.tensor, s["transform"], w["transform"])) for x, s, w in zip(boxes, strong, weak)
                ]
                for x, w in zip(in_weak, weak):
                    x.clip(tuple(w["image"].shape[1:]))
                return torch.cat(teacher.background(in_weak))

        targets = [carried(x, *views) for x, *views in zip(found, weak, strong)]
        cfg = self.cfg
        with torch.autocast(self.trained_network.device.type, torch.bfloat16, enabled=cfg.SOLVER.AMP.ENABLED):
            with statistics_kept(self.trained_network):
                student = Features(self.trained_network, strong)
            soft = soft_losses(student, targets, cfg.TEACHER.THRESHOLD, background)
        return {**losses, **{f"{k}_pseudo": v * cfg.TEACHER.UNLABELLED_WEIGHT for k, v in soft.items()}}

    def pseudo_boxes_of(self, teacher: Features, images: List[Dict]) -> List[Instances]:
        """The teacher's candidates in its own views, with ``deviations`` (R,), see :func:`relative_deviation`."""
        proposals, _ = teacher.network.proposal_generator(teacher.images, teacher.features, None)
        detected, _ = teacher.heads(teacher.images, teacher.features, proposals, None)
        classes = self.known_classes(images)
        found = [confident(x, CANDIDATE_SCORE, c) for x, c in zip(detected, classes)]
        around = [jittered(x.pred_boxes.tensor, JITTERS, JITTER_SIGMA) for x in found]
        refined = teacher.refine([Boxes(x.flatten(0, 1)) for x in around], [x.pred_classes.repeat(JITTERS) for x in found])
        for x, boxes in zip(found, refined):
            x.deviations = relative_deviation(boxes.view(JITTERS, -1, 4))
        for image, x, candidates in zip(images, found, detected):
            self.pseudo_boxes.add(image, confident(x, self.cfg.TEACHER.THRESHOLD), candidates.scores)
            self.pseudo_boxes.add_steady(image, x, x.deviations < MAX_DEVIATION)
        return found


def soft_losses(
    student: Features,
    targets: List[Instances],
    threshold: float,
    background: Callable[[List[Boxes]], Tensor],
) -> Dict[str, Tensor]:
    """
    The losses of unlabelled images.

    Args:
        targets: of each image ``gt_boxes``, ``gt_classes``, ``gt_scores`` and ``gt_deviations`` of the teacher's candidates.
        threshold: the score of a box for the RPN and the class loss.
        background: from the boxes of each image to the teacher's probability (R,) that they are background.
    """
    sure = [x[x.gt_scores > threshold] for x in targets]
    steady = [x[x.gt_deviations < MAX_DEVIATION] for x in targets]
    proposals, losses = student.network.proposal_generator(student.images, student.features, sure)
    sampled = student.heads.label_and_sample_proposals(proposals, sure)
    boxes = [x.proposal_boxes for x in sampled]
    logits, _ = student.predict(boxes)
    losses["loss_cls"] = soft_class_loss(logits, torch.cat([x.gt_classes for x in sampled]), background(boxes))
    sampled = student.heads.label_and_sample_proposals(proposals, steady)
    predictions = student.predict([x.proposal_boxes for x in sampled])
    losses["loss_box_reg"] = student.heads.box_predictor.losses(predictions, sampled)["loss_box_reg"]
    return losses


SOFT_TEACHER = register_method(
    Method(
        "soft_teacher",
        "Soft Teacher",
        "DiagnosingRCNN",
        FA_BOXES_PA_IMAGES,
        overrides={
            **FASTER_RCNN,
            "TEACHER.THRESHOLD": 0.9,
            "TEACHER.UNLABELLED_WEIGHT": 4.0,
            # reached after 9,000 steps, see tsdd_d2.engine.hooks.decay_at
            "SOLVER.EMA_DECAY": 0.999,
        },
        # batches that can be divided by 1 + 4, with as many images in all as the other methods draw
        profiles={
            "paper": {**FASTER_RCNN_PROFILES["paper"], "SOLVER.IMS_PER_BATCH": 10, "SOLVER.MAX_ITER": 15200},
            # a third of the schedule, see Unbiased Teacher; the authors have none, with a long schedule and ImageNet weights
            "scratch": {
                **FASTER_RCNN_PROFILES["scratch"],
                "SOLVER.IMS_PER_BATCH": 15,
                "SOLVER.MAX_ITER": 2560,
                "TEACHER.BURN_IN": 850,
            },
            "cpu": {
                **FASTER_RCNN_PROFILES["cpu"],
                "SOLVER.IMS_PER_BATCH": 15,
                "SOLVER.MAX_ITER": 1120,
                "TEACHER.BURN_IN": 370,
            },
        },
        trainer=SoftTeacher,
        paper=(paper_row("table1", 0.2, "85.02±1.35 85.85±1.25 83.96±1.27 69.81±2.02"),),
    )
)
# with the class of the images without ROI, as TSDDNet
register_method(replace(SOFT_TEACHER, name="soft_teacher_weak", title="Soft Teacher, classes", sees=EVERYTHING, paper=()))
