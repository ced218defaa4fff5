#!/usr/bin/env bash
# opencv-python 5.0.0.93: cv2.dnn's new engine, its default, pads the wrong side where a convolution of an ONNX model says
# auto_pad="SAME_UPPER" (TensorFlow's "same") and the padding is odd, as it is for a 3 x 3 kernel of stride 2 on an even side. ONNX adds
# the odd pixel at the end; OpenCV 5 adds it at the beginning, and says nothing. Its classic engine, OpenCV 4.14.0.94,
# onnxruntime 1.32.0 and onnx's reference (1.23.2) obey ONNX.
# Five such convolutions that pass their centre on, and an image whose two channels are its column and row:
#   first place of the last stage: 31, 31; in OpenCV 5 as it is called: 0, 0
# So the network looks 31 pixels up and left of where its boxes are drawn from.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
pip=("$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" onnx==1.23.2 onnxruntime==1.32.0 opencv-python-headless==5.0.0.93 numpy==2.4.6
"${pip[@]}" --no-deps --target "$folder/opencv4" opencv-python-headless==4.14.0.94
cd "$folder"
cat > places.py <<'END'
import cv2
import numpy as np

new = cv2.__version__ >= "5"
engines = {"default": [], **({"classic": [cv2.dnn.ENGINE_CLASSIC], "new": [cv2.dnn.ENGINE_NEW]} if new else {})}
for name, engine in engines.items():
    network = cv2.dnn.readNetFromONNX("stages.onnx", *engine)
    network.setInput(np.load("image.npy"))
    places = network.forward()[0, :, 0, 0].tolist()
    print(f"OpenCV {cv2.__version__}, {name} engine: column and row {places}")
    assert places == ([0, 0] if new and name != "classic" else [31, 31])
END
venv/bin/python - <<'END'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

centre = np.zeros((2, 1, 3, 3), np.float32)
centre[..., 1, 1] = 1
options = {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER", "group": 2}
graph = helper.make_graph(
    [helper.make_node("Conv", [f"stage{i}", "centre"], [f"stage{i + 1}"], **options) for i in range(5)],
    "stages",
    [helper.make_tensor_value_info("stage0", TensorProto.FLOAT, [1, 2, 224, 224])],
    [helper.make_tensor_value_info("stage5", TensorProto.FLOAT, [1, 2, 7, 7])],
    [numpy_helper.from_array(centre, "centre")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
onnx.checker.check_model(model)
onnx.save(model, "stages.onnx")
image = np.stack(np.meshgrid(np.arange(224), np.arange(224)))[None].astype(np.float32)
np.save("image.npy", image)
results = {
    "onnxruntime": onnxruntime.InferenceSession("stages.onnx").run(None, {"stage0": image})[0],
    "onnx's reference": ReferenceEvaluator(model).run(None, {"stage0": image})[0],
}
for name, result in results.items():
    print(f"{name}: column and row {result[0, :, 0, 0].tolist()}")
    assert result[0, :, 0, 0].tolist() == [31, 31]
END
PYTHONPATH=opencv4 venv/bin/python places.py
venv/bin/python places.py
