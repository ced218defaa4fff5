"""save_model.py and predict.py, as a user runs them."""

import json
import os
import shutil

import numpy as np
import pydicom
import pytest
from PIL import Image

from tsdd_d2 import Predictor, load_model
from tsdd_d2.inference.model_file import save_model_of_run

from ..inference.test_dicom import save_dicom
from .test_tools import main_of, module_of, run


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
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "b.png", "predictions.jsonl", "settings.json"]


def test_each_image_has_its_line_and_its_picture(predict, model, images, tmp_path):
    assert predict(images, options=["--candidates", "2"]) == 0
    lines = read_lines(tmp_path / "out")
    assert [os.path.relpath(x["file_name"], images) for x in lines] == ["a.png", "b.png", "left/a.png"]
    assert [x["picture"] for x in lines] == ["a.png", "b.png", "a_2.png"]
    expected = Predictor(load_model(model), candidates=2)([x["file_name"] for x in lines])
    for line, prediction in zip(lines, expected):
        assert line["box"] == pytest.approx(prediction.box, abs=1e-3)
        assert line["malignancy"] == pytest.approx(prediction.malignancy, abs=1e-5)
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


def test_without_a_folder_the_predictions_are_printed(model, images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir(tmp_path))
    (images / "c.png").write_bytes(b"no image")
    arguments = ["--model", model, "--input", str(images / "*.png")]
    expected = Predictor(load_model(model))([str(images / "a.png"), str(images / "b.png")])

    assert main_of("predict")([*arguments, "--json"]) == 1  # c.png
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [x["file_name"] for x in lines] == [x.file_name for x in expected]
    assert [x["malignancy"] for x in lines] == pytest.approx([x.malignancy for x in expected], abs=1e-5)
    assert [x["predicted_class"] for x in lines] == [x.predicted_class for x in expected]

    assert main_of("predict")(arguments) == 1
    words = capsys.readouterr().out.splitlines()
    assert all(x.file_name in line and x.predicted_class in line for x, line in zip(expected, words, strict=True))
    assert sorted(os.listdir(tmp_path)) == before


def test_a_broken_file_is_reported_and_left_out(predict, images, tmp_path, capsys):
    (images / "aa.png").write_bytes(b"no image")
    (images / "ab.dcm").write_bytes(b"no DICOM")
    assert predict(images) == 1
    error = capsys.readouterr().err
    assert "aa.png cannot be decoded" in error and "ab.dcm: the DICOM file cannot be read" in error
    assert "2 files or frames of 5 files" in error
    assert len(read_lines(tmp_path / "out")) == 3


def test_a_report_among_dicom_files_is_left_out(predict, tmp_path, capsys):
    (tmp_path / "study").mkdir()
    save_dicom(tmp_path / "study" / "IM0001", np.random.RandomState(0).randint(0, 256, (64, 72), dtype=np.uint8))
    report = pydicom.dcmread(save_dicom(tmp_path / "study" / "IM0002", np.zeros((64, 72), np.uint8)))
    del report.PixelData, report.Rows, report.Columns
    report.SOPClassUID = pydicom.uid.BasicTextSRStorage
    report.save_as(tmp_path / "study" / "IM0002")
    assert predict(tmp_path / "study") == 0
    assert "IM0002" in capsys.readouterr().err and len(read_lines(tmp_path / "out")) == 1


def test_an_image_too_narrow_is_reported_and_left_out(predict, images, tmp_path, capsys):
    Image.fromarray(np.zeros((1000, 1), np.uint8)).save(images / "aa.png")
    assert predict(images) == 1
    error = capsys.readouterr().err
    assert "aa.png: of 1 x 1000 pixels nothing is left" in error and "1 files or frames of 4 files" in error
    assert len(read_lines(tmp_path / "out")) == 3


def interrupted(monkeypatch, arguments, after):
    """Calls the tool, and interrupts it before it draws another picture after some."""
    module = module_of("predict")
    draw, drawn = module.draw_prediction, []

    def draw_or_stop(image, prediction):
        if len(drawn) == after:
            raise KeyboardInterrupt
        drawn.append(image)
        return draw(image, prediction)

    monkeypatch.setattr(module, "draw_prediction", draw_or_stop)
    return module.main(arguments)


def test_without_pictures(predict, images, tmp_path):
    assert predict(images, options=["--no-pictures"]) == 0
    assert sorted(os.listdir(tmp_path / "out")) == ["predictions.jsonl", "settings.json"]
    assert [x["picture"] for x in read_lines(tmp_path / "out")] == [None] * 3
    assert predict(images, options=["--resume"]) == 2  # with pictures


def test_it_goes_on_from_another_folder(model, images, tmp_path, monkeypatch):
    """No file has two lines, though their names were relative to the first folder."""
    monkeypatch.chdir(images)
    arguments = ["--model", model, "--output", str(tmp_path / "out"), "--input"]
    assert interrupted(monkeypatch, [*arguments, "a.png", "b.png", "left"], after=2) == 130
    monkeypatch.chdir(tmp_path)
    assert main_of("predict")([*arguments, "scans", "--resume"]) == 0
    names = [x["file_name"] for x in read_lines(tmp_path / "out")]
    assert names == ["a.png", "b.png", str(images / "left" / "a.png")]


def test_an_interrupted_one_goes_on(model, images, tmp_path, monkeypatch, capsys):
    arguments = ["--model", model, "--input", str(images), "--output"]
    out = tmp_path / "out"
    assert main_of("predict")([*arguments, str(tmp_path / "whole")]) == 0
    assert interrupted(monkeypatch, [*arguments, str(out)], after=2) == 130
    assert "Interrupted: 2 of 3 files are done; --resume goes on" in capsys.readouterr().err
    first = (out / "predictions.jsonl").read_text()
    assert first.count("\n") == 2

    assert main_of("predict")([*arguments, str(out)]) == 2
    assert "or go on there with --resume" in capsys.readouterr().err
    assert (out / "predictions.jsonl").read_text() == first
    with open(out / "predictions.jsonl", "a") as file:
        file.write('{"file_name": "cut o')
    (out / ".a.png.17.tmp").write_text("")  # of a kill
    assert main_of("predict")([*arguments, str(out), "--resume"]) == 0
    assert sorted(os.listdir(out)) == sorted(os.listdir(tmp_path / "whole"))
    whole = [x["file_name"] for x in read_lines(tmp_path / "whole")]
    assert [x["file_name"] for x in read_lines(out)] == whole
    assert [x["picture"] for x in read_lines(out)] == ["a.png", "b.png", "a_2.png"]
    assert (out / "predictions.jsonl").read_text().startswith(first)
    before = (out / "predictions.jsonl").read_text()
    assert main_of("predict")([*arguments, str(out), "--resume"]) == 0  # nothing is left
    assert (out / "predictions.jsonl").read_text() == before


def test_a_file_whose_frames_were_interrupted_is_read_again(model, tmp_path, monkeypatch, capsys):
    for number, name in enumerate(("IM0001", "IM0002")):
        save_dicom(tmp_path / name, np.random.RandomState(number).randint(0, 256, (3, 64, 72), dtype=np.uint8))
    arguments = ["--model", model, "--input", str(tmp_path / "IM*"), "--output", str(tmp_path / "out")]
    assert interrupted(monkeypatch, arguments, after=5) == 130
    assert "Interrupted: 1 of 2 files" in capsys.readouterr().err
    assert main_of("predict")([*arguments, "--resume"]) == 0
    lines = read_lines(tmp_path / "out")
    assert [x["picture"] for x in lines] == [f"IM000{i}_frame000{j}.png" for i in (1, 2) for j in (1, 2, 3)]


def test_a_broken_dicom_is_reported_after_an_interruption_too(model, images, tmp_path, monkeypatch, capsys):
    frames = np.random.RandomState(0).randint(0, 256, (3, 64, 72), dtype=np.uint8)
    content = save_dicom(tmp_path / "IM0001", frames).read_bytes()
    (tmp_path / "IM0001").write_bytes(content[:-100])
    inputs = [str(tmp_path / "IM0001"), str(images / "a.png"), str(images / "b.png")]
    arguments = ["--model", model, "--input", *inputs, "--output", str(tmp_path / "out"), "--batch-size", "1"]
    assert interrupted(monkeypatch, arguments, after=1) == 130
    assert len(read_lines(tmp_path / "out")) == 1  # a.png: of fewer pixels than stated no frame is to be trusted
    capsys.readouterr()
    assert main_of("predict")([*arguments, "--resume"]) == 1
    assert "IM0001" in capsys.readouterr().err
    assert sorted(x["picture"] for x in read_lines(tmp_path / "out")) == ["a.png", "b.png"]


def test_pictures_in_the_folder_of_the_images_are_no_input(model, images, monkeypatch):
    arguments = ["--model", model, "--input", str(images), "--output", str(images / "out")]
    assert interrupted(monkeypatch, arguments, after=2) == 130
    assert main_of("predict")([*arguments, "--resume"]) == 0
    assert [x["picture"] for x in read_lines(images / "out")] == ["a.png", "b.png", "a_2.png"]


def test_interrupted_before_the_first_line(model, images, tmp_path, monkeypatch):
    arguments = ["--model", model, "--input", str(images), "--output", str(tmp_path / "out"), "--resume"]
    assert interrupted(monkeypatch, arguments, after=0) == 130
    (tmp_path / "out" / "a.png").write_bytes(b"of the first image, without its line")
    assert main_of("predict")(arguments) == 0
    files = ["a.png", "a_2.png", "b.png", "predictions.jsonl", "settings.json"]
    assert sorted(os.listdir(tmp_path / "out")) == files


def test_two_models_do_not_mix(predict, images, tmp_path, capsys):
    assert predict(images / "a.png") == 0
    before = (tmp_path / "out" / "predictions.jsonl").read_bytes()
    assert predict(images, options=["--resume", "--candidates", "3"]) == 2
    assert "begun with another model" in capsys.readouterr().err
    (tmp_path / "out" / "settings.json").write_text("{")
    assert predict(images, options=["--resume"]) == 2
    assert "settings.json is not a JSON file" in capsys.readouterr().err
    assert (tmp_path / "out" / "predictions.jsonl").read_bytes() == before


def test_nothing_to_resume(predict, images, tmp_path, capsys):
    before = sorted(os.listdir(images))
    assert predict(images, options=["--output", str(images), "--resume"]) == 2
    assert "not an empty folder; name another one." in capsys.readouterr().err
    assert sorted(os.listdir(images)) == before
    assert predict(images / "a.png") == 0
    path = tmp_path / "out" / "predictions.jsonl"
    for line in (
        '{"a": 1}',
        '{"file_name": "a.png", "frame": null}',
        '{"picture": "a.png", "frame": null}',
        '{"file_name": ["a.png"], "frame": null, "picture": "a.png"}',
        '{"file_name": "a.png", "frame": null, "picture": "../a.png"}',
        "[" * 9000,
    ):
        path.write_text(line + "\n")
        assert predict(images, options=["--resume"]) == 2
        assert "holds a line that is no prediction" in capsys.readouterr().err
        assert path.read_text() == line + "\n"


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
