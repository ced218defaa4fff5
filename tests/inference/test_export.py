"""ONNX files: onnxruntime's answers are PyTorch's. The first stage's are in tools/test_export_model.py."""

import os

import numpy as np
import pytest
import torch

import tsdd_d2.inference.export
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from tsdd_d2 import load_model, save_model
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.errors import InputError
from tsdd_d2.inference.export import OPSET, ImagesToDiagnoses, export_model
from tsdd_d2.modeling.ranking import RANKING_REGISTRY

from ..conftest import ROOT, TINY_CONFIG
from ..methods.tiny import tiny_overrides

pytest.importorskip("onnxscript", reason="needs the extra: pip install -e '.[export]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra: pip install -e '.[export]'")

TRAINING_SET = {"name": "tiny_fold1_train", "sha256": "0" * 64}
# What onnxruntime may differ by, in pixels of the input and as a probability.
BOX_TOLERANCE = 1e-3
PROBABILITY_TOLERANCE = 1e-4
# Height and width: smaller than the exporter's example, and larger; each is padded to other multiples.
SIZES = [(64, 72), (150, 201)]


def model_file_of(cfg, path):
    """The tiny network, with weights that tell images apart, by way of a model file."""
    torch.manual_seed(0)
    model = build_model(cfg)
    for name, parameter in model.named_parameters():
        if name.endswith(("bbox_pred.weight", "quality.weight")) or parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.1)
    save_model(path, cfg, model, threshold=0.3, training_set=TRAINING_SET)
    return load_model(path, device="cpu")


@pytest.fixture(scope="module")
def stage2(tmp_path_factory):
    """A network of the second stage that takes BGR."""
    config = os.path.join(ROOT, "tests", "tiny_stage2.yaml")
    cfg = load_config(config, ["INPUT.FORMAT", "BGR"])
    return model_file_of(cfg, tmp_path_factory.mktemp("models") / "model.pth")


def noise(seed, *shape):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def answers_of(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return dict(zip(("boxes", "scores", "malignancy"), session.run(None, {"images": images.numpy()})))


def assert_the_same(answers, model_file, images):
    """Compares with the network's own inference, on the input of the format that it takes."""
    if model_file.preprocessing["format"] == "BGR":
        images = images.flip(1)
    instances = [model_file.model([{"image": image}])[0]["instances"][:1] for image in images]
    boxes = np.concatenate([x.pred_boxes.tensor.numpy() for x in instances])
    assert np.ptp(boxes, axis=1).min() > 5  # a lesion's box, not a corner of the image
    np.testing.assert_allclose(answers["boxes"], boxes, rtol=0, atol=BOX_TOLERANCE)
    for name in ("scores", "malignancy"):
        expected = np.concatenate([x.get(name).numpy() for x in instances])
        np.testing.assert_allclose(answers[name], expected, rtol=0, atol=PROBABILITY_TOLERANCE)


def test_stage_2_on_a_batch(stage2, tmp_path):
    export_model(stage2, tmp_path / "model.onnx", batch_size=2)
    for size in SIZES:
        images = noise(2, 2, 3, *size)
        assert_the_same(answers_of(tmp_path / "model.onnx", images), stage2, images)


@pytest.mark.parametrize("method", ["yolov4", "yolov7"])
def test_a_yolo(method, tmp_path):
    model_file = model_file_of(load_config(opts=tiny_overrides(), method=method, profile="scratch"), tmp_path / "model.pth")
    export_model(model_file, tmp_path / "model.onnx")
    for size in SIZES:
        images = noise(3, 1, 3, *size)
        assert_the_same(answers_of(tmp_path / "model.onnx", images), model_file, images)


def test_nothing_found_is_half_a_probability(stage2, monkeypatch):
    box = Boxes(torch.tensor([[10.0, 0.0, 40.0, 0.0]]))
    found_nothing = Instances((64, 72), pred_boxes=box, scores=torch.zeros(1), pred_classes=torch.zeros(1))
    monkeypatch.setattr(stage2.model, "propose", lambda *_: [found_nothing])
    with torch.no_grad():
        boxes, scores, malignancy = ImagesToDiagnoses(stage2.model, "RGB")(noise(5, 1, 3, 64, 72))
    assert malignancy.tolist() == [0.5] and scores.tolist() == [0.0] and boxes[0, 1] == boxes[0, 3]


class OfRanking(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.rank = RANKING_REGISTRY.get(name)

    def forward(self, boxes, quality_logits, anchors, image_sizes):
        return self.rank(boxes, quality_logits, anchors, image_sizes)


@pytest.mark.parametrize("name", sorted(name for name, _ in RANKING_REGISTRY))
def test_every_ranking_can_be_exported(name, tmp_path):
    def inputs(num_anchors, height, width):
        """For a batch of two images."""
        generator = torch.Generator().manual_seed(num_anchors)
        corners = torch.rand(num_anchors, 2, generator=generator) * torch.tensor([width, height])
        anchors = torch.cat([corners, corners + 10 + 20 * torch.rand(num_anchors, 2, generator=generator)], dim=1)
        boxes = anchors + 3 * torch.randn(2, num_anchors, 4, generator=generator)
        sizes = torch.tensor([[height, width], [height - 8, width - 16]])
        return boxes, torch.randn(2, num_anchors, generator=generator), anchors, sizes

    # fewer boxes than a ranking looks at in the example, more in the run
    wanted = inputs(2500, 90, 140)
    module = OfRanking(name)
    anchors = torch.export.Dim("anchors", min=2)
    program = torch.export.export(
        module,
        inputs(60, 70, 80),
        dynamic_shapes=({1: anchors}, {1: anchors}, {0: anchors}, None),
        prefer_deferred_runtime_asserts_over_guards=True,
    )
    path = tmp_path / "ranking.onnx"
    torch.onnx.export(program, f=path, opset_version=OPSET, verbose=False, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {x.name: value.numpy() for x, value in zip(session.get_inputs(), wanted)}
    (scores,) = session.run(None, feed)
    expected = module(*wanted)
    assert expected.max() > 0
    np.testing.assert_allclose(scores, expected.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"MODEL.META_ARCHITECTURE": "DNet"}, "A DNet cannot be exported"),
        ({"MODEL.META_ARCHITECTURE": "DiagnosingRetinaNet"}, "A DiagnosingRetinaNet cannot be exported"),
    ],
)
def test_a_network_that_cannot_be_exported(tmp_path, changes, message):
    cfg = load_config(TINY_CONFIG, [x for change in changes.items() for x in change])
    save_model(tmp_path / "model.pth", cfg, build_model(cfg), threshold=0.5, training_set=TRAINING_SET)
    with pytest.raises(InputError, match=message):
        export_model(load_model(tmp_path / "model.pth", device="cpu"), tmp_path / "model.onnx")
    assert os.listdir(tmp_path) == ["model.pth"]


def test_a_part_that_the_exporter_does_not_know(stage2, tmp_path, monkeypatch):
    def depends_on_the_values(boxes, quality_logits, anchors, image_sizes):
        return quality_logits if quality_logits.sum() > 0 else -quality_logits

    monkeypatch.setattr(stage2.model.dnet, "rank", depends_on_the_values)
    with pytest.raises(InputError, match="with its ranking expected_iou, cannot be exported: .*data-dependent"):
        export_model(stage2, tmp_path / "model.onnx")
    assert os.listdir(tmp_path) == []


def test_bad_requests(stage2, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"model\.pb: ONNX files end in \.onnx"):
        export_model(stage2, tmp_path / "model.pb")
    with pytest.raises(InputError, match="at least 1, not 0"):
        export_model(stage2, tmp_path / "model.onnx", batch_size=0)
    with pytest.raises(InputError, match="1 in 8 bits, not 2"):
        export_model(stage2, tmp_path / "model.onnx", batch_size=2, calibration=[None])
    monkeypatch.setattr(tsdd_d2.inference.export, "PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(InputError, match=r"needs no_such_package: pip install .*\[export\]"):
        export_model(stage2, tmp_path / "model.onnx")
    assert os.listdir(tmp_path) == []
