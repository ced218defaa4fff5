"""C-Net on boxes that it is given: which boxes, which images, and what the evaluation calls them."""

import os

import pytest
import torch

from detectron2.modeling import build_model
from detectron2.structures import ImageList
from tsdd_d2.data import ensure_registered
from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.engine.final_evaluation import evaluate, evaluate_model
from tsdd_d2.engine.trainer import trainer_of
from tsdd_d2.modeling.network import TSDDNetwork

from .tiny import images_trained_on, tiny_overrides


def configuration(method, tmp_path):
    return load_config(opts=[*tiny_overrides(), "OUTPUT_DIR", str(tmp_path)], method=method, profile="scratch")


@pytest.mark.parametrize("method, num_images", [("cnet_oracle", 8), ("cnet_whole_image", 16)])
def test_which_images_it_trains_on(method, num_images, tmp_path, tiny_dataset):
    cfg = configuration(method, tmp_path)
    ensure_registered("tiny_fold1_train")
    trainer = trainer_of(cfg)(cfg)
    trainer.resume_or_load(resume=False)
    seen = images_trained_on(trainer)
    assert len(seen) == num_images


def test_the_whole_image_is_the_image_without_its_padding(tmp_path):
    model = build_model(configuration("cnet_whole_image", tmp_path))
    images = ImageList.from_tensors([torch.zeros(3, 20, 30), torch.zeros(3, 40, 10)])
    inputs = [{"category_id": 1}, {"category_id": 0}]
    targets = model.training_boxes(inputs, images)
    assert [x.gt_boxes.tensor.tolist() for x in targets] == [[[0, 0, 30, 20]], [[0, 0, 10, 40]]]
    assert [x.gt_classes.tolist() for x in targets] == [[1], [0]]


def test_its_loss_is_the_cross_entropy_of_eq_4_on_every_image(tmp_path):
    cfg = configuration("cnet_whole_image", tmp_path)
    model = build_model(cfg).train()
    model.cnet.roi_jitter = 0.0
    inputs = [{"image": torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8), "category_id": i % 2} for i in range(3)]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    loss = model(inputs)["loss_cnet"]
    model.load_state_dict(state)
    pixels = torch.stack([(x["image"] - model.pixel_mean) / model.pixel_std for x in inputs])
    logits = model.cnet.class_logits(pixels, [torch.tensor([[0.0, 0, 40, 40]])] * 3)
    smoothed = torch.full((3, 2), cfg.MODEL.CNET.LABEL_SMOOTHING / 2)
    smoothed[range(3), [0, 1, 0]] += 1 - cfg.MODEL.CNET.LABEL_SMOOTHING
    expected = -(smoothed * logits.log_softmax(1)).sum(1).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("method, boxes", [("cnet_oracle", "manual ROI"), ("cnet_whole_image", "whole image")])
def test_what_it_was_given_is_no_localisation(method, boxes, tmp_path, tiny_dataset):
    cfg = configuration(method, tmp_path)
    ensure_registered("tiny_fold1_test")
    results = evaluate_model(cfg, build_model(cfg), str(tmp_path))["tiny_fold1_test"]
    assert list(results) == [boxes] and set(results[boxes]) == {"cases", "diagnosis", "diagnosis_patient"}
    folder = tmp_path / boxes.lower().replace(" ", "_")
    assert os.listdir(folder) == ["diagnosis_tiny_fold1_test.json"]


def without_first_roi(path):
    """The ids of the images of a file that still have a ROI."""
    content = read_json(path)
    del content["annotations"][0]
    write_json(path, content)
    return {x["image_id"] for x in content["annotations"]}


def test_the_oracle_leaves_out_what_has_no_roi(tmp_path, tiny_dataset):
    with_roi = without_first_roi(tiny_dataset / "annotations" / "fold1_test.json")
    cfg = configuration("cnet_oracle", tmp_path)
    ensure_registered("tiny_fold1_test")
    evaluate_model(cfg, build_model(cfg), str(tmp_path))
    diagnosed = read_json(tmp_path / "manual_roi" / "diagnosis_tiny_fold1_test.json")["predictions"]
    assert {x["image_id"] for x in diagnosed} == with_roi


def test_the_oracle_is_validated_as_it_is_evaluated(tmp_path, tiny_dataset):
    """What has no ROI has no diagnosis, which would move the AUC that chooses model_best."""
    with_roi = without_first_roi(tiny_dataset / "annotations" / "fold1_val.json")
    cfg = configuration("cnet_oracle", tmp_path)
    for name in ("tiny_fold1_train", "tiny_fold1_val"):
        ensure_registered(name)
    trainer = trainer_of(cfg)(cfg)
    validation = trainer.validate()
    assert read_json(tmp_path / "inference" / "diagnosis_tiny_fold1_val.json")["num_images"] == len(with_roi) == 3
    evaluation = evaluate(cfg, trainer.network, "tiny_fold1_val")
    assert validation["diagnosis"]["AUC"] == evaluation["diagnosis"]["AUC"]


def test_the_oracle_is_the_first_stages_own(tmp_path):
    """The same C-Net gives the same diagnosis of a ROI here and inside TSDDNet."""
    oracle = build_model(configuration("cnet_oracle", tmp_path)).eval()
    stage1 = build_model(configuration("tsddnet_stage1", tmp_path)).eval()
    assert isinstance(stage1, TSDDNetwork)
    stage1.cnet.load_state_dict(oracle.cnet.state_dict())
    image = torch.randint(0, 256, (3, 64, 72), dtype=torch.uint8)
    inputs = [{"image": image, "height": 128, "width": 144, "rois": torch.tensor([[10.0, 20, 60, 90]])}]
    a, b = oracle(inputs)[0]["instances"], stage1.diagnose_rois(inputs)[0]["instances"]
    assert a.malignancy.tolist() == pytest.approx(b.malignancy.tolist(), abs=1e-5)
    torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor)
