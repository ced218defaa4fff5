#!/usr/bin/env bash
# openvino 2026.4.1 ignores the attribute antialias of ONNX Resize (opset 18) and says nothing; onnx's reference and onnxruntime
# 1.32.0 obey it.
# An image with a bright line in every fourth column, reduced to a quarter: all of it is 0.25 in both, and 0.00 in OpenVINO, in
# float32.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'END'
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

node = helper.make_node(
    "Resize", ["x", "", "", "sizes"], ["y"], mode="linear", antialias=1, coordinate_transformation_mode="half_pixel"
)
graph = helper.make_graph(
    [node],
    "reduce",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 64, 64])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 16, 16])],
    [helper.make_tensor("sizes", TensorProto.INT64, [4], [1, 1, 16, 16])],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
onnx.checker.check_model(model)
content = model.SerializeToString()
image = np.zeros((1, 1, 64, 64), np.float32)
image[..., ::4] = 1
core = openvino.Core()
compiled = core.compile_model(core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
results = {
    "reference": ReferenceEvaluator(model).run(None, {"x": image})[0],
    "onnxruntime": onnxruntime.InferenceSession(content).run(None, {"x": image})[0],
    "OpenVINO": compiled([image])[0],
}
inside = {name: result[0, 0, 8, 4:12] for name, result in results.items()}
print({name: values.round(2).tolist() for name, values in inside.items()})
assert np.allclose(inside["reference"], 0.25) and np.allclose(inside["onnxruntime"], 0.25)
assert np.allclose(inside["OpenVINO"], 0)
END
