"""save_model.py and predict.py, as a user runs them."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tsdd_d2 import Predictor, load_model
from tsdd_d2.engine.model_file import save_model_of_run

from ..data.test_dicom import save_dicom
from .test_tools import main_of, run


@pytest.fixture(scope="module")
def model(finished_run, session_datasets, tmp_path_factory):
    """A model file."""
    path = tmp_path_factory.mktemp("model") / "model.pth"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(session_datasets))
        save_model_of_run(finished_run, path, "model_final")
    return str(path)


@pytest.fixture
def images(session_datasets, tmp_path):
    """A folder with three images, two of which share their base name."""
    folder = tmp_path / "scans"
    (folder / "left").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.png", "left/a.png"), start=1):
        shutil.copy(session_datasets / "tiny" / "images" / f"{number:03d}.png", folder / name)
    return folder


@pytest.fixture
def predict(model, tmp_path):
    """tools/predict.py on given inputs; returns its exit code."""
    return lambda *inputs, options=(): main_of("predict")(
        ["--model", model, "--input", *map(str, inputs), "--output", str(tmp_path / "out"), *options]
    )


def read_lines(folder):
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def test_from_a_run_to_predictions(finished_run, tiny_environment, images, tmp_path):
    model = tmp_path / "model.pth"
    options = ["--checkpoint", "model_final", "--threshold", "0.4"]
    assert main_of("save_model")(["--run", str(finished_run), "--output", str(model), *options]) == 0
    assert load_model(model).threshold == 0.4
    result = run("predict.py", "--model", model, "--input", images / "*.png", "--output", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "b.png", "predictions.jsonl"]


def test_each_image_has_its_line_and_its_picture(predict, model, images, tmp_path):
    assert predict(images, options=["--candidates", "2", "--augment"]) == 0
    lines = read_lines(tmp_path / "out")
    assert [os.path.relpath(x["file_name"], images) for x in lines] == ["a.png", "b.png", "left/a.png"]
    assert [x["picture"] for x in lines] == ["a.png", "b.png", "a_2.png"]
    expected = Predictor(load_model(model), candidates=2, augment=True)([x["file_name"] for x in lines])
    for line, prediction in zip(lines, expected):
        assert line["box"] == list(prediction.box) and line["malignancy"] == prediction.malignancy
        assert len(line["candidates"]) == len(prediction.candidates)
        picture = np.asarray(Image.open(tmp_path / "out" / line["picture"]))
        assert min(picture.shape[:2]) == 480 and picture.shape[2] == 3
        assert (picture.std(axis=2) > 30).any()  # colours on a grey image


def test_each_frame_of_a_dicom_file(predict, tmp_path):
    (tmp_path / "study").mkdir()
    frames = np.random.RandomState(0).randint(0, 256, (3, 64, 72), dtype=np.uint8)
    save_dicom(tmp_path / "study" / "IM0001", frames, regions=[(10, 0, 71, 63)])
    assert predict(tmp_path / "study") == 0
    lines = read_lines(tmp_path / "out")
    assert [x["frame"] for x in lines] == [1, 2, 3] and lines[0]["region"] == [10, 0, 72, 64]
    assert [x["picture"] for x in lines] == [f"IM0001_frame000{i}.png" for i in (1, 2, 3)]
    assert all((tmp_path / "out" / x["picture"]).is_file() for x in lines)


def test_a_broken_file_is_reported_and_left_out(predict, images, tmp_path, capsys):
    (images / "aa.png").write_bytes(b"no image")
    (images / "ab.dcm").write_bytes(b"no DICOM")
    assert predict(images) == 1
    error = capsys.readouterr().err
    assert "aa.png: the image cannot be read" in error and "ab.dcm: the DICOM file cannot be read" in error
    assert "2 of 5 files" in error
    assert len(read_lines(tmp_path / "out")) == 3


@pytest.mark.parametrize("argument", ["input", "model", "output", "device"])
def test_unusable_arguments(predict, images, tmp_path, capsys, argument):
    options, inputs = [], images
    if argument == "input":
        inputs = tmp_path / "nothing*.png"
    elif argument == "model":
        options = ["--model", str(images / "a.png")]
    elif argument == "output":
        options = ["--output", str(images)]
    else:
        options = ["--device", "abacus"]
    before = sorted(os.listdir(images))
    assert predict(inputs, options=options) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert sorted(os.listdir(images)) == before and not (tmp_path / "out").exists()


def test_a_batch_of_none_is_refused(predict, images):
    with pytest.raises(SystemExit) as error:
        predict(images, options=["--batch-size", "0"])
    assert error.value.code == 2


def test_no_run_to_make_a_model_of(tmp_path, capsys):
    assert main_of("save_model")(["--run", str(tmp_path), "--output", str(tmp_path / "model.pth")]) == 2
    assert "config.yaml" in capsys.readouterr().err and os.listdir(tmp_path) == []


@pytest.mark.parametrize("tool", ["predict", "save_model"])
def test_help_has_examples(tool, capsys):
    with pytest.raises(SystemExit) as end:
        main_of(tool)(["--help"])
    help_text = capsys.readouterr().out
    assert end.value.code == 0 and "Examples" in help_text and f"tools/{tool}.py" in help_text
