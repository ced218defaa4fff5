"""Unbiased Teacher: its parts by hand, what reaches a loss, and a resumed run."""

import math

import pytest
import torch
from torch.nn import functional as F

from detectron2.data import DatasetCatalog
from detectron2.utils.events import EventStorage
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.method import PROFILES
from tsdd_d2.methods.pseudo_boxes import LABELLED, STRONG, UNLABELLED, WEAK, of
from tsdd_d2.methods.unbiased_teacher import FOCAL_GAMMA, FocalOutputLayers, focal_loss

from .teachers import batch_of, check_resume, trainer_for

METHOD = "unbiased_teacher"


def test_the_focal_loss_by_hand():
    # probabilities of the class: 1/2 and 3/4
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
    classes = torch.tensor([0, 1])
    expected = (0.5**1.5 * math.log(2) + 0.25**1.5 * math.log(4 / 3)) / 2
    assert focal_loss(logits, classes, 1.5).item() == pytest.approx(expected)
    assert focal_loss(logits, classes, 0.0).item() == pytest.approx(F.cross_entropy(logits, classes).item())
    assert focal_loss(logits[:0], classes[:0], 1.5) == 0


@pytest.mark.parametrize("profile", PROFILES)
def test_the_papers_values(profile):
    cfg = load_config(method=METHOD, profile=profile)
    assert (cfg.TEACHER.THRESHOLD, cfg.TEACHER.UNLABELLED_WEIGHT, cfg.SOLVER.EMA_DECAY) == (0.7, 4.0, 0.9996)
    assert FOCAL_GAMMA == 1.5


def test_a_batch_has_both_views_of_labelled_and_of_unlabelled_images(tmp_path, tiny_dataset):
    trainer = trainer_for(METHOD, tmp_path)
    assert isinstance(trainer.trained_network.roi_heads.box_predictor, FocalOutputLayers)
    batch = batch_of(trainer)
    for stream in (LABELLED, UNLABELLED):
        weak, strong = of(batch, stream, WEAK), of(batch, stream, STRONG)
        assert len(weak) == len(strong) == 2
        for w, s in zip(weak, strong):
            assert w["image_id"] == s["image_id"] and w["image"].shape == s["image"].shape
            assert torch.equal(w["transform"], s["transform"]) and not torch.equal(w["image"], s["image"])
    assert all(torch.equal(w["instances"].gt_boxes.tensor, s["instances"].gt_boxes.tensor)
               for w, s in zip(of(batch, LABELLED, WEAK), of(batch, LABELLED, STRONG)))  # fmt: skip


def test_in_the_burn_in_labelled_images_train_alone(tmp_path, tiny_dataset):
    trainer = trainer_for(METHOD, tmp_path, burn_in=True)
    batch = batch_of(trainer)
    assert len(of(batch, LABELLED)) == len(batch) == 8
    with EventStorage(0):
        assert set(trainer.losses(batch)) == {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"}


def test_pseudo_boxes_train_classes_alone_with_their_weight(tmp_path, tiny_dataset):
    trainer = trainer_for(METHOD, tmp_path)
    batch = batch_of(trainer)
    seen = []

    def forward(images):
        seen.append(images)
        return {k: torch.tensor(3.0) for k in ("loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg")}

    trainer.trained_network.forward = forward
    losses = trainer.losses(batch)
    assert {k: v.item() for k, v in losses.items() if k.endswith("pseudo")} == {
        "loss_rpn_cls_pseudo": 12.0,
        "loss_cls_pseudo": 12.0,
    }
    assert all(losses[k] == 3 for k in ("loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"))
    assert [len(x) for x in seen] == [4, 2]
    # what the teacher found in the weak view, which has the geometry of the strong one
    found = trainer.teacher_boxes(of(batch, UNLABELLED, WEAK), trainer.cfg.TEACHER.THRESHOLD)
    assert sum(map(len, found)) > 0
    for x, y in zip(seen[1], found):
        y = y[y.pred_boxes.nonempty(1.0)]
        assert x["view"] == STRONG and len(x["instances"]) == len(y)
        assert torch.allclose(x["instances"].gt_boxes.tensor, y.pred_boxes.tensor, atol=1e-4)
        assert torch.equal(x["instances"].gt_classes, y.pred_classes)


def test_no_gradient_reaches_the_teacher(tmp_path, tiny_dataset):
    trainer = trainer_for(METHOD, tmp_path)
    with EventStorage(trainer.iter):
        sum(trainer.losses(batch_of(trainer)).values()).backward()
    assert all(x.grad is None for x in trainer.teacher.parameters())
    assert any(x.grad is not None for x in trainer.trained_network.parameters())
    assert trainer.network is trainer.teacher  # it is evaluated


def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path, tiny_dataset, monkeypatch):
    check_resume(METHOD, tmp_path, monkeypatch)


def test_where_all_images_have_a_roi_it_trains_on_these(tmp_path, tiny_dataset):
    trainer = trainer_for(METHOD, tmp_path, "DATASETS.P", "1.0")
    batch = batch_of(trainer)
    assert len(of(batch, LABELLED)) == len(batch) == 8
    with EventStorage(trainer.iter):
        assert not any("pseudo" in x for x in trainer.losses(batch))


def test_the_truth_is_in_the_data_set_and_not_in_the_batch(tmp_path, tiny_dataset):
    trainer = trainer_for(METHOD, tmp_path)
    batch = batch_of(trainer)
    assert all(x.keys().isdisjoint({"annotations", "instances", "category_id"}) for x in of(batch, UNLABELLED))
    ids = {x["image_id"] for x in of(batch, UNLABELLED)}
    assert all(x["annotations"] for x in DatasetCatalog.get("tiny_fold1_train") if x["image_id"] in ids)
