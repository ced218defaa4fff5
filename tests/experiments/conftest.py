"""A stand-in for the training tool, which leaves in a moment what the real one leaves."""

import pytest

from tsdd_d2.experiments import Run
from tsdd_d2.experiments import plan as plan_module
from tsdd_d2.experiments import training as training_module

# Counts its calls; fails or sleeps where a file beside the run's folder tells it to.
STAND_IN = """
import json, os, sys, time
options = dict(zip(sys.argv[1:][::-1][1::2], sys.argv[1:][::-1][0::2]))  # KEY VALUE pairs from the end
folder = options["OUTPUT_DIR"]
name, val = options["DATASETS.TEST"][2:-3], options["DATASETS.VAL"][2:-3]
def write(path, content):
    os.makedirs(os.path.dirname(os.path.join(folder, path)), exist_ok=True)
    with open(os.path.join(folder, path), "w") as file:
        json.dump(content, file)
def predictions(malignancy):
    image = {"image_id": 21, "file_name": "images/021.png", "patient_id": "p10", "label": 0}
    found = {"malignancy": malignancy, "box": [1.23456789, 2, 30, 123.456789], "score": 0.987654321}
    nothing = {"image_id": 22, "malignancy": 0.5, "box": None, "score": None}
    return {"predictions": [{**image, **found}, {**image, **nothing}]}
if "--eval-only" in sys.argv:
    write(f"inference/found_box/diagnosis_{name}.json", predictions(0.1))
    sys.exit()
with open(os.path.join(folder, "calls"), "a") as file:
    file.write("x")
if os.path.exists(folder + ".fails"):
    print("error: DATASETS.TRAIN is missing")
    sys.exit(2)
if os.path.exists(folder + ".sleeps"):
    time.sleep(1.5)
write(f"inference/diagnosis_{val}.json", {"youden_threshold": 0.43})
write(f"inference/model_final/manual_roi/diagnosis_{name}.json", predictions(0.9))
write(f"inference/model_final/found_box/diagnosis_{name}.json", predictions(0.123456789))
write("config.yaml", {})
write("model_final.pth", {})
write("results.json", {})
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch, tiny_dataset):
    """The data set "tiny", and the stand-in instead of the training tool in this process."""
    (tmp_path / "tool.py").write_text(STAND_IN)
    for module in (plan_module, training_module):
        monkeypatch.setattr(module, "TRAIN_TOOL", str(tmp_path / "tool.py"))


@pytest.fixture
def run(tmp_path):
    """A run on the tiny data set."""
    return Run(str(tmp_path / "out"), "retinanet", "tiny", "cpu", 1, 0.5, 0)


def calls(run):
    """How often the stand-in was called for a run."""
    with open(f"{run.folder}/calls") as file:
        return len(file.read())
