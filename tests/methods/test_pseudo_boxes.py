"""What the semi-supervised methods share: what is chosen, what is counted, and that the truth stays out of every loss."""

import logging
import types

import pytest
import torch

from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from tsdd_d2.engine.checks import check_network
from tsdd_d2.errors import InputError
from tsdd_d2.method import METHODS
from tsdd_d2.methods import soft_teacher
from tsdd_d2.methods.pseudo_boxes import (
    ORIGINAL,
    UNLABELLED,
    PseudoBoxLog,
    Truth,
    carried,
    confident,
    of,
    split,
    statistics_kept,
)

from ..refinement.test_hook import bytes_of_live_tensors
from .teachers import batch_of, configuration, losses_of, trainer_for

TEACHERS = ("unbiased_teacher", "soft_teacher")
# 2 images of either kind, or 1 labelled one for 4 others
BATCH = ("SOLVER.IMS_PER_BATCH", "10")
WEAK = tuple(f"{x}_weak" for x in TEACHERS)


@pytest.fixture(autouse=True)
def random_weights_find_candidates(monkeypatch):
    monkeypatch.setattr(soft_teacher, "CANDIDATE_SCORE", 0.2)


def detections(boxes, scores, classes, size=(100, 100)):
    found = Instances(size)
    found.pred_boxes, found.scores = Boxes(torch.tensor(boxes).reshape(-1, 4)), torch.tensor(scores)
    found.pred_classes = torch.tensor(classes, dtype=torch.long)
    return found


def view(transform=ORIGINAL, size=(100, 100), image_id=7):
    return {"image_id": image_id, "transform": transform, "image": torch.zeros(1, *size, dtype=torch.uint8)}


THREE = detections([[0.0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 90, 80]], [0.7, 0.71, 0.95], [0, 1, 0])


def test_boxes_above_the_threshold_and_of_the_known_class():
    assert confident(THREE, 0.7).scores.tolist() == pytest.approx([0.71, 0.95])
    assert confident(THREE, 0.7, category=0).scores.tolist() == pytest.approx([0.95])
    assert len(confident(THREE, 0.96)) == 0


def test_boxes_become_what_the_other_view_is_trained_on():
    # the other view: mirrored, half the size, and 60 pixels of the original to the left are gone
    transform = torch.tensor([[-0.5, 0.0, 20.0], [0.0, 0.5, 0.0], [0.0, 0.0, 1.0]])
    targets = carried(THREE, view(), view(transform, (50, 50)))
    assert targets.gt_boxes.tensor.tolist() == [[15.0, 0.0, 20.0, 5.0], [0.0, 10.0, 10.0, 20.0]]
    assert targets.gt_classes.tolist() == [0, 1] and targets.image_size == (50, 50)


def test_labelled_and_unlabelled():
    manual, pseudo = {"roi_source": "manual"}, {"roi_source": "pseudo"}
    images = [
        {"annotations": [manual]},
        {"category_id": 1},
        {"annotations": []},
        {"annotations": [pseudo], "category_id": 0},
    ]
    labelled, unlabelled = split(images)
    assert labelled == images[:1] and unlabelled == [{"category_id": 1}, {}, {"category_id": 0}]


def log_of(**truth):
    log = PseudoBoxLog(types.SimpleNamespace(TEACHER=types.SimpleNamespace(THRESHOLD=0.7)))
    log.truth = {int(k[1:]): v for k, v in truth.items()}
    return log


def test_the_log_by_hand():
    log = log_of(
        i1=Truth(torch.tensor([[0.0, 0, 20, 10]]), 0), i2=Truth(torch.zeros(0, 4), 1), i3=Truth(torch.zeros(0, 4), 0)
    )
    # in a view of twice the size: the box (0, 0, 10, 10) overlaps the true one by 1/2, (20, 20, 40, 40) does not
    twice = torch.diag(torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64))
    log.add(
        view(twice, image_id=1),
        detections([[0.0, 0, 20, 20], [40, 40, 80, 80]], [0.9, 0.8], [0, 1]),
        torch.tensor([0.9, 0.8]),
    )
    log.add(view(image_id=2), detections([[0.0, 0, 10, 10]], [0.9], [1]), torch.tensor([0.9, 0.3]))
    log.add(view(image_id=3), detections([], [], []), torch.tensor([0.6, 0.3]))
    assert log.summary() == pytest.approx(
        {
            "benign": 1 / 3, "malignant": 2 / 3, "images": 2 / 3, "best_score": 0.8,
            "class_precision": 2 / 3, "box_precision": 1 / 2, "precision": 1 / 2,
        }
    )  # fmt: skip


def test_boxes_of_the_box_loss_are_logged_by_themselves():
    log = log_of(i1=Truth(torch.tensor([[0.0, 0, 20, 10]]), 0), i2=Truth(torch.zeros(0, 4), 1))
    candidates = detections([[0.0, 0, 20, 12], [40, 40, 80, 80], [0, 0, 5, 5]], [0.9, 0.8, 0.7], [0, 1, 0])
    log.add(view(image_id=1), candidates[:0], candidates.scores)
    log.add_steady(view(image_id=1), candidates, torch.tensor([True, True, False]))
    log.add_steady(view(image_id=2), candidates[:1], torch.tensor([False]))
    summary = log.summary()
    assert summary["steady"] == pytest.approx(1 / 2) and summary["steady_precision"] == pytest.approx(1 / 2)


def test_unlabelled_images_leave_no_trace_in_the_statistics():
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.BatchNorm2d(1, momentum=0.3))
    images = torch.randn(4, 1, 5, 5) + 7
    with statistics_kept(network):
        found = network(images)
    assert found.mean().item() == pytest.approx(0, abs=1e-5)  # normalised by the batch
    assert all(x.running_mean.item() == 0 and x.running_var.item() == 1 for x in network)
    assert [x.momentum for x in network] == [0.1, 0.3]


def steps_without_boxes(log, steps, storage):
    log.trainer = types.SimpleNamespace(storage=storage, max_iter=10**6)
    for iteration in range(steps):
        log.trainer.iter = storage.iter = iteration
        log.add(view(), detections([], [], []), torch.tensor([0.42]))
        log.after_step()


def test_each_period_is_written_and_a_warning_names_the_cause(caplog):
    log = log_of(i7=Truth(torch.zeros(0, 4), 0))
    with EventStorage(0) as storage, caplog.at_level(logging.WARNING):
        steps_without_boxes(log, 199, storage)
        assert not caplog.records
        steps_without_boxes(log, 20, storage)
    assert len(storage.history("pseudo_boxes/images").values()) == 10
    assert storage.latest()["pseudo_boxes/best_score"][0] == pytest.approx(0.42)
    (record,) = caplog.records
    assert "0.42" in record.getMessage() and "TEACHER.THRESHOLD" in record.getMessage() and "BURN_IN" in record.getMessage()


@pytest.mark.parametrize("method", TEACHERS)
def test_the_truth_of_unlabelled_images_reaches_no_loss(method, tmp_path, tiny_dataset):
    trainer = trainer_for(method, tmp_path, *BATCH)
    assert {METHODS[method].sees.pa_classes, METHODS[method].sees.pa_images} == {False, True}
    before = losses_of(trainer, batch_of(trainer))
    summary = trainer.pseudo_boxes.summary()
    # every class of the unlabelled images the other one, every withheld box elsewhere
    bbui, labelled = trainer.bank.read(0), {a["image_id"] for a in trainer.bank.read(0)["annotations"]}
    for image in bbui["images"]:
        if image["id"] not in labelled:
            image["category_id"] = 3 - image["category_id"]
    trainer.bank.write(0, bbui)
    trainer.load_images()
    wrong = {
        k: Truth(x.boxes * 0 + torch.tensor([60.0, 0, 70, 9]), 1 - x.category) for k, x in trainer.pseudo_boxes.truth.items()
    }
    trainer.pseudo_boxes.truth = wrong
    trainer.pseudo_boxes._reset()
    assert losses_of(trainer, batch_of(trainer)) == before
    changed = trainer.pseudo_boxes.summary()
    assert changed["class_precision"] == pytest.approx(1 - summary["class_precision"])


@pytest.mark.parametrize("method", WEAK)
def test_with_weak_labels_pseudo_boxes_have_the_class_of_the_image(method, tmp_path, tiny_dataset):
    trainer = trainer_for(method, tmp_path, *BATCH)
    batch = batch_of(trainer)
    assert all("category_id" in x and "annotations" not in x for x in of(batch, UNLABELLED))
    losses_of(trainer, batch)
    summary = trainer.pseudo_boxes.summary()
    assert summary["benign"] + summary["malignant"] > 0 and summary["class_precision"] == 1


@pytest.mark.parametrize("method", TEACHERS)
def test_what_leaves_nothing_to_the_teacher_is_refused(method, tmp_path, tiny_dataset):
    with pytest.raises(InputError, match="TEACHER.BURN_IN"):
        check_network(configuration(method, tmp_path, *BATCH, "TEACHER.BURN_IN", "4"))
    assert not list(tmp_path.glob("*.pth"))


@pytest.mark.parametrize("method", TEACHERS)
def test_memory_does_not_grow_with_the_steps(method, tmp_path, tiny_dataset):
    trainer = trainer_for(method, tmp_path, *BATCH, "SOLVER.MAX_ITER", "50")
    kept = []
    with EventStorage(trainer.iter) as trainer.storage:
        for _ in range(5):
            trainer.run_step()
            trainer.averaging.after_step()
            trainer.iter += 1
            kept.append(bytes_of_live_tensors())
    # the first steps make the optimiser's state and cache anchors
    assert max(kept[2:]) <= kept[1]
