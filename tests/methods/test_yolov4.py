"""YOLOv4: its size, assignment and loss by hand."""

import math

import pytest
import torch

from detectron2.config import get_cfg
from detectron2.modeling import build_backbone
from tsdd_d2.evaluation.detections import malignancy_of_detections
from tsdd_d2.methods.yolo import Targets
from tsdd_d2.methods.yolov4 import BOX_GAIN, YOLOv4, YOLOv4Head, assign, overlapping


def resnet():
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FREEZE_AT = "build_resnet_backbone", 0
    cfg.MODEL.RESNETS.update(DEPTH=18, NORM="BN", RES2_OUT_CHANNELS=64)
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
    return build_backbone(cfg)


def network(width=1 / 16) -> YOLOv4:
    return YOLOv4(
        backbone=resnet(),
        head=YOLOv4Head((128, 256, 512), 2, width=width),
        num_classes=2,
        pixel_mean=[127.5] * 3,
        pixel_std=[127.5] * 3,
        nms_threshold=0.45,
        max_detections_per_image=100,
        bfloat16=False,
    )


def test_neck_and_head_have_as_many_parameters_as_the_authors():
    """The convolutions of the authors' file after the backbone, on the channels of theirs, for 80 classes."""
    with torch.device("meta"):
        head = YOLOv4Head((256, 512, 1024), 80)
    pyramid = [(1024, 512, 1), (512, 1024, 3), (1024, 512, 1), (2048, 512, 1), (512, 1024, 3), (1024, 512, 1)]
    convs = pyramid + [(512, 256, 1), (512, 256, 1), (256, 128, 1), (256, 128, 1), (128, 256, 3), (256, 512, 3)]
    for c in (256, 128, 256, 512):  # the four paths: 1x1, 3x3, 1x1, 3x3, 1x1
        convs += [(2 * c, c, 1), (c, 2 * c, 3), (2 * c, c, 1), (c, 2 * c, 3), (2 * c, c, 1)]
    for c in (128, 256, 512):
        convs.append((c, 2 * c, 3))
    with_norm = sum(a * b * k * k + 2 * b for a, b, k in convs)
    predictors = sum((2 * c + 1) * 255 for c in (128, 256, 512))
    # YOLOv4 has 64,363,101 parameters, its backbone CSPDarknet53 26,617,184
    assert sum(p.numel() for p in head.parameters()) == with_norm + predictors == 64_363_101 - 26_617_184


def test_the_levels_have_the_strides_of_the_anchors():
    outputs = network().predict(torch.zeros(1, 3, 64, 96))
    assert [tuple(x.shape) for x in outputs] == [(1, 3, 8, 12, 7), (1, 3, 4, 6, 7), (1, 3, 2, 3, 7)]


def test_two_boxes_train_their_best_anchor_and_those_of_like_shape():
    """COCO's anchors.

    40x28: IoU 1 with its own, 0.42 with 19x36, 0.36 with 36x75, 0.27 with 76x55, at most 0.17 with others.
    150x150: 0.69 with 142x110, 0.48 with 192x243, 0.47 with 72x146, at most 0.19 with others.
    """
    boxes = torch.tensor([[100.0, 50.0, 140.0, 78.0], [0.0, 0.0, 150.0, 150.0]])
    targets = Targets(torch.tensor([0, 1]), boxes, torch.tensor([0, 1]))
    levels = assign(targets, network().anchors, [(20, 20), (10, 10), (5, 5)])
    found = [set(zip(*(x.tolist() for x in level))) for level in levels]
    # image, anchor, row, column, box: centres (120, 64) and (75, 75)
    assert found == [
        {(0, 1, 8, 15, 0), (0, 2, 8, 15, 0)},
        {(0, 0, 4, 7, 0), (0, 1, 4, 7, 0), (1, 2, 4, 4, 1)},
        {(1, 0, 2, 2, 1), (1, 1, 2, 2, 1)},
    ]


def test_a_box_unlike_all_anchors_trains_the_best_one():
    targets = Targets(torch.tensor([0]), torch.tensor([[10.0, 10.0, 14.0, 14.0]]), torch.tensor([0]))
    assert [len(x.box) for x in assign(targets, network().anchors, [(4, 4), (2, 2), (1, 1)])] == [1, 0, 0]


def test_predictions_that_overlap_a_box_are_no_negatives():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 7.2], [0.0, 0.0, 10.0, 6.8]]).view(1, 3, 1, 1, 4)
    boxes = boxes.repeat(2, 1, 1, 1, 1)
    targets = Targets(torch.tensor([1]), torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([0]))
    assert overlapping(boxes, targets).flatten().tolist() == [False, False, False, True, True, False]


def test_a_centre_reaches_the_border_of_its_cell():
    logits, cell = torch.tensor([[math.log(11), -math.log(11), math.log(2), 0.0]]), torch.tensor([[3, 2]])
    box = network().decode(logits, cell, torch.tensor([[10.0, 20.0]]), 8)
    # 1.2 * 11/12 - 0.1 = 1 and 1.2 * 1/12 - 0.1 = 0: centre (32, 16); sides 20 and 20
    assert box.tolist() == [pytest.approx([22.0, 6.0, 42.0, 26.0], abs=1e-4)]


def test_loss_of_one_box_that_is_predicted_exactly():
    model = network()
    far = [[200.0, 200.0]] * 3
    model.anchors.copy_(torch.tensor([[[12.0, 16.0], *far[1:]], far, far]))
    predictions = [torch.zeros(2, 3, n, n, 7) for n in (8, 4, 2)]
    box = torch.tensor([[28 - 6.0, 20 - 8.0, 28 + 6.0, 20 + 8.0]])
    losses = model.losses(predictions, Targets(torch.tensor([0]), box, torch.tensor([1])))
    assert losses["loss_box"].item() == pytest.approx(0, abs=1e-6)
    # sums over an image, mean of two images: 2 classes, and 3 anchors in 8 * 8 + 4 * 4 + 2 * 2 cells
    assert losses["loss_class"].item() == pytest.approx(2 * math.log(2) / 2)
    assert losses["loss_objectness"].item() == pytest.approx(252 * math.log(2))


def test_the_box_loss_is_ciou_itself():
    model = network()
    far = [[200.0, 200.0]] * 3
    model.anchors.copy_(torch.tensor([[[20.0, 20.0], *far[1:]], far, far]))
    predictions = [torch.zeros(1, 3, n, n, 7) for n in (8, 4, 2)]
    # prediction (18, 10, 38, 30); 2 pixels farther right: IoU 360 / 440, centre distance 2, diagonal of 22 x 20
    box = torch.tensor([[20.0, 10.0, 40.0, 30.0]])
    losses = model.losses(predictions, Targets(torch.tensor([0]), box, torch.tensor([0])))
    assert losses["loss_box"].item() == pytest.approx(BOX_GAIN * (1 - 360 / 440 + 4 / (22**2 + 20**2)), abs=1e-6)


def test_every_image_gets_a_diagnosis_from_both_classes():
    torch.manual_seed(0)
    model = network().eval()
    image = torch.randint(0, 256, (3, 50, 72), dtype=torch.uint8)
    with torch.no_grad():
        (output,) = model([{"image": image, "height": 100, "width": 144}])
    instances = output["instances"]
    assert instances.image_size == (100, 144) and set(instances.pred_classes.tolist()) == {0, 1}
    expected = malignancy_of_detections(instances.scores, instances.pred_classes)
    assert 0 < expected < 1 and instances.malignancy.tolist() == pytest.approx([expected] * len(instances))
