"""ONNX files in onnxruntime: images to diagnoses, and eight bits in place of 32."""

import os
import tempfile
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from detectron2.data.transforms import ResizeShortestEdge

from ..data.decoding import in_format
from .export import metadata_of
from .input_images import InputImage

__all__ = ["Diagnosis", "OnnxPredictor", "quantize"]

# What stays in float32: parts whose outputs are coordinates and scores, not features, and the first block of an EfficientNet,
# whose few channels have ranges far apart: in 8 bits it makes lesions look more benign.
IN_FLOAT32 = ("bbox_pred", "quality", "network.blocks.0.", "resnet.blocks.0.")
# What stays in 8 bits between convolutions, and how many of its inputs are features.
BETWEEN = {"Add": 2, "Clip": 1, "Relu": 1, "Resize": 1}


class Diagnosis(NamedTuple):
    """
    Attributes:
        box: XYXY in pixels of the whole image; None if nothing was found.
        malignancy: the probability of malignant.
    """

    box: Optional[Tuple[float, ...]]
    malignancy: float


class OnnxPredictor:
    """What tools/export_model.py wrote, for one image at a time.

    On a CPU a batch gains nothing, and images of all sizes can follow each other.
    """

    def __init__(self, network: onnx.ModelProto, threads: int = 1):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(network.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self.preprocess = Preprocessing(metadata_of(network))

    def __call__(self, images: Iterable[InputImage]) -> List[Diagnosis]:
        return [self._diagnose(image) for image in images]

    def _diagnose(self, image: InputImage) -> Diagnosis:
        pixels = self.preprocess(image)
        boxes, malignancy = self.session.run(["boxes", "malignancy"], {"images": pixels})
        x0, y0, x1, y1 = image.region
        scale = np.tile([(x1 - x0) / pixels.shape[3], (y1 - y0) / pixels.shape[2]], 2)
        box = boxes[0] * scale + [x0, y0, x0, y0]
        return Diagnosis(tuple(box.tolist()) if (box[2:] > box[:2]).all() else None, float(malignancy[0]))


class Preprocessing:
    """(1, C, H, W) uint8 of the region of an image, as the metadata of an ONNX file say."""

    def __init__(self, metadata: Dict[str, str]):
        self.format = metadata["format"]
        self.resize = ResizeShortestEdge(int(metadata["min_size"]), int(metadata["max_size"]))

    def __call__(self, image: InputImage) -> np.ndarray:
        x0, y0, x1, y1 = image.region
        pixels = in_format(image.pixels[y0:y1, x0:x1], self.format)
        resized = self.resize.get_transform(pixels).apply_image(pixels)
        return np.ascontiguousarray(resized.transpose(2, 0, 1)[None])


def quantize(network: onnx.ModelProto, images: Iterable[InputImage]) -> onnx.ModelProto:
    """
    The convolutions in 8 bits, with one scale for each output channel and the range of activations on some images.

    Weights have 7 of the 8 bits: CPUs without VNNI add products of 8 bits with saturation, and would answer otherwise.

    Args:
        network: an ONNX file for one image.
        images: of the training set, some dozens.
    """
    preprocess = Preprocessing(metadata_of(network))
    reader = _Reader(preprocess(image) for image in images)
    with tempfile.TemporaryDirectory() as folder:
        # batch normalisation goes into the convolutions before they are rounded
        optimised, quantised = (os.path.join(folder, name) for name in ("optimised.onnx", "quantised.onnx"))
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = optimised
        onnxruntime.InferenceSession(network.SerializeToString(), options, providers=["CPUExecutionProvider"])
        quantize_static(
            optimised,
            quantised,
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", *BETWEEN],
            nodes_to_quantize=_feature_nodes(onnx.load(optimised).graph),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        result = onnx.load(quantised)
    onnx.helper.set_model_props(result, {**metadata_of(network), "precision": "int8"})
    result.producer_name, result.producer_version = network.producer_name, network.producer_version
    return result


def _feature_nodes(graph: onnx.GraphProto) -> List[str]:
    """The names of the convolutions, but for the first ones and those of :data:`IN_FLOAT32`, and of what lies between."""
    shapes = {x.name: tuple(x.dims) for x in graph.initializer}
    features, names = set(), []
    for node in graph.node:  # inputs come before what takes them
        if node.op_type == "Conv":
            weight = node.input[1]
            sees_pixels = shapes[weight][1] <= 3 and _groups(node) == 1
            is_feature = not sees_pixels and not any(part in weight for part in IN_FLOAT32)
        else:
            is_feature = node.op_type in BETWEEN and features.issuperset(node.input[: BETWEEN[node.op_type]])
        if is_feature:
            names.append(node.name)
            features.update(node.output)
    return names


def _groups(convolution: onnx.NodeProto) -> int:
    return next((x.i for x in convolution.attribute if x.name == "group"), 1)


class _Reader(CalibrationDataReader):
    def __init__(self, inputs: Iterator[np.ndarray]):
        self.inputs = inputs

    def get_next(self) -> Optional[Dict[str, np.ndarray]]:
        pixels = next(self.inputs, None)
        return None if pixels is None else {"images": pixels}
