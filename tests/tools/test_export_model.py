"""export_model.py as a user runs it, and what a stranger can do with its file."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from PIL import Image

import tsdd_d2
from tsdd_d2 import Predictor
from tsdd_d2.data.files import read_json
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.inference.export import OPSET, largest_differences

from ..conftest import ROOT, TINY_CONFIG
from ..inference.test_export import (
    BOX_TOLERANCE,
    PROBABILITY_TOLERANCE,
    SIZES,
    TRAINING_SET,
    answers_of,
    assert_the_same,
    model_file_of,
    noise,
)
from .test_tools import main_of

onnx = pytest.importorskip("onnx", reason="needs the extra: pip install -e '.[export]'")


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return tmp_path_factory.mktemp("models") / "model.pth"


@pytest.fixture(scope="module")
def model_file(model_path):
    """A network of the first stage."""
    return model_file_of(load_config(TINY_CONFIG), model_path)


@pytest.fixture(scope="module")
def exported(model_file, model_path, tmp_path_factory):
    """Its ONNX file."""
    path = tmp_path_factory.mktemp("onnx") / "new" / "model.onnx"
    assert main_of("export_model")(["--model", str(model_path), "--output", str(path)]) == 0
    return path


@pytest.mark.parametrize("size", SIZES)
def test_the_answers_are_those_of_pytorch(model_file, exported, size):
    images = noise(1, 1, 3, *size)
    assert_the_same(answers_of(exported, images), model_file, images)


def test_the_file_is_complete_and_says_what_is_in_it(exported):
    assert sorted(os.listdir(exported.parent)) == ["model.json", "model.onnx"]
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    assert [(x.domain, x.version) for x in model.opset_import] == [("", OPSET)]
    metadata = {x.key: x.value for x in model.metadata_props}
    assert json.loads(metadata.pop("class_names")) == ["benign", "malignant"]
    assert json.loads(metadata.pop("training_set")) == TRAINING_SET
    assert metadata == {
        "format": "RGB",
        "min_size": "64",
        "max_size": "96",
        "threshold": "0.3",
        "opset": str(OPSET),
        "package_version": tsdd_d2.__version__,
        "precision": "float32",
    }
    beside = read_json(exported.parent / "model.json")
    assert beside.pop("class_names") == ["benign", "malignant"] and beside.pop("training_set") == TRAINING_SET
    assert {key: str(value) for key, value in beside.items()} == metadata
    assert ROOT.encode() not in exported.read_bytes()


@pytest.mark.parametrize("size", [(64, 72), (90, 131), (200, 45), (83, 192)])
def test_the_example_of_the_documentation_answers_as_the_predictor(model_file, exported, tmp_path, size):
    pixels = noise(3, *size, 3).numpy()
    Image.fromarray(pixels).save(tmp_path / "scan.png")
    example = examples()[0]
    imports = set(re.findall(r"^(?:import|from) (\w+)", example, re.MULTILINE))
    assert imports == {"json", "sys", "numpy", "onnxruntime", "PIL"}
    (tmp_path / "example.py").write_text(example)
    command = [sys.executable, "example.py", str(exported), "scan.png"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=240)
    assert result.returncode == 0, result.stderr
    answer, (expected,) = json.loads(result.stdout), Predictor(model_file)(pixels, channel_order="RGB")
    # the box is in pixels of the scan, up to 2.1 to a pixel of the input
    assert answer["box"] == pytest.approx(expected.box, abs=2.1 * BOX_TOLERANCE)
    assert answer["malignancy"] == pytest.approx(expected.malignancy, abs=PROBABILITY_TOLERANCE)
    assert answer["class"] == expected.predicted_class


def test_the_example_refuses_a_damaged_image(exported, tmp_path):
    """Pillow tells of damage once: not if it has looked for EXIF data before."""
    Image.fromarray(noise(3, 64, 72, 3).numpy()).save(tmp_path / "scan.png")
    content = bytearray((tmp_path / "scan.png").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "scan.png").write_bytes(content)
    (tmp_path / "example.py").write_text(examples()[0])
    command = [sys.executable, "example.py", str(exported), "scan.png"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=240)
    assert result.returncode != 0 and result.stdout == ""


def test_the_example_for_openvino_computes_in_float32(model_file, exported, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.chdir(exported.parent)
    images = noise(1, 1, 3, 80, 96)
    names = {"pixels": images.numpy()}
    exec(examples()[1], names)
    expected = answers_of(exported, images)
    assert names["boxes"] == pytest.approx(expected["boxes"], abs=BOX_TOLERANCE)
    assert names["malignancy"] == pytest.approx(expected["malignancy"], abs=PROBABILITY_TOLERANCE)


def examples():
    with open(os.path.join(ROOT, "docs", "onnx.md"), encoding="utf-8") as file:
        return re.findall(r"```python\n(.*?)```", file.read(), re.DOTALL)


def test_differences_are_measured(model_file, exported, monkeypatch):
    images = noise(4, 1, 3, 80, 96)
    same = largest_differences(model_file, exported, images)
    assert same["boxes"] < BOX_TOLERANCE and same["malignancy"] < PROBABILITY_TOLERANCE
    with torch.no_grad():
        monkeypatch.setattr(model_file.model.cnet.classifier, "bias", torch.nn.Parameter(torch.tensor([0.0, 9.0])))
    other = largest_differences(model_file, exported, images)
    assert other["malignancy"] > 0.01 and other["boxes"] < BOX_TOLERANCE


@pytest.mark.parametrize("options", [["--output", "model.pb"], ["--batch-size", "0"], ["--model", "missing.pth"]])
def test_unusable_arguments(model_file, model_path, tmp_path, monkeypatch, capsys, options):
    monkeypatch.chdir(tmp_path)
    arguments = ["--model", str(model_path), "--output", "model.onnx", *options]
    assert main_of("export_model")(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ") and os.listdir(tmp_path) == []


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as end:
        main_of("export_model")(["--help"])
    help_text = capsys.readouterr().out
    assert end.value.code == 0 and "Examples" in help_text and "tools/export_model.py" in help_text
