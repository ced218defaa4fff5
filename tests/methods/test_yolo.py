"""The parts that both YOLOs share, and both as methods."""

import math
import os
import shutil

import pytest
import torch

from detectron2.data import DatasetCatalog
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.backbone import Backbone
from tsdd_d2.engine.checks import check_data
from tsdd_d2.engine.run_folder import initial_annotation
from tsdd_d2.engine.trainer import trainer_of
from tsdd_d2.methods.yolo import box_sizes, complete_iou, kmeans_anchors, levels_of, scaled_channels, shape_iou

from .test_detectors import configuration, train
from .tiny import images_trained_on


def test_complete_iou():
    boxes = torch.tensor([[0.0, 0, 2, 2], [0.0, 0, 4, 2], [1.0, 1, 5, 9]])
    other = torch.tensor([[1.0, 1, 3, 3], [0.0, 0, 2, 4], [1.0, 1, 5, 9]])
    # the second: IoU 4/12, centres (2, 1) and (1, 2) in a square of 4, sides 4:2 against 2:4
    aspect = 4 / math.pi**2 * (math.atan(2) - math.atan(0.5)) ** 2
    expected = [1 / 7 - 2 / 18, 1 / 3 - 2 / 32 - aspect**2 / (1 - 1 / 3 + aspect), 1]
    assert complete_iou(boxes, other).tolist() == pytest.approx(expected, abs=1e-5)


def test_shape_iou():
    ious = shape_iou(torch.tensor([[4.0, 2.0]]), torch.tensor([[2.0, 4.0], [4.0, 2.0]]))
    assert ious.tolist() == [pytest.approx([4 / 12, 1])]


def test_kmeans_finds_the_groups_of_a_toy_set():
    sizes = [[10, 12], [42, 20], [12, 10], [38, 20], [100, 110], [20, 44], [20, 36]]
    sizes = torch.tensor(sizes, dtype=torch.float32)
    expected = [[11.0, 11.0], [40.0, 20.0], [20.0, 40.0], [100.0, 110.0]]
    found = kmeans_anchors(sizes, 4)
    assert sorted(found.tolist()) == sorted(expected)
    assert (found.prod(dim=1).diff() >= 0).all()
    # the order of the boxes is of no account
    assert torch.equal(kmeans_anchors(sizes.flip(0), 4)[-1], found[-1])


def test_kmeans_of_fewer_boxes_than_anchors():
    found = kmeans_anchors(torch.tensor([[10.0, 10.0], [30.0, 30.0]]), 9)
    assert found.shape == (9, 2) and set(map(tuple, found.tolist())) == {(10, 10), (30, 30)}


def test_channels_are_a_multiple_of_8():
    assert [scaled_channels(x, 0.3) for x in (32, 64, 1024)] == [16, 24, 312]


def test_a_backbone_without_three_levels_is_refused():
    class Two(Backbone):
        def forward(self, x):
            return {}

        def output_shape(self):
            return {"res3": ShapeSpec(channels=8, stride=8), "res4": ShapeSpec(channels=8, stride=16)}

    with pytest.raises(ValueError, match="32"):
        levels_of(Two())


def test_sizes_of_manual_boxes_in_the_image_tensor():
    images = [{"id": 1, "width": 600, "height": 400}, {"id": 2, "width": 200, "height": 100}]
    boxes = [(1, [9, 9, 60, 40], "manual"), (2, [0, 0, 20, 30], "refined"), (2, [0, 0, 10, 10], "pseudo")]
    annotations = [{"image_id": i, "bbox": bbox, "roi_source": source} for i, bbox, source in boxes]
    # 300 x 200, and 320 x 160 since the longer side has a limit
    found = box_sizes({"images": images, "annotations": annotations}, 200, 320)
    assert found.tolist() == [pytest.approx([30, 20]), pytest.approx([32, 48])]


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path, tiny_dataset):
    three_steps = ("SOLVER.MAX_ITER", "3", "DATASETS.VAL", "()")
    whole, resumed = (configuration("yolov7", tmp_path / name, *three_steps) for name in ("whole", "resumed"))
    trainer = train(whole)
    shutil.copytree(whole.OUTPUT_DIR, resumed.OUTPUT_DIR)
    os.remove(f"{resumed.OUTPUT_DIR}/model_final.pth")
    (tmp_path / "resumed" / "last_checkpoint").write_text("model_0000001.pth")
    train(resumed, resume=True)
    a, b = (torch.load(f"{x.OUTPUT_DIR}/model_final.pth", weights_only=True)["model"] for x in (whole, resumed))
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    # the anchors are those of the boxes that p leaves, and a checkpoint has them
    sizes = box_sizes(initial_annotation(whole), 64, 96)
    assert len(sizes) == 8 and len(DatasetCatalog.get("tiny_fold1_train")) == 16
    assert torch.equal(a["anchors"].view(9, 2), kmeans_anchors(sizes, 9))
    assert torch.equal(trainer.network.anchors, a["anchors"])


def test_half_of_the_images_of_yolov4_are_mosaics_of_four(tmp_path, tiny_dataset):
    cfg = configuration("yolov4", tmp_path, "SOLVER.IMS_PER_BATCH", "16")
    check_data(cfg)
    trainer = trainer_of(cfg)(cfg)
    trainer.resume_or_load(resume=False)
    images = list(images_trained_on(trainer))
    (stream,) = trainer.streams(images)
    boxes = {
        len(stream.mapper({**images[0], "composed_with": images[1:4], "draw_seed": [0, draw]})["instances"]) > 1
        for draw in range(16)
    }
    assert stream.composed_of == 4 and boxes == {True, False}
    # p = 0.5 of 8 patients keep the ROIs of their 2 images
    assert len(images) == 8 and all(x["annotations"] for x in images)


@pytest.mark.parametrize("method", ["yolov4", "yolov7"])
def test_the_exported_chain_is_the_first_of_all_detections(method, tmp_path):
    torch.manual_seed(0)
    model = build_model(configuration(method, tmp_path)).eval()
    image = torch.randint(0, 256, (3, 64, 72), dtype=torch.uint8)
    with torch.no_grad():
        boxes, scores, malignancy = model.diagnose_tensor(image[None])
        instances = model([{"image": image, "height": 64, "width": 72}])[0]["instances"]
    assert torch.allclose(boxes[0], instances.pred_boxes.tensor[0], atol=1e-3)
    assert scores[0].item() == pytest.approx(instances.scores[0].item(), abs=1e-6)
    assert malignancy[0].item() == pytest.approx(instances.malignancy[0].item(), abs=1e-5)
