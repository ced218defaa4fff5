"""Soft Teacher: its rules by hand, what reaches a loss, and a resumed run."""

import math

import pytest
import torch

from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.method import PROFILES
from tsdd_d2.methods import soft_teacher
from tsdd_d2.methods.pseudo_boxes import LABELLED, STRONG, UNLABELLED, WEAK, of
from tsdd_d2.methods.soft_teacher import Features, jittered, relative_deviation, soft_class_loss, soft_losses

from .teachers import batch_of, check_resume, trainer_for

METHOD = "soft_teacher"
# batches of 1 labelled image and 4 others
FIVE = ("SOLVER.IMS_PER_BATCH", "5")


@pytest.mark.parametrize("profile", PROFILES)
def test_the_papers_values(profile):
    cfg = load_config(method=METHOD, profile=profile)
    assert (cfg.TEACHER.THRESHOLD, cfg.TEACHER.UNLABELLED_WEIGHT, cfg.SOLVER.EMA_DECAY) == (0.9, 4.0, 0.999)
    constants = soft_teacher.CANDIDATE_SCORE, soft_teacher.JITTERS, soft_teacher.JITTER_SIGMA, soft_teacher.MAX_DEVIATION
    assert constants == (0.5, 10, 0.06, 0.02)


def test_the_deviation_of_refinements_by_hand():
    # two refinements of two boxes; a standard deviation of two values is half their difference times the root of 2
    first = [[0.0, 0, 100, 50], [10, 10, 10.5, 10.5]]
    second = [[2.0, 0, 102, 50], [10, 10, 10.5, 11.5]]
    boxes = torch.tensor([first, second])
    # of the first box two coordinates deviate by sqrt(2), by a width of 100; of the second one, by no less than a pixel
    expected = [2 * math.sqrt(2) / 100 / 4, math.sqrt(0.5) / 4]
    assert relative_deviation(boxes).tolist() == pytest.approx(expected)
    assert relative_deviation(torch.zeros(10, 0, 4)).shape == (0,)


def test_jitter_is_a_share_of_the_sides():
    torch.manual_seed(0)
    found = jittered(torch.tensor([[10.0, 20.0, 110.0, 60.0]]), 20000, 0.06)
    assert found.mean(dim=0)[0].tolist() == pytest.approx([10, 20, 110, 60], abs=0.3)
    assert found.std(dim=0)[0].tolist() == pytest.approx([6.0, 2.4, 6.0, 2.4], rel=0.05)


def test_background_weights_by_hand():
    # uniform logits: each cross-entropy is log 3; of the object 1, of two background boxes 0.9 and 0.2
    logits, classes = torch.zeros(3, 3), torch.tensor([1, 2, 2])
    logits[2] = torch.tensor([math.log(2), math.log(2), 0.0])  # probability 1/5
    loss = soft_class_loss(logits, classes, torch.tensor([0.0, 0.9, 0.2]))
    assert loss.item() == pytest.approx((1.9 * math.log(3) + 0.2 * math.log(5)) / 2.1)
    # a sum of weights below 1 does not blow the loss up
    loss = soft_class_loss(logits[2:], classes[2:], torch.tensor([0.2]))
    assert loss.item() == pytest.approx(0.2 * math.log(5))


def test_a_batch_has_one_labelled_image_for_four(tmp_path, tiny_dataset):
    trainer = trainer_for(METHOD, tmp_path, *FIVE)
    batch = batch_of(trainer)
    assert len(of(batch, LABELLED)) == 1
    weak, strong = of(batch, UNLABELLED, WEAK), of(batch, UNLABELLED, STRONG)
    assert [x["image_id"] for x in weak] == [x["image_id"] for x in strong] and len(weak) == 4
    assert not any(torch.equal(w["transform"], s["transform"]) for w, s in zip(weak, strong))
    assert trainer.network is trainer.trained_network  # the student is tested


def of_student(trainer, batch):
    return Features(trainer.trained_network, of(batch, UNLABELLED, STRONG))


def targets(scores, deviations, size=(64, 72)):
    x = Instances(size, gt_boxes=Boxes(torch.tensor([[5.0, 5, 40, 50]] * len(scores)).reshape(-1, 4)))
    x.gt_classes = torch.zeros(len(scores), dtype=torch.long)
    x.gt_scores, x.gt_deviations = torch.tensor(scores), torch.tensor(deviations)
    return x


@pytest.mark.parametrize(
    "score, deviation, trained", [(0.95, 0.01, "both"), (0.95, 0.03, "class"), (0.6, 0.01, "box"), (0.6, 0.03, "none")]
)
def test_the_score_chooses_boxes_of_the_class_and_the_deviation_those_of_the_box(
    score, deviation, trained, tmp_path, tiny_dataset
):
    trainer = trainer_for(METHOD, tmp_path, *FIVE)
    student = of_student(trainer, batch_of(trainer))
    given = [targets([score], [deviation]) if i == 0 else targets([], []) for i in range(4)]
    asked = []

    def background(boxes):
        asked.extend(boxes)
        return torch.zeros(sum(map(len, boxes)))

    with EventStorage(0):
        losses = soft_losses(student, given, 0.9, background)
    # where the teacher holds nothing for background the class loss is that of the objects alone
    assert (losses["loss_cls"] > 0) == (losses["loss_rpn_loc"] > 0) == (trained in ("class", "both"))
    assert (losses["loss_box_reg"] > 0) == (trained in ("box", "both"))
    assert len(asked) == 4


def test_the_teacher_is_asked_for_the_same_pixels(tmp_path, tiny_dataset, monkeypatch):
    trainer = trainer_for(METHOD, tmp_path, *FIVE)
    batch = batch_of(trainer)
    given, asked = [], []
    losses = soft_teacher.soft_losses

    def with_boxes(student, found, threshold, background):
        boxes = [Boxes(torch.tensor([[8.0, 8.0, 30.0, 40.0]])) for _ in found]
        given.extend(boxes)
        background(boxes)
        return losses(student, found, threshold, lambda x: torch.ones(sum(map(len, x))))

    monkeypatch.setattr(soft_teacher, "soft_losses", with_boxes)
    monkeypatch.setattr(Features, "background", lambda self, x: asked.extend(x) or [torch.zeros(len(b)) for b in x])
    with EventStorage(trainer.iter):
        trainer.losses(batch)
    for box, weak, strong in zip(asked, of(batch, UNLABELLED, WEAK), of(batch, UNLABELLED, STRONG)):
        matrix = weak["transform"] @ torch.linalg.inv(strong["transform"])
        corners = torch.tensor([[8.0, 8, 1], [30, 8, 1], [30, 40, 1], [8, 40, 1]], dtype=torch.float64) @ matrix[:2].T
        height, width = weak["image"].shape[1:]
        low, high = (x.clamp(min=0).minimum(torch.tensor([width, height])) for x in (corners.amin(0), corners.amax(0)))
        assert box.tensor[0].tolist() == pytest.approx([*low.tolist(), *high.tolist()], abs=1e-3)
    assert len(asked) == len(given) == 4


def test_the_background_is_the_softmax_of_the_heads(tmp_path, tiny_dataset):
    trainer = trainer_for(METHOD, tmp_path, *FIVE)
    student = of_student(trainer, batch_of(trainer))
    boxes = [Boxes(torch.tensor([[5.0, 5, 40, 50]] * n).reshape(-1, 4)) for n in (2, 0, 1, 0)]
    logits, _ = student.predict(boxes)
    expected = [math.exp(x[2]) / sum(map(math.exp, x)) for x in logits.tolist()]
    found = student.background(boxes)
    assert [len(x) for x in found] == [2, 0, 1, 0]
    assert torch.cat(found).tolist() == pytest.approx(expected, rel=1e-5)


def test_candidates_and_their_deviations(tmp_path, tiny_dataset, monkeypatch):
    trainer = trainer_for(METHOD, tmp_path, *FIVE)
    monkeypatch.setattr(soft_teacher, "CANDIDATE_SCORE", 0.3)
    weak = of(batch_of(trainer), UNLABELLED, WEAK)
    with torch.no_grad():
        teacher = Features(trainer.teacher.eval(), weak)
        found = trainer.pseudo_boxes_of(teacher, weak)
        # heads that leave every box where it is: the deviation is that of the jitter
        torch.nn.init.zeros_(trainer.teacher.roi_heads.box_predictor.bbox_pred.weight)
        unrefined = trainer.pseudo_boxes_of(Features(trainer.teacher, weak), weak)
    assert sum(map(len, found)) > 0 and all((x.scores > 0.3).all() and (x.deviations > 0).all() for x in found)
    inside = [x.deviations[(x.pred_boxes.tensor > 15).all(dim=1)] for x in unrefined]
    assert torch.cat([x.deviations for x in unrefined]).mean() > 0.02 and all((x < 0.15).all() for x in inside)


def test_no_gradient_reaches_the_teacher(tmp_path, tiny_dataset, monkeypatch):
    monkeypatch.setattr(soft_teacher, "CANDIDATE_SCORE", 0.3)
    monkeypatch.setattr(soft_teacher, "MAX_DEVIATION", 1.0)
    trainer = trainer_for(METHOD, tmp_path, *FIVE)
    with EventStorage(trainer.iter):
        losses = trainer.losses(batch_of(trainer))
    assert len(losses) == 8 and losses["loss_box_reg_pseudo"] > 0 and losses["loss_rpn_loc_pseudo"] > 0
    sum(losses.values()).backward()
    assert all(x.grad is None for x in trainer.teacher.parameters())
    assert all(x.grad is not None for x in trainer.trained_network.parameters() if x.requires_grad)


def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path, tiny_dataset, monkeypatch):
    monkeypatch.setattr(soft_teacher, "CANDIDATE_SCORE", 0.3)
    check_resume(METHOD, tmp_path, monkeypatch, *FIVE)
