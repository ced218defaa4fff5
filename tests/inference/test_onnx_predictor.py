"""ONNX files in onnxruntime, on image files, and in 8 bits."""

import numpy as np
import pytest
from PIL import Image

from tsdd_d2 import Predictor
from tsdd_d2.inference.input_images import InputImage, read_images

from .test_export import model_file_of, noise
from .test_web_page import small_network

onnx = pytest.importorskip("onnx", reason="needs the extra: pip install -e '.[export]'")
onnx_predictor = pytest.importorskip(
    "tsdd_d2.inference.onnx_predictor", reason="needs the extra: pip install -e '.[export]'"
)
export = pytest.importorskip("tsdd_d2.inference.export")


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    return model_file_of(small_network("L"), tmp_path_factory.mktemp("models") / "model.pth")


@pytest.fixture(scope="module")
def network(model_file):
    return export.to_onnx(model_file)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Of several sizes, grey and in colour, and a region of one."""
    folder = tmp_path_factory.mktemp("images")
    for number, size in enumerate([(64, 72), (130, 100, 3), (50, 170)]):
        Image.fromarray(noise(number, *size).numpy()).save(folder / f"{number}.png")
    region = InputImage(noise(4, 90, 120, 3).numpy(), (10, 20, 110, 90))
    return [*read_images([folder / f"{number}.png" for number in range(3)]), region]


def test_the_answers_are_those_of_the_predictor(model_file, network, images):
    predicted = [x for _, x in Predictor(model_file).predict(images)]
    for diagnosis, prediction in zip(onnx_predictor.OnnxPredictor(network)(images), predicted, strict=True):
        assert diagnosis.box == pytest.approx(prediction.box, abs=1e-2)
        assert diagnosis.malignancy == pytest.approx(prediction.malignancy, abs=1e-4)


def test_in_8_bits(network, images):
    quantised = onnx_predictor.quantize(network, images)
    onnx.checker.check_model(quantised, full_check=True)
    weights = {x.name: x for x in quantised.graph.initializer}
    widths = [onnx.TensorProto.DataType.Name(weights[x].data_type) for x in _convolution_weights(quantised)]
    # of D-Net and C-Net what sees the pixels, and on each level what predicts boxes and qualities
    assert widths.count("FLOAT") == 2 + _number_in_float32(network) and set(widths) == {"FLOAT", "INT8"}
    values = np.concatenate(
        [onnx.numpy_helper.to_array(x).ravel() for x in weights.values() if x.data_type == onnx.TensorProto.INT8]
    )
    assert -64 <= values.min() and values.max() <= 64  # of 7 bits, so that no CPU saturates
    assert export.metadata_of(quantised) == {**export.metadata_of(network), "precision": "int8"}
    exact, rounded = (onnx_predictor.OnnxPredictor(x)(images) for x in (network, quantised))
    assert [x.malignancy for x in rounded] == pytest.approx([x.malignancy for x in exact], abs=0.1)
    assert [x.malignancy for x in rounded] != [x.malignancy for x in exact]


def _convolution_weights(network):
    """The initialisers of the convolutions' weights, behind a DequantizeLinear where they are in 8 bits."""
    makers = {output: node for node in network.graph.node for output in node.output}
    for node in network.graph.node:
        if node.op_type == "Conv":
            name = node.input[1]
            yield makers[name].input[0] if name in makers else name


def _number_in_float32(network):
    parts = onnx_predictor.IN_FLOAT32
    return sum(node.op_type == "Conv" and any(x in node.input[1] for x in parts) for node in network.graph.node)


def test_nothing_found(network, images):
    predictor = onnx_predictor.OnnxPredictor(network)
    predictor.session = type("Session", (), {"run": lambda *_: (np.array([[5.0, 5, 5, 9]]), np.array([0.5]))})()
    assert predictor(images[:1]) == [onnx_predictor.Diagnosis(None, 0.5)]
