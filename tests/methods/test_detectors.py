"""Detectron2's detectors as methods: their contract, and that a resumed run of a method is the uninterrupted one."""

import os
import shutil

import pytest
import torch

from detectron2.modeling import build_model
from tsdd_d2.engine.checks import check_data
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.engine.trainer import trainer_of
from tsdd_d2.evaluation.detections import malignancy_of_detections

from .tiny import images_trained_on, tiny_overrides

METHODS = ["retinanet", "faster_rcnn"]


def configuration(method, output_dir, *overrides):
    return load_config(opts=[*tiny_overrides(), "OUTPUT_DIR", str(output_dir), *overrides], method=method, profile="scratch")


def train(cfg, resume=False):
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    check_data(cfg)
    trainer = trainer_of(cfg)(cfg)
    trainer.resume_or_load(resume)
    trainer.train()
    return trainer


@pytest.mark.parametrize("method", METHODS)
def test_every_image_gets_a_diagnosis_from_both_classes(method, tmp_path):
    cfg = configuration(method, tmp_path)
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    image = torch.randint(0, 256, (3, 64, 72), dtype=torch.uint8)
    with torch.no_grad():
        (output,) = model([{"image": image, "height": 128, "width": 144}])
    instances = output["instances"]
    assert instances.image_size == (128, 144) and set(instances.pred_classes.tolist()) == {0, 1}
    scores = instances.scores
    assert (scores[:-1] >= scores[1:]).all()
    expected = malignancy_of_detections(scores, instances.pred_classes)
    assert 0 < expected < 1 and instances.malignancy.tolist() == pytest.approx([expected] * len(scores))


@pytest.mark.parametrize("method", [*METHODS, "yolov4", "spa"])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(method, tmp_path, tiny_dataset):
    three_steps = ("SOLVER.MAX_ITER", "3", "DATASETS.VAL", "()")
    whole, resumed = (configuration(method, tmp_path / name, *three_steps) for name in ("whole", "resumed"))
    train(whole)
    # as if it had been killed after the checkpoint in the middle
    shutil.copytree(whole.OUTPUT_DIR, resumed.OUTPUT_DIR)
    os.remove(f"{resumed.OUTPUT_DIR}/model_final.pth")
    (tmp_path / "resumed" / "last_checkpoint").write_text("model_0000001.pth")
    train(resumed, resume=True)
    a, b = (torch.load(f"{x.OUTPUT_DIR}/model_final.pth", weights_only=True) for x in (whole, resumed))
    assert a["iteration"] == b["iteration"] == 2
    assert all(torch.equal(a["model"][key], b["model"][key]) for key in a["model"])


def test_training_sees_the_fully_annotated_images_alone(tmp_path, tiny_dataset):
    cfg = configuration("retinanet", tmp_path)
    check_data(cfg)
    trainer = trainer_of(cfg)(cfg)
    trainer.resume_or_load(resume=False)
    seen = images_trained_on(trainer)
    # p = 0.5 of 8 patients keep the ROIs of their 2 images
    assert len(seen) == 8 and all(x["annotations"] for x in seen)


def test_rcnn_crops_with_boxes_of_full_precision(tmp_path):
    """The features that ROIAlign reads decide the type of its boxes."""
    model = build_model(configuration("faster_rcnn", tmp_path))
    with torch.autocast("cpu", torch.bfloat16):
        features = model.backbone(torch.rand(1, 3, 64, 64))
    assert all(x.dtype == torch.float32 for x in features.values())
