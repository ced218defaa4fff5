"""STAC: which boxes are kept, that they are kept for good, what reaches a loss, and a resumed run."""

import os
import shutil

import pytest
import torch

from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.engine.checkpoint import TSDDCheckpointer
from tsdd_d2.engine.checks import check_config, check_data, check_network
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.engine.run_folder import PSEUDO_BOXES, RunRecord, check_first_run, run_files
from tsdd_d2.engine.trainer import trainer_of
from tsdd_d2.errors import InputError
from tsdd_d2.method import PROFILES
from tsdd_d2.methods.pseudo_boxes import LABELLED, UNLABELLED, of
from tsdd_d2.methods.stac import LOWEST_SCORE, fixed_boxes

from .teachers import SMALL, batch_of, restart_from, train
from .test_pseudo_boxes import detections
from .tiny import tiny_overrides

BOXES = [[0.0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 90, 80]]


def configuration(method, folder, *overrides):
    options = [*tiny_overrides(), *SMALL, "OUTPUT_DIR", str(folder), *overrides]
    return load_config(opts=options, method=method, profile="scratch")


@pytest.fixture
def teacher(tmp_path, tiny_dataset):
    return finished_teacher(tmp_path / "teacher")


def finished_teacher(folder) -> str:
    """The OUTPUT_DIR of a finished run of the teacher, which did not train: its weights are random."""
    cfg = configuration("faster_rcnn", folder)
    check_data(cfg)
    torch.manual_seed(0)
    TSDDCheckpointer(build_model(cfg), str(folder)).save("model_final")
    RunRecord.of(cfg)._replace(status="finished").write(str(folder))
    (folder / "config.yaml").write_text(cfg.dump())
    return str(folder)


def student(teacher, tmp_path, method="stac", *overrides):
    cfg = configuration(method, tmp_path / method, "MODEL.WEIGHTS", teacher, *overrides)
    check_config(cfg)
    check_data(cfg)
    check_network(cfg)
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    trainer = trainer_of(cfg)(cfg)
    trainer.resume_or_load(resume=False)
    trainer.before_train()
    return trainer


def resumed(trainer):
    """Another trainer, of a process that goes on where this one stopped."""
    TSDDCheckpointer(trainer.network, trainer.cfg.OUTPUT_DIR).save("model_0000000")
    again = trainer_of(trainer.cfg)(trainer.cfg)
    again.resume_or_load(resume=True)
    return again


@pytest.mark.parametrize("profile", PROFILES)
def test_the_papers_values(profile):
    cfg, teacher = (load_config(method=x, profile=profile) for x in ("stac", "faster_rcnn"))
    assert (cfg.TEACHER.THRESHOLD, cfg.TEACHER.UNLABELLED_WEIGHT, LOWEST_SCORE) == (0.9, 2.0, 0.05)
    assert cfg.SOLVER == teacher.SOLVER and cfg.INPUT == teacher.INPUT and cfg.MODEL.WEIGHTS == ""


def test_an_image_with_detections_keeps_its_best_one():
    assert fixed_boxes(detections(BOXES, [0.95, 0.9, 0.89], [0, 1, 0]), 0.9).scores.tolist() == pytest.approx([0.95, 0.9])
    found = detections(BOXES, [0.3, 0.06, 0.04], [0, 1, 0])
    assert fixed_boxes(found, 0.9).scores.tolist() == pytest.approx([0.3])
    assert fixed_boxes(found, 0.9, category=1).scores.tolist() == pytest.approx([0.06])
    assert len(fixed_boxes(detections(BOXES[:1], [0.04], [0]), 0.9)) == 0


def test_the_teacher_labels_each_image_once(teacher, tmp_path):
    trainer = student(teacher, tmp_path)
    found = read_json(f"{trainer.cfg.OUTPUT_DIR}/{PSEUDO_BOXES}")
    unlabelled = {x["image_id"] for x in trainer.unlabelled()}
    assert len(unlabelled) == 8 and {x["image_id"] for x in found} == unlabelled
    for x in found:
        left, top, width, height = x["bbox"]
        assert 0 <= left and 0 <= top and left + width <= 72.001 and top + height <= 64.001
        assert x["category_id"] in (1, 2) and x["score"] >= LOWEST_SCORE
    assert f"{trainer.cfg.OUTPUT_DIR}/{PSEUDO_BOXES}" in run_files(trainer.cfg.OUTPUT_DIR)
    # nobody labels again, nor needs the teacher
    shutil.rmtree(teacher)
    write_json(f"{trainer.cfg.OUTPUT_DIR}/{PSEUDO_BOXES}", found[:1])
    again = resumed(trainer)
    assert [len(x) for x in again.boxes.values()] == [1]


def test_the_student_is_fresh(teacher, tmp_path):
    """It begins with what the teacher began with, here with nothing."""
    torch.manual_seed(3)
    fresh = student(teacher, tmp_path).trained_network.state_dict()
    stored = torch.load(f"{teacher}/model_final.pth", weights_only=True)["model"]
    key = "roi_heads.box_head.fc1.weight"
    assert fresh[key].shape == stored[key].shape and not torch.equal(fresh[key], stored[key])


def test_pseudo_boxes_train_all_losses_with_their_weight(teacher, tmp_path):
    trainer = student(teacher, tmp_path)
    batch = batch_of(trainer)
    labelled, unlabelled = of(batch, LABELLED), of(batch, UNLABELLED)
    assert len(labelled) == len(unlabelled) == 2 and all("category_id" not in x for x in unlabelled)
    for x in unlabelled:
        assert len(x["instances"]) <= len(trainer.boxes[x["image_id"]])
    unlabelled[0]["instances"] = unlabelled[0]["instances"][:0]
    seen, names = [], ("loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg")
    trainer.trained_network.forward = lambda x: seen.append(x) or {k: torch.tensor(3.0) for k in names}
    losses = trainer.losses(batch)
    assert losses == {**dict.fromkeys(names, 3.0), **{f"{x}_pseudo": 6.0 for x in names}}
    assert [len(x) for x in seen] == [2, 1]  # not the image whose boxes are out of view
    unlabelled[1]["instances"] = unlabelled[1]["instances"][:0]
    losses = trainer.losses(batch)  # with the same names, for other processes
    assert losses == {**dict.fromkeys(names, 3.0), **{f"{x}_pseudo": 0.0 for x in names}}


def test_truth_reaches_neither_labels_nor_losses(teacher, tmp_path):
    trainer = student(teacher, tmp_path)
    found = read_json(f"{trainer.cfg.OUTPUT_DIR}/{PSEUDO_BOXES}")
    ids = {x["image_id"] for x in trainer.unlabelled()}
    bbui = trainer.bank.read(0)
    for image in bbui["images"]:
        if image["id"] in ids:
            image["category_id"] = 3 - image["category_id"]
    trainer.bank.write(0, bbui)
    os.remove(f"{trainer.cfg.OUTPUT_DIR}/{PSEUDO_BOXES}")
    again = resumed(trainer)
    assert read_json(f"{trainer.cfg.OUTPUT_DIR}/{PSEUDO_BOXES}") == found
    assert not any({"annotations", "category_id", "true_bbox"} & x.keys() for x in again.unlabelled())


def test_with_weak_labels_the_boxes_have_the_class_of_the_image(teacher, tmp_path):
    trainer = student(teacher, tmp_path, "stac_weak")
    classes = {x["image_id"]: x["category_id"] for x in trainer.unlabelled()}
    assert set(classes.values()) == {0, 1} and trainer.boxes.keys() == classes.keys()
    assert all((trainer.boxes[i].pred_classes == c).all() for i, c in classes.items())


def test_its_log_counts_what_is_drawn(teacher, tmp_path):
    trainer = student(teacher, tmp_path)
    with EventStorage(0):
        trainer.losses(batch_of(trainer))
    summary = trainer.pseudo_boxes.summary()
    assert summary["images"] == 1 and summary["benign"] + summary["malignant"] >= 1 and "box_precision" in summary


def test_a_resumed_run_ends_as_an_uninterrupted_one(teacher, tmp_path):
    options = ("MODEL.WEIGHTS", teacher, "SOLVER.MAX_ITER", "3", "DATASETS.VAL", "()")
    whole, later = (configuration("stac", tmp_path / name, *options) for name in ("whole", "later"))
    expected = train(whole)
    restart_from(tmp_path / "whole", tmp_path / "later", "model_0000001.pth")
    a, b = (x.network.state_dict() for x in (expected, train(later, resume=True)))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_where_all_images_have_a_roi_it_trains_on_these(tmp_path, teacher):
    record = RunRecord.read(teacher)._replace(p=1.0)
    record.write(teacher)
    trainer = student(teacher, tmp_path, "stac", "DATASETS.P", "1.0")
    batch = batch_of(trainer)
    assert len(of(batch, LABELLED)) == len(batch) == 4 and trainer.boxes == {}


def test_it_goes_on_from_the_teachers_run_on_the_same_data_alone(teacher, tmp_path):
    cfg = configuration("stac", tmp_path / "stac", "MODEL.WEIGHTS", teacher)
    check_first_run(cfg)
    os.remove(f"{teacher}/model_final.pth")
    with pytest.raises(InputError, match="model_final.pth"):
        check_network(cfg)
    with pytest.raises(InputError, match="DATASETS.P"):
        check_first_run(configuration("stac", tmp_path / "stac", "MODEL.WEIGHTS", teacher, "DATASETS.P", "0.25"))
    with pytest.raises(InputError, match="faster_rcnn"):
        check_first_run(configuration("stac", tmp_path / "stac"))
