#!/usr/bin/env bash
# onnxslim 0.1.98 puts a constant that multiplies the output of a convolution into its weights if the constant has as many numbers
# as there are channels, whatever they belong to. A gain for each row (depth) or column of the map then scales the channels.
# Widths and channels are often the same power of 2. Nothing is said; the output keeps its shape.
# A convolution with 8 channels on an image of 8x8 pixels, then a gain of 1 to 8; by the shape of the constant, the largest
# error of the slimmed model:
#   (1, 8, 1, 1), for the channels:  0.00
#   (1, 1, 8, 1), for the rows:      6.02, where the outputs are at most 6.97
#   (1, 1, 1, 8), for the columns:   6.02, where they are at most 6.10
# skip_fusion_patterns=["FusionConvMul"] gives 0.00 in all of them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    onnxslim==0.1.98 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'END'
import numpy as np
import onnx
import onnxruntime
import onnxslim
from onnx import TensorProto, helper, numpy_helper

SIZE = 8
rng = np.random.RandomState(0)
weight = rng.rand(SIZE, 1, 1, 1).astype(np.float32)
image = rng.rand(1, 1, SIZE, SIZE).astype(np.float32)
gain = np.arange(1, SIZE + 1, dtype=np.float32)


def model_with(constant):
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "weight"], ["map"]), helper.make_node("Mul", ["map", "gain"], ["y"])],
        "gain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, SIZE, SIZE, SIZE])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(constant, "gain")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def run(model):
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": image})[0]


for name, shape in (("channels", (1, SIZE, 1, 1)), ("rows", (1, 1, SIZE, 1)), ("columns", (1, 1, 1, SIZE))):
    constant = gain.reshape(shape)
    by_hand = image * weight.reshape(1, SIZE, 1, 1) * constant
    before = run(model_with(constant))
    slim = onnxslim.slim(model_with(constant))
    left_alone = onnxslim.slim(model_with(constant), skip_fusion_patterns=["FusionConvMul"])
    after, skipped = np.abs(run(slim) - by_hand).max(), np.abs(run(left_alone) - by_hand).max()
    print(f"gain for the {name} {shape}: {[x.op_type for x in slim.graph.node]}, output up to {by_hand.max():.2f}, "
          f"off by up to {after:.2f}; with the fusion skipped {skipped:.2f}")
    assert np.allclose(before, by_hand, atol=1e-5) and skipped < 1e-5
    assert [x.op_type for x in slim.graph.node] == ["Conv"]
    assert after < 1e-5 if name == "channels" else after > 1
END
