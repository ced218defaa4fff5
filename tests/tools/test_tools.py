"""The tools beside train_net.py, as a user runs them."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys

import cv2
import pytest
import torch

from detectron2.modeling import build_model
from tsdd_d2 import save_model
from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.engine.configuration import load_config

from ..conftest import ROOT, TINY_CONFIG

pytestmark = pytest.mark.usefixtures("tiny_environment")


def run(tool, *arguments):
    return subprocess.run(
        [sys.executable, os.path.join(ROOT, "tools", tool), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=900,
    )


def module_of(tool):
    specification = importlib.util.spec_from_file_location(tool, os.path.join(ROOT, "tools", f"{tool}.py"))
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def main_of(tool):
    """``main`` of a tool: without the seconds that a process takes to start."""
    return module_of(tool).main


@pytest.mark.parametrize("tool", sorted(x for x in os.listdir(os.path.join(ROOT, "tools")) if x.endswith(".py")))
def test_no_tool_imports_detectron2_by_itself(tool):
    """The package keeps the warnings of that import from the user, who can do nothing about them."""
    with open(os.path.join(ROOT, "tools", tool)) as file:
        imports = re.findall(r"^(?:from|import) (detectron2|tsdd_d2)", file.read(), re.MULTILINE)
    assert imports[:1] in ([], ["tsdd_d2"])


def test_the_package_is_imported_without_a_warning():
    command = [sys.executable, "-W", "error::FutureWarning", "-c", "import tsdd_d2"]
    subprocess.run(command, check=True, cwd=ROOT, timeout=600)


def test_pictures_are_evenly_chosen():
    evenly = module_of("draw_rois")._evenly
    assert evenly(range(7), 4) == [0, 2, 4, 6]  # the whole list, and not its beginning
    assert evenly(range(3), 24) == [0, 1, 2] and evenly(range(9), 1) == [0]


def test_pictures_of_a_run(finished_run, tmp_path):
    (tmp_path / "elsewhere").write_text("kept")
    names = sorted(image["file_name"] for image in read_json(finished_run / "rois" / "round_02.json")["images"])
    os.symlink(tmp_path / "elsewhere", tmp_path / os.path.basename(names[0]))
    arguments = ["--run", str(finished_run), "--output", str(tmp_path), "--images", str(len(names))]
    assert main_of("draw_rois")(arguments) == 0
    pictures = {x for x in os.listdir(tmp_path) if x.endswith(".png")}
    assert pictures == {"rounds.png", *map(os.path.basename, names)}
    assert (tmp_path / "elsewhere").read_text() == "kept"  # a link in the folder is replaced and not followed
    grid = cv2.imread(str(tmp_path / "rounds.png"))
    assert grid.std() > 10
    assert (tmp_path / "rounds.md").read_text().count("\n") == 2 + 3  # three rounds


def test_pictures_of_images_of_one_name(finished_run, session_datasets, tmp_path, monkeypatch):
    run, root = tmp_path / "run", tmp_path / "datasets" / "tiny"
    shutil.copytree(finished_run / "rois", run / "rois")
    shutil.copy(finished_run / "config.yaml", run)
    last = read_json(run / "rois" / "round_02.json")
    last["images"] = last["images"][:2]
    ids = {image["id"] for image in last["images"]}
    last["annotations"] = [x for x in last["annotations"] if x["image_id"] in ids]
    for image, folder in zip(last["images"], ("benign", "malignant")):
        (root / folder).mkdir(parents=True)
        shutil.copy(session_datasets / "tiny" / image["file_name"], root / folder / "1.png")
        image["file_name"] = f"{folder}/1.png"
    write_json(run / "rois" / "round_02.json", last)
    shutil.copytree(session_datasets / "tiny" / "annotations", root / "annotations")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root.parent))
    assert main_of("draw_rois")(["--run", str(run)]) == 0
    assert {"1.png", "1_2.png"} <= set(os.listdir(run / "pictures"))


def test_pictures_of_missing_images(finished_run, tmp_path, monkeypatch, capsys):
    train = read_json(finished_run / "rois" / "round_00.json")
    write_json(tmp_path / "tiny" / "annotations" / "fold1_train.json", train)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert main_of("draw_rois")(["--run", str(finished_run), "--output", str(tmp_path / "pictures")]) == 2
    first = tmp_path / "tiny" / train["images"][0]["file_name"]
    assert capsys.readouterr().err.endswith(f"error: {first}: the file does not exist.\n")


@pytest.mark.parametrize("tool", ["draw_rois", "review_rois", "save_model"])
def test_an_output_that_cannot_be_written_is_one_message(tool, finished_run, tmp_path, capsys):
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "folder" / "output.pth"
    assert main_of(tool)(["--run", str(finished_run), "--output", str(output)]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message == f"error: {tmp_path / 'file' / 'folder'}: Not a directory"


def test_runs_of_the_training_tool_are_compared(finished_run, tmp_path, capsys):
    """A run, and a copy of it with all diagnoses turned round."""
    run, other = str(finished_run), tmp_path / "other"
    shutil.copytree(finished_run, other)
    path = other / "inference" / "model_final" / "found_box" / "diagnosis_tiny_fold1_test.json"
    report = read_json(path)
    for x in report["predictions"]:
        x["malignancy"] = 1 - x["malignancy"]
    write_json(path, report)
    assert main_of("compare_predictions")([run, "--with", str(other), "--bootstrap", "20"]) == 0
    rows = {x.split("|")[1].strip(): x.split("|")[6].split()[0] for x in capsys.readouterr().out.splitlines()[2:5]}
    auc = read_json(finished_run / "results.json")["last round"]["tiny_fold1_test"]["found box"]["diagnosis"]["AUC"]
    (first, a), (second, b), (_, difference) = rows.items()
    assert first.endswith(f"({run})") and second.endswith(f"({other})")
    assert [float(x) for x in (a, b, difference)] == pytest.approx([auc, 1 - auc, 2 * auc - 1], abs=1e-3)
    record = read_json(other / "run.json")
    record["evaluated_sha256"]["tiny_fold1_test"] = "0" * 64
    write_json(other / "run.json", record)
    assert main_of("compare_predictions")([run, "--with", str(other)]) == 2
    assert "tiny_fold1_test has changed" in capsys.readouterr().err
    (other / "results.json").unlink()
    assert main_of("compare_predictions")([run, "--with", str(other)]) == 2
    assert f"{other}: the run is not finished" in capsys.readouterr().err
    (other / "run.json").unlink()
    assert main_of("compare_predictions")([run, "--with", str(other)]) == 2
    assert str(other) in capsys.readouterr().err


def test_review_page_of_a_run(finished_run, tmp_path):
    result = run("review_rois.py", "--run", finished_run, "--output", tmp_path / "review.html")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "review.html").stat().st_size < 1e6
    last = read_json(finished_run / "rois" / "round_02.json")
    sources = [a.get("roi_source") for a in last["annotations"]]
    counts = f"{sources.count('refined')} refined and {sources.count('pseudo')} pseudo ROIs, 0."
    assert sources.count("pseudo") > 0 and counts in result.stdout


def test_selection_is_explained(finished_run, tmp_path):
    output = tmp_path / "selection.json"
    arguments = ("--candidates", 4, "--nms", 0.5, 0.9, "--output", output)
    result = run("explain_selection.py", "--run", finished_run, *arguments)
    assert result.returncode == 0, result.stderr
    explanation = read_json(output)
    groups = {"training, fa": 8, "training, pa": 8, "validation": 4}
    rows = explanation["candidates"]
    assert {(x["images_of"], x["images"], x["candidates"]) for x in rows} == {
        (*group, source) for group in groups.items() for source in ("NMS 0.5", "NMS 0.9", "jittered")
    } and len(rows) == 9
    for x in rows:
        assert 0 <= x["iou_first"] <= x["iou_best"] <= 1 and x["iou_guided"] <= x["iou_best"]
        assert ("keeps_roi" in x) == (x["images_of"] != "validation" and x["candidates"] != "jittered")
    for group in groups:  # the first of the jittered boxes is D-Net's own
        first = [x["iou_first"] for x in rows if x["images_of"] == group]
        assert first == pytest.approx([first[0]] * 3, abs=1e-5)
    margins = explanation["margins"]
    assert [x["margin"] for x in margins] == [0, 0.02, 0.05] * 2
    assert all(margins[i]["replaced"] >= margins[i + 1]["replaced"] for i in (0, 1, 3, 4))


def test_selection_of_a_run_of_an_older_version_on_a_gpu_is_explained(finished_run, tmp_path, capsys):
    older = shutil.copytree(finished_run, tmp_path / "run")
    config = (older / "config.yaml").read_text()
    changed = config.replace("DEVICE: cpu", "DEVICE: cuda").replace("    RANKING: expected_iou\n", "")
    assert len(changed) < len(config)
    (older / "config.yaml").write_text(changed)
    assert main_of("explain_selection")(["--run", str(older), "--candidates", "4"]) == 0
    table = capsys.readouterr().out
    assert main_of("explain_selection")(["--run", str(finished_run), "--candidates", "4"]) == 0
    assert "training, pa" in table and capsys.readouterr().out == table


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda run: os.remove(run / "model_final.pth"), "has no checkpoint model_final; it has "),
        (lambda run: shutil.copy(run / "config.yaml", run / "model_final.pth"), "model_final.pth cannot be read"),
        (
            lambda run: torch.save({"model": {"a": torch.zeros(1)}}, run / "model_final.pth"),
            "model_final.pth: The checkpoint is of another architecture",
        ),
    ],
)
def test_selection_of_a_run_without_its_last_weights(spoil, message, finished_run, tmp_path, capsys):
    run = shutil.copytree(finished_run, tmp_path / "run")
    spoil(run)
    assert main_of("explain_selection")(["--run", str(run)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--candidates", "0"], ["--nms", "nan"], ["--nms", "0.5", "2"]])
def test_selection_is_not_explained_by_numbers_that_cannot_be(option, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main_of("explain_selection")(["--run", str(tmp_path), *option])
    assert option[0] in capsys.readouterr().err


@pytest.mark.parametrize("tool", ["draw_rois", "review_rois", "explain_selection", "tune_spa"])
def test_no_run_to_look_at(tool, tmp_path, capsys):
    assert main_of(tool)(["--run", str(tmp_path)]) == 2
    assert "config.yaml" in capsys.readouterr().err and os.listdir(tmp_path) == []


@pytest.mark.parametrize("task", ["round", "dnet-step", "stage2-step", "assembly"])
def test_benchmarks_end_with_their_ratio(task):
    first_stage = task in ("round", "dnet-step")
    config_file = TINY_CONFIG if first_stage else os.path.join(ROOT, "tests", "tiny_stage2.yaml")
    side = 64 if task in ("round", "stage2-step") else 128
    arguments = ["--config-file", config_file, "--repeats", 1, "--batch-size", 1, "INPUT.MIN_SIZE_TEST", side]
    result = run("benchmark.py", "--task", task, *arguments)
    assert result.returncode == 0, result.stderr
    last = float(result.stdout.split()[-1])
    # a share of the step outside the networks, which noise makes negative, or a ratio of times
    assert last < 1 if task == "stage2-step" else last > 0


def test_prediction_is_timed_and_its_auc_compared(tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnxscript", reason="needs the extra: pip install -e '.[export]'")
    pytest.importorskip("onnxruntime", reason="needs the extra: pip install -e '.[export]'")
    benchmark = module_of("benchmark")
    monkeypatch.setattr(benchmark, "on_one_core", lambda: None)  # the other tests of this process keep theirs
    monkeypatch.setattr(benchmark, "COMPARED", ())  # tests/inference/test_export.py exports them
    name = "test_efficientnet"
    backbone = ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.BACKBONE.MODEL", name, "MODEL.CNET.BACKBONE", name]
    cfg = load_config(TINY_CONFIG, backbone)
    model = str(tmp_path / "model.pth")
    save_model(model, cfg, build_model(cfg), threshold=0.5, training_set={"name": "tiny_fold1_train", "sha256": ""})
    settings = ["--config-file", TINY_CONFIG, "--repeats", "1", "--batch-size", "2"]
    assert benchmark.main(["--task", "predict", "--model", model, *settings, "--peer"]) == 0
    printed = capsys.readouterr().out
    exact, float32, _ = (float(x) for x in re.findall(r"^AUC on 8 images, .*: (\S+)$", printed, re.MULTILINE))
    assert float32 == exact
    assert "ONNX in int8, 2 image(s): " in printed and float(printed.split()[-1]) > 0


@pytest.mark.parametrize(
    "tool",
    ["train_net", "draw_rois", "review_rois", "benchmark", "explain_selection", "reproduce", "tune_spa", "update_readme"],
)
def test_help_has_examples(tool, capsys):
    module = module_of(tool)
    with pytest.raises(SystemExit) as end:
        (module.run if tool == "train_net" else module.main)(["--help"])
    printed = capsys.readouterr().out
    assert end.value.code == 0 and "Examples" in printed and f"tools/{tool}.py" in printed
