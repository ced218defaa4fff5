"""A model file as ONNX: the whole chain from pixels to box and probability in one graph, see docs/onnx.md."""

import importlib.util
import json
import os
import warnings
from typing import TYPE_CHECKING, Any, Dict, Iterable, Tuple

import torch
from torch import Tensor, nn

import tsdd_d2

from ..data.files import write_bytes, write_json
from ..errors import InputError
from ..evaluation.diagnosis import MALIGNANCY_WITHOUT_INSTANCE
from ..modeling.contract import DiagnosesTensors

if TYPE_CHECKING:
    import onnx

    from .input_images import InputImage
    from .model_file import ModelFile

__all__ = ["OPSET", "ImagesToDiagnoses", "export_model", "largest_differences", "metadata_of", "to_onnx"]

# The newest that the onnxruntime for Python 3.10 (1.23) runs and that PyTorch's exporter writes without conversion.
OPSET = 20
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUT = {"images": "RGB or grey (L) in 0-255, after the resize that min_size and max_size of the metadata describe"}
OUTPUTS = {
    "boxes": "the ROI of each image: XYXY in pixels of the input tensor; without area where nothing was found",
    "scores": "by which the ROI was chosen, in [0, 1]",
    "malignancy": "the probability of malignant, in [0, 1]",
}


class ImagesToDiagnoses(nn.Module):
    """A network from tensor to tensor, for the single best box."""

    def __init__(self, network: DiagnosesTensors, image_format: str):
        """
        Args:
            image_format: "L", "RGB" or "BGR", what ``network`` takes.
        """
        super().__init__()
        self.network = network
        self.image_format = image_format
        self.channels = 1 if image_format == "L" else 3

    def forward(self, images: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """
        Args:
            images: (N, C, H, W) uint8, grey where the network takes "L", RGB otherwise; any H and W: they are padded here.
        Returns:
            boxes (N, 4), absolute XYXY in ``images``; scores (N,); malignancy (N,), as the evaluation has it where
            nothing was found (a box without area).
        """
        boxes, scores, malignancy = self.network.diagnose_tensor(images.flip(1) if self.image_format == "BGR" else images)
        found = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        return boxes, scores, torch.where(found, malignancy, MALIGNANCY_WITHOUT_INSTANCE)


def export_model(model_file: "ModelFile", path: str, batch_size: int = 1, calibration: Iterable["InputImage"] = ()) -> None:
    """
    Writes a model file as ONNX, completely or not at all; missing folders are made. Beside it a JSON file of the same name
    repeats its metadata, for runtimes that do not show them.

    Args:
        path: ends in ``.onnx``.
        batch_size, calibration, errors: see :func:`to_onnx`.
    """
    if not os.fspath(path).endswith(".onnx"):
        raise InputError(f"{path}: ONNX files end in .onnx.")
    network = to_onnx(model_file, batch_size, calibration)
    write_bytes(path, network.SerializeToString())
    metadata = {**_metadata(model_file), "precision": metadata_of(network)["precision"]}
    write_json(os.path.splitext(path)[0] + ".json", metadata)


def to_onnx(model_file: "ModelFile", batch_size: int = 1, calibration: Iterable["InputImage"] = ()) -> "onnx.ModelProto":
    """
    A model file as an ONNX graph of opset :data:`OPSET`: :class:`ImagesToDiagnoses` with any image height and width.

    ``metadata_props`` hold ``format`` ("L" of one channel, or "RGB", for a network of "BGR" too), ``min_size`` and
    ``max_size`` (pixels of the shorter and longer side after the resize), ``threshold``, ``opset``, ``precision`` ("float32", in
    which it is to be run, or "int8"), ``package_version`` (of the tsdd_d2 that exported) and, as JSON, ``class_names`` and ``training_set`` (``name`` and ``sha256`` of its annotation file).

    Args:
        batch_size: images in one call, fixed in the graph.
        calibration: images of the training set, some dozens, for a graph in 8 bits, see
            :func:`~tsdd_d2.inference.onnx_predictor.quantize`; none: in float32.

    Raises:
        InputError: the packages of the extra ``export`` are missing, the batch size is not positive (or not 1, in 8 bits),
            or the network, its ranking or another part of it cannot be exported.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"The export needs {' and '.join(missing)}: pip install -c constraints.txt -e '.[export]'")
    calibration = list(calibration)
    if batch_size < 1 or calibration and batch_size > 1:
        raise InputError(f"The batch size must be {'1 in 8 bits' if calibration else 'at least 1'}, not {batch_size}.")
    network, ranking = model_file.model, model_file.cfg.MODEL.DNET.RANKING
    if not isinstance(network, DiagnosesTensors):
        raise InputError(f"A {type(network).__name__} cannot be exported; a network of stage 1 or 2 can.")
    chain = ImagesToDiagnoses(network, model_file.preprocessing["format"]).eval()
    try:
        proto = _exported(chain, batch_size)
    except Exception as error:  # the exporter may raise anything on a ranking or pooling that others registered
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"The network, with its ranking {ranking}, cannot be exported: {type(error).__name__}: {reason}"
        ) from error
    proto = _described(proto, model_file)
    if not calibration:
        return proto
    from .onnx_predictor import quantize  # needs onnxruntime

    return quantize(proto, calibration)


def largest_differences(model_file: "ModelFile", path: str, images: Tensor) -> Dict[str, float]:
    """
    How far onnxruntime's answers are from PyTorch's.

    Args:
        path: what :func:`export_model` wrote from ``model_file``.
        images: (N, C, H, W) uint8 in the format of the file, N as the file has it.
    Returns:
        the largest absolute difference of ``boxes`` (pixels), ``scores`` and ``malignancy``.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    names = list(OUTPUTS)
    answers = session.run(names, {"images": images.numpy()})
    chain = ImagesToDiagnoses(model_file.model, model_file.preprocessing["format"])
    with torch.no_grad():
        expected = chain(images.to(model_file.model.device))
    return {name: (torch.from_numpy(a) - e.cpu()).abs().max().item() for name, a, e in zip(names, answers, expected)}


def _exported(chain: ImagesToDiagnoses, batch_size: int) -> "onnx.ModelProto":
    # Every feature level of the example has several rows and columns, since the exporter takes a side of 1 for fixed.
    coarsest = chain.network.coarsest_stride()
    example = torch.zeros(
        batch_size, chain.channels, 2 * coarsest + 8, 3 * coarsest + 8, dtype=torch.uint8, device=chain.network.device
    )
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch about itself
        program = torch.export.export(
            chain,
            (example,),
            dynamic_shapes={"images": {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}},
            strict=False,
            # Convolutions ask whether a side is 1 for the sake of the memory format, which ONNX does not have.
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        onnx_program = torch.onnx.export(
            program,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            input_names=list(INPUT),
            output_names=list(OUTPUTS),
            dynamic_shapes={"images": {2: "height", 3: "width"}},
        )
    return onnx_program.model_proto


def _described(proto: "onnx.ModelProto", model_file: "ModelFile") -> "onnx.ModelProto":
    """Puts our metadata in the place of the exporter's, which hold paths of this machine."""
    for entry in [proto, proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info]:
        entry.ClearField("metadata_props")
        entry.ClearField("doc_string")
    for key, value in _metadata(model_file).items():
        proto.metadata_props.add(key=key, value=json.dumps(value) if isinstance(value, (list, dict)) else str(value))
    for entry in [*proto.graph.input, *proto.graph.output]:
        entry.doc_string = {**INPUT, **OUTPUTS}[entry.name]
    proto.producer_name, proto.producer_version = "tsdd_d2", tsdd_d2.__version__
    return proto


def metadata_of(network: "onnx.ModelProto") -> Dict[str, str]:
    """What :func:`to_onnx` wrote into ``metadata_props``."""
    return {x.key: x.value for x in network.metadata_props}


def _metadata(model_file: "ModelFile") -> Dict[str, Any]:
    preprocessing = model_file.preprocessing
    return {
        "format": "L" if preprocessing["format"] == "L" else "RGB",
        "min_size": preprocessing["min_size"],
        "max_size": preprocessing["max_size"],
        "class_names": list(model_file.class_names),
        "threshold": model_file.threshold,
        "training_set": model_file.training_set,
        "package_version": tsdd_d2.__version__,
        "opset": OPSET,
        "precision": "float32",
    }
