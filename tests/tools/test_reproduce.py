"""tools/reproduce.py with a stand-in for the training tool, and once with the real one."""

import os
import runpy
import sys
import types

import pytest

import tsdd_d2
from tsdd_d2.data.files import read_json

from ..methods.tiny import tiny_overrides
from ..conftest import ROOT, make_tiny_dataset
from ..experiments.conftest import stand_in  # noqa: F401

TOOL = os.path.join(ROOT, "tools", "reproduce.py")


@pytest.fixture
def rendered(monkeypatch):
    """What the report was asked to render, instead of a report."""
    calls = []
    report = types.ModuleType("tsdd_d2.report")
    report.render = lambda *arguments: calls.append(arguments) or "report.html"
    monkeypatch.setitem(sys.modules, "tsdd_d2.report", report)
    monkeypatch.setattr(tsdd_d2, "report", report, raising=False)
    return calls


@pytest.fixture
def reproduce(tmp_path, rendered, stand_in):  # noqa: F811
    """The tool in this process, on the tiny data set; returns its exit code."""
    main = runpy.run_path(TOOL)["main"]

    def call(experiment, *arguments, output="out"):
        options = ["--experiment", experiment, "--data", "tiny", "--output", str(tmp_path / output)]
        return main([*options, *arguments])

    return call


def test_dry_run_prints_the_plan_and_writes_nothing(reproduce, rendered, tmp_path, capsys):
    assert reproduce("table2", "--p", "0.5", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert printed.count("missing") == 6 and "tsdd_b_stage1_tiny_cpu_fold1_p0.5_seed0" in printed
    assert "6 runs, 6 to train: unknown for tsddnet_stage1, tsddnet" in printed
    assert not (tmp_path / "out").exists() and rendered == []


def test_without_the_data_set_folds_are_those_of_the_runs(reproduce, rendered, tiny_dataset, tmp_path, capsys):
    assert reproduce("table1", "--methods", "retinanet", "--p", "0.5") == 0
    tiny_dataset.rename(tmp_path / "elsewhere")
    assert reproduce("table1", "--methods", "retinanet", "--p", "0.5", "--no-train") == 0
    assert rendered[1][1] == rendered[0][1] and [x["fold"] for x in rendered[1][1]] == [1]
    assert "shown are the folds of which there are runs, 1." in capsys.readouterr().out
    assert reproduce("table1", "--methods", "retinanet", "--p", "0.5") == 2
    assert "prepare_csv.py" in capsys.readouterr().err
    assert reproduce("table1", "--no-train", output="empty") == 2


def test_a_table_from_its_runs_and_another_from_the_same(reproduce, rendered, tmp_path, capsys):
    assert reproduce("table1", "--methods", "tsddnet", "retinanet", "--p", "0.5", "--jobs", "2") == 0
    printed = capsys.readouterr().out
    assert "3 training processes took" in printed and "none of them ran in" in printed
    (experiment, planned, runs, folder, threshold), = rendered
    assert (experiment, folder, threshold) == ("table1", str(tmp_path / "out" / "results"), "0.5")
    assert [(x["method"], x["stage"], x["status"]) for x in planned] == [
        ("tsddnet", 2, "finished"), ("retinanet", None, "finished"), ("tsddnet", 1, "finished"),
    ]  # fmt: skip
    assert planned[1]["log"] == "../retinanet_tiny_cpu_fold1_p0.5_seed0/console.log"
    assert [run["predictions"]["tiny_fold1_test"][0]["malignancy"] for run in runs] == [0.12346] * 3
    # the estimate is from what has finished
    assert reproduce("fig9", "--methods", "tsddnet", "--p", "0.5", "--threshold", "youden-val") == 0
    assert "0 to train: nothing" in capsys.readouterr().out
    experiment, planned, runs, _, threshold = rendered[1]
    assert [(x["method"], x["stage"]) for x in planned] == [(x["method"], x["stage"]) for x in runs] == [
        ("tsddnet", 1), ("tsddnet", 2),
    ]  # fmt: skip
    assert threshold == "youden-val"


def test_a_failed_run_is_reported_and_stops_no_other(reproduce, rendered, tmp_path, capsys):
    os.makedirs(tmp_path / "out")
    (tmp_path / "out" / "tsddnet_stage1_tiny_cpu_fold1_p0.5_seed0.fails").write_text("")
    assert reproduce("table1", "--methods", "tsddnet", "retinanet", "--p", "0.5") == 1
    assert "failed: tsddnet_stage1_tiny_cpu_fold1_p0.5_seed0: exit code 2" in capsys.readouterr().err
    _, planned, runs, _, _ = rendered[0]
    # tsddnet, retinanet, and the first stage, for the list of runs
    assert [x["status"] for x in planned] == ["missing", "finished", "failed"] and len(runs) == 1
    assert planned[2]["log"] == "../tsddnet_stage1_tiny_cpu_fold1_p0.5_seed0/console.log"


def test_kept_predictions_render_without_training(reproduce, rendered, tmp_path):
    kept = str(tmp_path / "kept")
    assert reproduce("table1", "--methods", "tsddnet", "--p", "0.5", "--results", kept) == 0
    assert {x["log"] for x in rendered[0][1]} == {None}  # the runs are elsewhere
    arguments = ["--no-train", "--methods", "tsddnet", "faster_rcnn", "--p", "0.5", "--results", kept]
    assert reproduce("table1", *arguments, output="kept/runs") == 0
    assert [x["status"] for x in rendered[1][1]] == ["finished", "missing", "finished"]
    assert rendered[1][2] == rendered[0][2]


def test_external_validation_of_every_stored_model(reproduce, rendered, tiny_dataset, capsys):
    make_tiny_dataset(tiny_dataset.parent / "other")
    arguments = ["--methods", "retinanet", "--p", "0.5", "--test-data"]
    assert reproduce("roc", *arguments, "other_fold1_val") == 0
    assert list(rendered[0][2][0]["predictions"]) == ["tiny_fold1_test", "other_fold1_val"]
    assert reproduce("roc", *arguments, "tiny_fold1_val") == 2
    assert "tiny_fold1_val: 2 of its 2 patients" in capsys.readouterr().err and len(rendered) == 1


def test_a_misspelt_override_leaves_the_folder_as_it_was(reproduce, rendered, tmp_path, capsys):
    arguments = ["--methods", "retinanet", "--p", "0.5"]
    assert reproduce("table1", *arguments, "--overrides", "SOLVER.MAXITER", "3") == 2
    assert "SOLVER.MAXITER" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert reproduce("table1", *arguments) == 0


def test_methods_that_a_figure_of_stages_does_not_show(reproduce, rendered, tmp_path, capsys):
    assert reproduce("fig9", "--methods", "retinanet", "--p", "0.5") == 2
    assert "fig9 shows the stages of tsddnet and tsdd_b_sd alone" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_executor_options_are_text_unless_they_are_plainly_something_else():
    option = runpy.run_path(TOOL)["executor_option"]
    texts = ["slurm_time=12:00:00", "slurm_account=012345", "slurm_partition=gpu", "a=b=c", "slurm_mem=4GB"]
    assert [option(x) for x in texts] == [tuple(x.split("=", 1)) for x in texts]
    assert [option(f"x={value}")[1] for value in ("90", "-1", "true", "{a: 1}", "[1, b]")] == [
        90, -1, True, {"a": 1}, [1, "b"],
    ]  # fmt: skip


def test_other_data_only_where_they_are_shown(reproduce, rendered, capsys):
    with pytest.raises(SystemExit):
        reproduce("fig9", "--test-data", "other_fold1_test")
    assert "fig9 shows the test fold alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--folds", "2"], "fold2_train.json does not exist"),
        (["--test-data", "absent_fold1_test"], "absent_fold1_test"),
        (["--executor-options", "slurm_partition=gpu"], "slurm_partition"),
    ],
)
def test_bad_input_exits_with_2_and_trains_nothing(reproduce, rendered, tmp_path, capsys, arguments, message):
    assert reproduce("table1", *arguments) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists() and rendered == []


def test_with_the_real_training_tool(tiny_environment, session_datasets, rendered, tmp_path):
    """C-Net on the manual ROI, trained and then evaluated on another data set without training."""
    make_tiny_dataset(session_datasets / "other")
    options = ["--experiment", "table1", "--data", "tiny", "--methods", "cnet_oracle", "--folds", "1", "--p", "0.5"]
    options += ["--output", str(tmp_path), "--test-data", "other_fold1_train"]
    sizes = tiny_overrides(iterations=2)[8:]  # the data sets and p are the run's own
    assert runpy.run_path(TOOL)["main"]([*options, "--overrides", *sizes]) == 0
    assert rendered[0][1][0]["status"] == "finished"
    folder = tmp_path / "cnet_oracle_tiny_cpu_fold1_p0.5_seed0"
    assert {"config.yaml", "log.txt", "console.log", "metrics.json", "experiment.json"} <= set(os.listdir(folder))
    content = read_json(folder / "predictions.json")
    numbers = {name: len(x) for name, x in content["predictions"].items()}
    assert numbers == {"tiny_fold1_test": 8, "other_fold1_train": 16}
    rois = read_json(session_datasets / "tiny" / "annotations" / "fold1_test.json")["annotations"]
    for record, annotation in zip(content["predictions"]["tiny_fold1_test"], rois):
        x, y, width, height = annotation["bbox"]
        assert record["image_id"] == annotation["image_id"] and record["roi"] == [x, y, x + width, y + height]
        assert record["box"] == pytest.approx(record["roi"], abs=0.01) and 0 <= record["malignancy"] <= 1
    assert 0 <= content["youden_threshold"] <= 1
