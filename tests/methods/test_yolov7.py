"""YOLOv7: its size, its loss and assignment by hand, re-parametrisation, and the authors' weights."""

import math

import pytest
import torch
from torch import nn

from detectron2.modeling import build_model
from tsdd_d2.engine.checkpoint import TSDDCheckpointer
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.errors import InputError
from tsdd_d2.evaluation.detections import malignancy_of_detections
from tsdd_d2.methods.yolo import Targets
from tsdd_d2.methods.yolov7 import (
    RepConv,
    YOLOv7,
    YOLOv7Backbone,
    YOLOv7Head,
    YOLOv7Trainer,
    assignment_cost,
    candidate_cells,
    match,
)

TINY = 1 / 16


def network(width=TINY, num_classes=2, depth=1.0) -> YOLOv7:
    backbone = YOLOv7Backbone(width, depth)
    channels = [backbone.output_shape()[name].channels for name in ("elan3", "elan4", "elan5")]
    return YOLOv7(
        backbone=backbone,
        head=YOLOv7Head(channels, num_classes, width=width, depth=depth),
        num_classes=num_classes,
        pixel_mean=[127.5] * 3,
        pixel_std=[127.5] * 3,
        nms_threshold=0.65,
        max_detections_per_image=100,
        bfloat16=False,
    )


@pytest.mark.parametrize("num_classes, training, deployed", [(80, 37_622_682, 36_905_341), (2, 37_201_950, 36_485_311)])
def test_the_base_model_has_as_many_parameters_as_the_authors(num_classes, training, deployed):
    """The authors' tools print both numbers for COCO; each class costs 3 anchors x 1,792 weights, 9 biases and 9 factors."""
    with torch.device("meta"):
        model = network(width=1.0, num_classes=num_classes)
    assert sum(p.numel() for p in model.parameters()) == training
    # at inference: convolutions with a bias in place of the normalisation, RepConv one of them, no implicit knowledge
    pointwise = {id(x.pointwise) for x in model.modules() if isinstance(x, RepConv)}
    convs = [x for x in model.modules() if isinstance(x, nn.Conv2d) and id(x) not in pointwise]
    assert sum(x.weight.numel() + x.out_channels for x in convs) == deployed


def test_the_levels_have_the_strides_of_the_anchors():
    outputs = network().predict(torch.zeros(1, 3, 64, 96))
    assert [tuple(x.shape) for x in outputs] == [(1, 3, 8, 12, 7), (1, 3, 4, 6, 7), (1, 3, 2, 3, 7)]


def test_a_smaller_depth_has_shorter_blocks():
    assert [len(network(depth=depth).backbone.elan3.chain) for depth in (1.0, 0.5)] == [4, 2]


def test_one_convolution_at_inference_equals_two_in_training():
    torch.manual_seed(0)
    layer = RepConv(6, 10)
    for _ in range(5):
        layer(torch.randn(4, 6, 9, 9) * 3 + 1)
    for norm in (layer.dense.norm, layer.pointwise.norm):
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.uniform_(norm.bias, -1, 1)
    x = torch.randn(2, 6, 9, 9)
    layer.eval()
    expected = nn.functional.silu(layer.dense(x) + layer.pointwise(x))
    assert torch.allclose(layer(x), expected, atol=1e-4)


def test_boxes_are_offered_to_the_cell_of_the_centre_and_the_two_nearest():
    # centres 4.375, 2.625 and 1.5, 0.125 in cells of 8 pixels; the second has no row above
    boxes = torch.tensor([[19.0, 5.0, 51.0, 37.0], [2.0, -7.0, 22.0, 9.0]])
    targets = Targets(torch.tensor([0, 1]), boxes, torch.tensor([0, 1]))
    anchors = torch.tensor([[32.0, 32.0], [7.0, 7.0], [20.0, 70.0]])
    found = candidate_cells(targets, anchors, 8, (8, 8))
    offered = set(zip(*(x.tolist() for x in found)))
    # 32 is more than 4 times 7, and 70 more than 4 times 16
    expected = {(0, a, y, x, 0) for a in (0, 2) for y, x in [(2, 4), (2, 3), (3, 4)]}
    expected |= {(1, a, 0, 1, 1) for a in (0, 1)}
    assert offered == expected


def test_cost_of_an_undecided_prediction():
    ious = torch.tensor([[math.exp(-1), math.exp(-2)]])
    cost = assignment_cost(ious, torch.zeros(2, 7), torch.tensor([1]))
    # two classes at a probability of 0.5, and 3 times -log IoU
    assert cost.tolist() == [pytest.approx([2 * math.log(2) + 3, 2 * math.log(2) + 6], abs=1e-4)]


def test_a_box_takes_as_many_predictions_as_its_ious_sum_to():
    ious = torch.tensor([[0.9, 0.8, 0.7, 0.1], [0.2, 0.1, 0.0, 0.0]])
    cost = torch.tensor([[1.0, 2.0, 3.0, 9.0], [0.5, 8.0, 9.0, 7.0]])
    # k = 2 (of 2.5) and 1 (of 0.3); both want prediction 0, which is cheaper for box 1
    assert match(cost, ious).tolist() == [1, 0, -1, -1]


def test_loss_of_one_box_that_is_predicted_exactly():
    model = network()
    far = [[200.0, 200.0]] * 3
    model.anchors.copy_(torch.tensor([[[12.0, 16.0], *far[1:]], far, far]))
    predictions = [torch.zeros(1, 3, n, n, 7) for n in (8, 4, 2)]
    # the middle of cell (3, 2), where logits of 0 put the first anchor
    box = torch.tensor([[28 - 6.0, 20 - 8.0, 28 + 6.0, 20 + 8.0]])
    losses = model.losses(predictions, Targets(torch.tensor([0]), box, torch.tensor([1])))
    assert losses["loss_box"].item() == pytest.approx(0, abs=1e-6)
    assert losses["loss_class"].item() == pytest.approx(0.3 * 2 / 80 * math.log(2))
    assert losses["loss_objectness"].item() == pytest.approx(0.7 * (64 / 640) ** 2 * 5.4 * math.log(2))
    model.objectness_by_area = False  # the small profile
    losses = model.losses(predictions, Targets(torch.tensor([0]), box, torch.tensor([1])))
    assert losses["loss_objectness"].item() == pytest.approx(0.7 * 5.4 * math.log(2))


@pytest.mark.parametrize("profile, by_area", [("paper", True), ("cpu", False)])
def test_the_profile_decides_whether_objectness_falls_with_the_area(profile, by_area):
    cfg = load_config(opts=["MODEL.YOLOV7.WIDTH", "0.0625", "MODEL.DEVICE", "cpu"], method="yolov7", profile=profile)
    assert build_model(cfg).objectness_by_area == by_area


def test_objectness_learns_the_overlap_and_an_image_without_box_is_background():
    model = network()
    far = [[200.0, 200.0]] * 3
    model.anchors.copy_(torch.tensor([[[12.0, 16.0], *far[1:]], far, far]))
    predictions = [torch.zeros(2, 3, n, n, 7, requires_grad=True) for n in (8, 4, 2)]
    box = torch.tensor([[28 - 6.0, 20 - 8.0, 28 + 6.0, 20 + 8.0]])
    losses = model.losses(predictions, Targets(torch.tensor([1]), box, torch.tensor([1])))
    losses["loss_objectness"].backward()
    gradient = predictions[0].grad[..., 4]
    # towards 1 where the box is exact, towards 0 elsewhere
    assert gradient[1, 0, 2, 3] < 0 and (gradient < 0).sum() == 1
    nothing = Targets(torch.zeros(0, dtype=torch.long), torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    losses = model.losses([x.detach() for x in predictions], nothing)
    assert losses["loss_box"] == losses["loss_class"] == 0 and losses["loss_objectness"] > 0


def test_implicit_knowledge_does_not_decay():
    cfg = load_config(opts=["SOLVER.WEIGHT_DECAY", 0.05], method="yolov7")
    model = network()
    decays = {
        id(x): group["weight_decay"]
        for group in YOLOv7Trainer.build_optimizer(cfg, model).param_groups
        for x in group["params"]
    }
    predictor = model.head.predictors[0]
    assert [decays[id(x)] for x in (predictor.added, predictor.multiplied, predictor.conv.weight)] == [0, 0, 0.05]


def test_every_image_gets_a_diagnosis_from_both_classes():
    torch.manual_seed(0)
    model = network().eval()
    image = torch.randint(0, 256, (3, 50, 72), dtype=torch.uint8)
    with torch.no_grad():
        (output,) = model([{"image": image, "height": 100, "width": 144}])
    instances = output["instances"]
    assert instances.image_size == (100, 144) and set(instances.pred_classes.tolist()) == {0, 1}
    assert (instances.scores[:-1] >= instances.scores[1:]).all()
    expected = malignancy_of_detections(instances.scores, instances.pred_classes)
    assert 0 < expected < 1 and instances.malignancy.tolist() == pytest.approx([expected] * len(instances))


def authors_weights(scale: int, outputs: int) -> dict:
    """Weights named as the authors' are; channels of their base model by ``scale``."""
    weights = {}

    def conv(name, into, out, kernel, conv_name="conv", norm_name="bn"):
        given = into if into == 3 else into // scale
        weights[f"{name}.{conv_name}.weight"] = torch.rand(out // scale, given, kernel, kernel)
        for part in ("weight", "bias", "running_mean", "running_var"):
            weights[f"{name}.{norm_name}.{part}"] = torch.rand(out // scale)
        weights[f"{name}.{norm_name}.num_batches_tracked"] = torch.tensor(7)

    def elan(layer, into, branch, hidden, out, joined):
        for i, (a, b, k) in enumerate([(into, branch, 1)] * 2 + [(branch, hidden, 3)] + [(hidden, hidden, 3)] * 3):
            conv(f"model.{layer + i}", a, b, k)
        conv(f"model.{layer + 7}", 2 * branch + joined * hidden, out, 1)

    def down(layer, into, half):
        conv(f"model.{layer + 1}", into, half, 1)
        conv(f"model.{layer + 2}", into, half, 1)
        conv(f"model.{layer + 3}", half, half, 3)

    for i, (into, out) in enumerate([(3, 32), (32, 64), (64, 64), (64, 128)]):
        conv(f"model.{i}", into, out, 3)
    for layer, into, hidden, out in [(4, 128, 64, 256), (17, 256, 128, 512), (30, 512, 256, 1024), (43, 1024, 256, 1024)]:
        elan(layer, into, hidden, hidden, out, 2)
    for layer, into, half in [(12, 256, 128), (25, 512, 256), (38, 1024, 512), (76, 128, 128), (89, 256, 256)]:
        down(layer, into, half)
    spp = [(1024, 512, 1), (1024, 512, 1), (512, 512, 3), (512, 512, 1), (2048, 512, 1), (512, 512, 3), (1024, 512, 1)]
    for i, shape in enumerate(spp, 1):
        conv(f"model.51.cv{i}", *shape)
    for layer, into, out in [(52, 512, 256), (54, 1024, 256), (64, 256, 128), (66, 512, 128)]:
        conv(f"model.{layer}", into, out, 1)
    for layer, into, out in [(56, 512, 256), (68, 256, 128), (81, 512, 256), (94, 1024, 512)]:
        elan(layer, into, out, out // 2, out, 4)
    for i, width in enumerate((128, 256, 512)):
        conv(f"model.{102 + i}", width, 2 * width, 3, "rbr_dense.0", "rbr_dense.1")
        conv(f"model.{102 + i}", width, 2 * width, 1, "rbr_1x1.0", "rbr_1x1.1")
        weights[f"model.105.m.{i}.weight"] = torch.rand(outputs, 2 * width // scale, 1, 1)
        weights[f"model.105.m.{i}.bias"] = torch.rand(outputs)
        weights[f"model.105.ia.{i}.implicit"] = torch.rand(1, 2 * width // scale, 1, 1)
        weights[f"model.105.im.{i}.implicit"] = torch.rand(1, outputs, 1, 1)
    weights["model.105.anchors"] = torch.rand(3, 3, 2)
    weights["model.105.anchor_grid"] = torch.rand(3, 1, 3, 1, 1, 2)
    return weights


@pytest.mark.parametrize("outputs", [21, 255])  # 2 classes, and 80, whose predictors are of no use here
def test_weights_of_the_authors_load_by_their_names(outputs, tmp_path, monkeypatch):
    torch.manual_seed(0)
    # the tiny model's channels are those of the base model by 16, but for a floor of 8
    monkeypatch.setattr("tsdd_d2.methods.yolov7.scaled_channels", lambda channels, width: int(channels * width))
    model = network()
    before = model.head.predictors[0].conv.weight.clone()
    weights = authors_weights(16, outputs)
    torch.save({"model": weights}, tmp_path / "yolov7.pth")
    TSDDCheckpointer(model).load(str(tmp_path / "yolov7.pth"), checkpointables=[])
    for ours, theirs in {
        "backbone.stem.3.norm.running_var": "model.3.bn.running_var",
        "backbone.elan4.shortcut.weight": "model.30.conv.weight",
        "backbone.elan4.chain.3.weight": "model.35.conv.weight",
        "backbone.down5.strided.1.weight": "model.41.conv.weight",
        "head.spp.entry.2.weight": "model.51.cv4.conv.weight",
        "head.spp.shortcut.norm.bias": "model.51.cv2.bn.bias",
        "head.lateral3.weight": "model.66.conv.weight",
        "head.up_path5.out.weight": "model.101.conv.weight",
        "head.rep.1.pointwise.norm.weight": "model.103.rbr_1x1.1.weight",
        "head.predictors.2.added": "model.105.ia.2.implicit",
    }.items():
        assert torch.equal(model.state_dict()[ours], weights[theirs]), ours
    assert torch.equal(model.anchors, weights["model.105.anchor_grid"].view(3, 3, 2))
    kept = weights["model.105.m.0.weight"] if outputs == 21 else before
    assert torch.equal(model.head.predictors[0].conv.weight, kept)


def test_weights_of_the_authors_need_a_network_of_their_size(tmp_path):
    torch.save({"model": authors_weights(8, 21)}, tmp_path / "yolov7.pth")
    with pytest.raises(InputError, match="MODEL.YOLOV7.WIDTH"):
        TSDDCheckpointer(network()).load(str(tmp_path / "yolov7.pth"), checkpointables=[])
