"""tools/compare_figures.py on predictions; test_tools.py has it on a run."""

import os
import runpy

import cv2
import pytest

from tsdd_d2.data.files import write_json

from ..conftest import ROOT
from ..report.conftest import descriptor, prediction

main = runpy.run_path(os.path.join(ROOT, "tools", "compare_figures.py"))["main"]
pytestmark = pytest.mark.usefixtures("tiny_environment")


@pytest.fixture
def files(tmp_path):
    """Two models on the tiny data set, see tests/conftest.py."""
    for name, malignancy in (("retinanet", 0.3), ("tsddnet", 0.6)):
        entries = [prediction(i, (i - 1) // 2 % 2, malignancy, f"p{(i - 1) // 2}") for i in range(21, 29)]
        content = {**descriptor(name), "predictions": {"tiny_fold1_test": entries}}
        write_json(tmp_path / name / "predictions.json", content)
    return ["--predictions", *(str(tmp_path / name / "predictions.json") for name in ("retinanet", "tsddnet"))]


def test_png_and_pdf(files, tmp_path, capsys):
    assert main([*files, "--images", "4", "--output", str(tmp_path / "out" / "grid")]) == 0
    assert sorted(os.listdir(tmp_path / "out")) == ["grid.pdf", "grid.png"]
    assert (tmp_path / "out" / "grid.pdf").read_bytes().startswith(b"%PDF")
    four = cv2.imread(str(tmp_path / "out" / "grid.png"))
    assert main([*files, "--image-ids", "25", "22", "--output", str(tmp_path / "two")]) == 0
    two = cv2.imread(str(tmp_path / "two.png"))
    assert four.shape[1] == two.shape[1] and four.shape[0] > 1.7 * two.shape[0]
    assert "two.pdf" in capsys.readouterr().out


def test_the_localisation_of_a_run_is_no_diagnosis(tmp_path, capsys):
    path = tmp_path / "localisation_tiny.json"
    write_json(path, {"dataset": "tiny", "predictions": []})
    assert main(["--predictions", str(path), "--output", str(tmp_path / "grid")]) == 2
    assert f"{path} is neither" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--image-ids", "99"], "no prediction for image 99 in RetinaNet, TSDDNet"),
        (["--labels", "one"], "2 files of predictions and 1 labels"),
        (["--data-set", "other"], "Not all files have predictions for other"),
    ],
)
def test_problems_are_told(files, arguments, words, tmp_path, capsys):
    assert main([*files, *arguments, "--output", str(tmp_path / "grid")]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "grid.png").exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "required"),
        (["--run", "x", "--labels", "a"], "belong to --predictions"),
        (["--run", "x", "--images", "0"], "1 or more"),
    ],
)
def test_arguments_that_make_no_sense(arguments, words, capsys):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2 and words in capsys.readouterr().err
