"""tools/reproduce.py with a stand-in for the training tool, and once with the real one."""

import csv
import itertools
import os
import runpy

import pytest

from tsdd_d2.data.files import read_json, write_json

from ..conftest import ROOT, make_tiny_dataset
from ..experiments.conftest import stand_in  # noqa: F401
from ..methods.tiny import tiny_overrides

TOOL = os.path.join(ROOT, "tools", "reproduce.py")


@pytest.fixture
def reproduce(tmp_path, stand_in):  # noqa: F811
    """The tool in this process, on the tiny data set; returns its exit code."""
    main = runpy.run_path(TOOL)["main"]

    def call(*arguments, output="out"):
        names = list(itertools.takewhile(lambda x: not x.startswith("--"), arguments))
        options = ["--data", "tiny", "--output", str(tmp_path / output)]
        return main(["--experiment", *names, *options, *arguments[len(names) :]])

    return call


def table_of(folder, name="table1"):
    with open(folder / f"{name}.csv", newline="") as file:
        return {row["method"]: row for row in csv.DictReader(file) if row.get("source") != "paper, private data"}


def test_dry_run_prints_the_plan_and_writes_nothing(reproduce, tmp_path, capsys):
    assert reproduce("table2", "--p", "0.5", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert printed.count("missing") == 6 and "tsdd_b_stage1_tiny_cpu_fold1_p0.5_seed0" in printed
    assert not (tmp_path / "out").exists()


def test_without_training_folds_are_those_of_the_runs(reproduce, tiny_dataset, tmp_path, capsys):
    assert reproduce("table1", "--methods", "retinanet", "--p", "0.5") == 0
    tiny_dataset.rename(tmp_path / "elsewhere")
    assert reproduce("table1", "--methods", "retinanet", "--p", "0.5", "--no-train") == 0
    assert table_of(tmp_path / "out" / "results")["retinanet"]["folds"] == "1"
    assert reproduce("table1", "--methods", "retinanet", "--p", "0.5") == 2
    assert "prepare.py csv" in capsys.readouterr().err
    assert reproduce("table1", "--no-train", output="empty") == 2


def test_several_tables_share_their_runs(reproduce, tmp_path, capsys):
    arguments = ["--methods", "tsddnet", "--p", "0.5", "--folds", "1"]
    assert reproduce("table1", "fig9", *arguments, "--jobs", "2", "--also", "pdf") == 0
    printed = capsys.readouterr().out
    assert "2 runs, 2 to train" in printed and "2 training processes took" in printed
    results = tmp_path / "out" / "results"
    assert {"table1.md", "table1.csv", "fig9.md", "fig9.csv", "fig9_p0.5.png", "fig9_p0.5.pdf", "report.html"} == set(
        os.listdir(results)
    )
    page = (results / "report.html").read_text()
    assert 'id="table1"' in page and 'id="fig9"' in page and "tsddnet_tiny_cpu_fold1_p0.5_seed0/console.log" in page
    assert reproduce("fig9", *arguments, "--threshold", "youden-val") == 0  # the estimate is from what has finished
    assert "0 to train: nothing" in capsys.readouterr().out
    assert 'id="table1"' not in (results / "report.html").read_text()


def test_a_failed_run_is_reported_and_stops_no_other(reproduce, tmp_path, capsys):
    os.makedirs(tmp_path / "out")
    (tmp_path / "out" / "tsddnet_stage1_tiny_cpu_fold1_p0.5_seed0.fails").write_text("")
    assert reproduce("table1", "--methods", "tsddnet", "retinanet", "--p", "0.5") == 1
    assert "failed: tsddnet_stage1_tiny_cpu_fold1_p0.5_seed0: exit code 2" in capsys.readouterr().err
    rows = table_of(tmp_path / "out" / "results")
    assert (rows["tsddnet"]["folds"], rows["retinanet"]["folds"]) == ("0", "1")


def test_kept_predictions_render_without_training(reproduce, tmp_path):
    kept = tmp_path / "kept"
    arguments = ["--methods", "tsddnet", "--p", "0.5", "--results", str(kept)]
    assert reproduce("table1", *arguments) == 0
    before = {name: (kept / name).read_bytes() for name in os.listdir(kept)}
    assert {"predictions.tar.xz", "table1.md"} <= set(before)
    assert reproduce("table1", *arguments, "--no-train", output="kept/predictions.tar.xz") == 0
    assert before == {name: (kept / name).read_bytes() for name in os.listdir(kept)}
    assert reproduce("fig9", *arguments, "--no-train", output="kept/predictions.tar.xz") == 0  # the first stage is there too
    assert {x["planned_folds"] for x in table_of(kept, "fig9").values()} == {"1"}


@pytest.mark.parametrize("more", [[], ["--no-train"], ["--results", "x"]])
def test_nothing_is_trained_into_an_archive(reproduce, tmp_path, more):
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(SystemExit):
        reproduce("table1", *more)


def test_external_validation_of_every_stored_model(reproduce, tiny_dataset, tmp_path, capsys):
    other = tiny_dataset.parent / "other"
    make_tiny_dataset(other)
    for file in (other / "annotations").iterdir():  # a copy would be the same patients
        content = read_json(file)
        images = [{**x, "patient_id": f"other {x['patient_id']}"} for x in content["images"]]
        write_json(file, {**content, "images": images})
    arguments = ["--methods", "retinanet", "--p", "0.5", "--test-data"]
    assert reproduce("roc", *arguments, "other_fold1_val") == 0
    assert (tmp_path / "out" / "results" / "roc_on_other_fold1_val.csv").exists()
    assert reproduce("roc", *arguments, "tiny_fold1_val") == 2
    assert "tiny_fold1_val" in capsys.readouterr().err


def test_a_misspelt_override_leaves_the_folder_as_it_was(reproduce, tmp_path, capsys):
    arguments = ["--methods", "retinanet", "--p", "0.5"]
    assert reproduce("table1", *arguments, "--overrides", "SOLVER.MAXITER", "3") == 2
    assert "SOLVER.MAXITER" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert reproduce("table1", *arguments) == 0


def test_executor_options_are_text_unless_they_are_plainly_something_else():
    option = runpy.run_path(TOOL)["executor_option"]
    texts = ["slurm_time=12:00:00", "slurm_account=012345", "slurm_partition=gpu", "a=b=c", "slurm_mem=4GB"]
    assert [option(x) for x in texts] == [tuple(x.split("=", 1)) for x in texts]
    assert [option(f"x={value}")[1] for value in ("90", "-1", "7.5", "true", "{a: 1}", "[1, b]")] == [
        90, -1, 7.5, True, {"a": 1}, [1, "b"],
    ]  # fmt: skip


@pytest.mark.parametrize("option", ["--jobs 0", "--cpus 0", "--retries -1", "--overrides SEED", "--executor-options x"])
def test_options_that_cannot_be(reproduce, capsys, option):
    with pytest.raises(SystemExit):
        reproduce("table1", *option.split())
    assert option.split()[0] in capsys.readouterr().err


def test_other_data_only_where_they_are_shown(reproduce, capsys):
    with pytest.raises(SystemExit):
        reproduce("fig9", "--test-data", "other_fold1_test")
    assert "--test-data" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--folds", "2"], "fold2_train.json does not exist"),
        (["--test-data", "absent_fold1_test"], "absent_fold1_test"),
        (["--executor-options", "slurm_partition=gpu"], "slurm_partition"),
    ],
)
def test_bad_input_exits_with_2_and_trains_nothing(reproduce, tmp_path, capsys, arguments, message):
    assert reproduce("table1", *arguments) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_with_the_real_training_tool(tiny_environment, session_datasets, tmp_path):
    """C-Net on the manual ROI, trained and then evaluated on another data set without training."""
    make_tiny_dataset(session_datasets / "other")
    file = session_datasets / "other" / "annotations" / "fold1_train.json"
    content = read_json(file)
    others = [{**x, "patient_id": f"other {x['patient_id']}"} for x in content["images"]]
    write_json(file, {**content, "images": others})
    options = ["--experiment", "table1", "--data", "tiny", "--methods", "cnet_oracle", "--folds", "1", "--p", "0.5"]
    options += ["--output", str(tmp_path), "--test-data", "other_fold1_train"]
    sizes = tiny_overrides(iterations=2)[8:]  # the data sets and p are the run's own
    assert runpy.run_path(TOOL)["main"]([*options, "--overrides", *sizes]) == 0
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
