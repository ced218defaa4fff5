"""Reading the folder of a run, and what --overwrite removes: all that a run wrote, and nothing else."""

import argparse
import inspect
import logging
import os
import re
import runpy
from pathlib import Path
from unittest import mock

import pytest

from detectron2.config import CfgNode
from tsdd_d2.data import ensure_registered
from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.engine.checks import check_output_dir
from tsdd_d2.engine.run_folder import (
    RunRecord,
    is_finished,
    read_rounds,
    read_run_config,
    remove_leftovers,
    remove_run,
    run_files,
    warn_of_other_evaluation_data,
)
from tsdd_d2.errors import InputError

from ..conftest import ROOT, TINY_CONFIG

WRITTEN = [
    "last_checkpoint",  # first
    ".model_0000009.pth.417.tmp",
    "events.out.tfevents.1.host.2.0",
    "inference/.diagnosis_tiny_fold1_val.json.417.tmp",
    "inference/config.yaml",
    "inference/diagnosis_tiny_fold1_val.json",
    "inference/model_final/found_box/localisation_tiny_fold1_test.json",
    "inference/model_final/found_box/tiny_fold1_test/coco_instances_results.json",
    "log.txt",
    "log.txt.rank1",
    "metrics.json",
    "model_0000003.pth",
    "model_best.pth",
    "model_final.pth",
    "model_round_00.pth",
    "results.json",
    "results.md",
    "rois/round_00.json",
    "rois/round_11.json",
    "run.json",
    "config.yaml",  # last
]
OTHERS = [
    "model_mine.pth",
    "notes.txt",
    "inference/model_best/notes.json",
    "other/last_checkpoint",
    "other/rois/round_00.json",
    "rois/round_00_checked.json",
]


@pytest.fixture
def run(tmp_path):
    for name in (*WRITTEN, *OTHERS):
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return tmp_path / "run"


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_run_is_removed_and_nothing_else(run):
    assert [os.path.relpath(path, run) for path in run_files(str(run))] == WRITTEN
    remove_run(str(run))
    assert files(run) == sorted(OTHERS)
    assert os.listdir(run / "inference") == ["model_best"]  # without what was left empty


def test_what_a_killed_run_cannot_use_is_removed(run):
    remove_leftovers(str(run))
    temporary = {".model_0000009.pth.417.tmp", "inference/.diagnosis_tiny_fold1_val.json.417.tmp"}
    assert set(files(run)) == {*WRITTEN, *OTHERS} - temporary - {"results.json", "results.md"}


def test_what_training_starts_from_is_not_removed(run, tiny_cfg):
    tiny_cfg.MODEL.WEIGHTS = os.path.join(tiny_cfg.OUTPUT_DIR, "model_mine.pth")
    check_output_dir(tiny_cfg, resume=False, overwrite=True)
    for weights in ("", "model_final.pth"):
        tiny_cfg.MODEL.WEIGHTS = os.path.join(tiny_cfg.OUTPUT_DIR, weights)
        with pytest.raises(InputError, match="--overwrite would remove MODEL.WEIGHTS"):
            check_output_dir(tiny_cfg, resume=False, overwrite=True)


def test_the_old_run_is_removed_when_all_checks_have_passed(run, tiny_dataset, monkeypatch):
    """The training tool in this process, without the training."""
    tool = runpy.run_path(os.path.join(ROOT, "tools", "train_net.py"))["run"]
    left = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    names = inspect.unwrap(tool).__globals__
    names.update(keep_freed_memory=lambda: None, evaluate_run=lambda *_: {}, trainer_of=lambda cfg: mock.Mock())
    names["launch"] = lambda main, *_, args, **__: main(*args)
    names["default_setup"] = lambda cfg, args: left.extend(files(run))
    arguments = ["--config-file", TINY_CONFIG, "--overwrite", "OUTPUT_DIR", str(run)]
    before = files(run)
    assert tool([*arguments, "MODEL.CNET.NORM", "batch"]) == 2
    with pytest.raises(SystemExit):
        tool(["--resume", *arguments])
    assert files(run) == before
    assert tool(arguments) == 0
    assert left == sorted(OTHERS)
    # hidden, or Detectron2's launch would have taken the GPU's way of talking for a training on the CPU
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_earlier_results_go_before_the_configuration_is_written(run, tiny_dataset, monkeypatch):
    """Killed in between, the run would pass for a finished one of the new configuration."""
    tool = runpy.run_path(os.path.join(ROOT, "tools", "train_net.py"))["run"]
    left = []
    names = inspect.unwrap(tool).__globals__
    names.update(keep_freed_memory=lambda: None, evaluate_run=lambda *_: {}, trainer_of=lambda cfg: mock.Mock())
    names.update(check_run=lambda *_, **__: None, is_finished=lambda cfg: False)
    names["warn_of_other_evaluation_data"] = lambda cfg: None
    names["launch"] = lambda main, *_, args, **__: main(*args)
    names["default_setup"] = lambda cfg, args: left.extend(files(run))
    assert tool(["--config-file", TINY_CONFIG, "--resume", "OUTPUT_DIR", str(run)]) == 0
    assert "model_final.pth" in left and not {"results.json", "results.md"} & set(left)


def test_a_run_is_finished_when_it_was_evaluated_after_all_iterations(tiny_cfg, tiny_dataset):
    ensure_registered("tiny_fold1_train")
    folder = Path(tiny_cfg.OUTPUT_DIR)
    folder.mkdir()
    (folder / "config.yaml").write_text(tiny_cfg.dump())
    RunRecord.of(tiny_cfg)._replace(status="finished").write(str(folder))
    (folder / "results.json").write_text("{}")
    assert not is_finished(tiny_cfg)
    (folder / "results.md").write_text("")
    assert is_finished(tiny_cfg)
    tiny_cfg.SOLVER.MAX_ITER += 1
    assert not is_finished(tiny_cfg)
    tiny_cfg.SOLVER.MAX_ITER -= 2
    assert is_finished(tiny_cfg)
    RunRecord.of(tiny_cfg).write(str(folder))
    assert not is_finished(tiny_cfg)


@pytest.mark.parametrize("finished, warned", [(True, ["val", "test"]), (False, ["val"])])
def test_results_of_an_annotation_that_has_changed_are_told(tiny_cfg, tiny_dataset, caplog, finished, warned):
    ensure_registered("tiny_fold1_train")
    folder = Path(tiny_cfg.OUTPUT_DIR)
    folder.mkdir()
    (folder / "config.yaml").write_text(tiny_cfg.dump())
    record = RunRecord.of(tiny_cfg)._replace(status="finished" if finished else "running")
    record.write(str(folder))
    for name in ("results.json", "results.md"):
        (folder / name).write_text("{}")
    warn_of_other_evaluation_data(tiny_cfg)
    assert not caplog.messages
    for split in ("val", "test"):
        path = tiny_dataset / "annotations" / f"fold1_{split}.json"
        write_json(path, {**read_json(path), "info": {}})
    warn_of_other_evaluation_data(tiny_cfg)
    assert [re.findall("tiny_fold1_([a-z]+)", x) for x in caplog.messages] == [[x] for x in warned]
    caplog.clear()
    older = {key: x for key, x in record._asdict().items() if key != "evaluated_sha256"}
    write_json(folder / "run.json", older)
    warn_of_other_evaluation_data(tiny_cfg)
    assert not caplog.messages


def test_each_of_two_runs_has_its_own_log(tiny_cfg, tmp_path, capsys):
    """Of both stages in one process, as the training tool does them; and on the console each line stands once."""
    module = inspect.unwrap(runpy.run_path(os.path.join(ROOT, "tools", "train_net.py"))["run"]).__globals__
    args = argparse.Namespace(config_file="", eval_only=True, warnings=[])
    for name in ("first", "second", "first"):
        module["set_up"](module["with_output_dir"](tiny_cfg, str(tmp_path / name)), args)
        for package in ("detectron2", "tsdd_d2"):
            logging.getLogger(package).info("a line of %s's %s", name, package)
    module["end_logs"]()
    printed = capsys.readouterr().out
    for package in ("detectron2", "tsdd_d2"):
        first, second = (f"a line of {name}'s {package}" for name in ("first", "second"))
        logs = [(tmp_path / name / "log.txt").read_text() for name in ("first", "second")]
        assert [log.count(first) for log in logs] == [2, 0] and [log.count(second) for log in logs] == [0, 1]
        assert (printed.count(first), printed.count(second)) == (2, 1)


@pytest.mark.parametrize(
    "name, read, content",
    [
        *[("config.yaml", read_run_config, x) for x in ("a: [", "", "3", "MODEL: 3", "SEED: -5", "&a [*a]", "\xff", "1: 2")],
        *[("rois/round_00.json", read_rounds, x) for x in ('{"images": [', "[]", '{"images": [[]]}', "[" * 9000, "\xff")],
        *[("run.json", RunRecord.read, x) for x in ("", "[]", "3", "{}", '{"status": 1}', "{" * 9000)],
    ],
)
def test_a_damaged_file_of_a_run_is_named(run, name, read, content):
    path = os.path.join(run, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="latin-1") as file:
        file.write(content)
    with pytest.raises(InputError, match=re.escape(path)):
        read(run)


RECORD = RunRecord("finished", "TSDDStage1", "tiny_fold1_train", "0" * 64, 0.5, 0, "class_guided", 2)


@pytest.mark.parametrize(
    "change",
    [
        {"p": "0.5"},
        {"rounds": 2.5},
        {"rounds": -1},
        {"rounds": None},
        {"dataset": []},
        {"rule": {}},
        {"status": None},
        {"evaluated_sha256": []},
        {"evaluated_sha256": {"a": 1}},
    ],
)
def test_a_record_with_values_of_another_kind_is_refused(tmp_path, change):
    RECORD.write(str(tmp_path))
    assert RunRecord.read(str(tmp_path)) == RECORD
    RECORD._replace(**change).write(str(tmp_path))
    with pytest.raises(InputError, match=r"run\.json"):
        RunRecord.read(str(tmp_path))


def test_keys_of_a_plugin_that_is_not_here_are_left_out(tmp_path, tiny_cfg):
    """So that what the run found can be shown; its network is another matter."""
    tiny_cfg.MODEL.MINE = CfgNode({"X": 1})
    (tmp_path / "config.yaml").write_text(tiny_cfg.dump())
    assert read_run_config(str(tmp_path)).DATASETS.TRAIN == ("tiny_fold1_train",)
    with pytest.raises(InputError, match=r"MODEL\.MINE"):
        read_run_config(str(tmp_path), strict=True)
