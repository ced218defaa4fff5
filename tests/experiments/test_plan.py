"""Which runs an experiment has, what they share, and what is refused before anything is trained."""

import dataclasses
import logging
import os
import re
import shutil

import pytest

from tsdd_d2.data import ensure_registered
from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.engine.run_folder import RunRecord
from tsdd_d2.errors import InputError
from tsdd_d2.experiments.catalogue import EXPERIMENTS
from tsdd_d2.experiments.checks import check_plan
from tsdd_d2.experiments.plan import (
    duration,
    existing_folds,
    expected_times,
    folds_of_runs,
    planned_runs,
    runs_to_train,
)
from tsdd_d2.experiments.predictions import keep_predictions
from tsdd_d2.experiments.training import train_run

from ..conftest import make_tiny_dataset
from .conftest import write_predictions


def plan(name, output, train=True, **changes):
    return planned_runs(dataclasses.replace(EXPERIMENTS[name], **changes), str(output), "tiny", "cpu", train=train)


def methods(runs):
    return [run.method for run in runs]


def test_the_defaults_are_those_of_the_paper(tmp_path, tiny_dataset):
    runs = plan("table3", tmp_path)
    assert {run.method for run in runs} == {"tsddnet", "retinanet"} and {run.p for run in runs} == {0.2, 0.4, 0.6, 0.8, 1.0}
    assert {run.method for run in plan("table2", tmp_path)} == {"tsddnet", "tsdd_b", "tsdd_b_cs", "tsdd_b_sd"}
    compared = {run.method for run in plan("table1", tmp_path)}
    assert {"tsddnet", "retinanet", "faster_rcnn", "cnet_oracle", "cnet_whole_image"} <= compared
    assert not compared & {"tsddnet_stage1", "tsdd_b_stage1", "tsdd_b", "tsdd_b_cs", "tsdd_b_sd"}


def test_all_folds_are_those_with_a_test_split(tiny_dataset):
    for name in ("fold10_test.json", "fold3_test.json", "fold4_train.json", "fold5_test.json.bak"):
        (tiny_dataset / "annotations" / name).write_text("{}")
    assert existing_folds("tiny") == [1, 3, 10]
    with pytest.raises(InputError, match="python datasets/prepare.py busbra"):
        existing_folds("busbra")


def test_without_training_all_folds_are_those_of_the_runs(run, tmp_path):
    others = (run, run._replace(fold=12), run._replace(fold=3, p=1.0), run._replace(fold=2, data="tiny_2"))
    for other in (*others, run._replace(fold=4, profile="paper"), run._replace(fold=5, method="tsddnet")):
        write_predictions(other)
    archive = str(tmp_path / "kept.tar.xz")
    keep_predictions(others, archive)
    for output in (run.output, archive):
        assert folds_of_runs(output, ["retinanet"], "tiny", "cpu", 0.5) == [1, 12]
        runs = plan("table1", output, train=False, p=(0.5, 1.0), methods=("retinanet",))
        assert [(x.p, x.fold, x.status) for x in runs] == [(0.5, 1, "finished"), (0.5, 12, "finished"), (1.0, 3, "finished")]
    assert folds_of_runs("absent", ["retinanet"], "tiny", "cpu", 0.5) == []


def test_variants_share_the_first_stage_of_their_rule(tmp_path):
    to_train = runs_to_train(plan("table2", tmp_path, folds=(1,), p=(0.2,)))
    order = methods(to_train)
    assert sorted(order) == sorted(["tsddnet_stage1", "tsddnet", "tsdd_b_stage1", "tsdd_b", "tsdd_b_cs", "tsdd_b_sd"])
    for run in to_train:
        if run.needs is not None:  # each first stage before the first one that needs it
            assert order.index(run.needs.method) < order.index(run.method)


def test_a_finished_run_asks_for_nothing(tmp_path):
    (run,) = plan("table3", tmp_path, methods=("tsddnet",), p=(0.2,))
    write_predictions(run)
    assert runs_to_train([run]) == []


def test_fig_9_shows_the_first_stages(tmp_path):
    runs = plan("fig9", tmp_path, folds=(1,), p=(0.2,), methods=("tsddnet", "tsdd_b_cs"))
    assert methods(runs) == ["tsddnet_stage1", "tsddnet", "tsdd_b_cs"]


def test_values_that_training_would_refuse_are_refused_before(run, tiny_dataset):
    wrong = [
        run._replace(overrides=("SOLVER.MAXITER", "3")), run._replace(p=1.5), run._replace(method="cnet_oracle", seed=-1)
    ]  # fmt: skip
    with pytest.raises(InputError) as error:
        check_plan(wrong, wrong)
    for part in ("SOLVER.MAXITER", "DATASETS.P", "SEED", "cnet_oracle"):
        assert part in str(error.value)


def attempted(run, *overrides):
    attempt = {"started": 1.0, "seconds": 2.0, "exit_code": 2, "versions": {}, "git_revision": None}
    write_json(os.path.join(run.folder, "experiment.json"), {"overrides": list(overrides), "attempts": [attempt]})


def test_an_attempt_that_trained_nothing_binds_nobody(run, tiny_dataset):
    attempted(run, "SOLVER.MAX_ITER", "9")
    check_plan([run], [run])
    open(os.path.join(run.folder, "last_checkpoint"), "w").close()
    with pytest.raises(InputError, match="SOLVER.MAX_ITER"):
        check_plan([run], [run])


def test_all_that_cannot_be_run_in_one_message(run, tiny_dataset):
    check_plan([run], [run])
    write_predictions(run, overrides=["SOLVER.MAX_ITER", "9"])
    absent = run._replace(fold=2)
    with pytest.raises(InputError) as error:
        check_plan([run, absent], [absent], ["absent_fold1_test"])
    for part in ("fold2_train.json", "fold2_test.json", "absent_fold1_test", "SOLVER.MAX_ITER"):
        assert part in str(error.value)


def test_a_finished_first_stage_of_another_configuration_is_refused(run, tiny_dataset):
    run = run._replace(method="tsddnet")
    write_predictions(run.needs, overrides=["SOLVER.MAX_ITER", "9"])
    assert methods(runs_to_train([run])) == ["tsddnet"]
    with pytest.raises(InputError, match="tsddnet_stage1.*SOLVER.MAX_ITER"):
        check_plan([run], [run])
    check_plan([run], [])  # what is not trained needs nothing


def config_of(run, *more):
    options = [*run.options, *more]
    return load_config(opts=options, method=run.method, profile=run.profile, data=run.data, fold=run.fold)


def write_config(run, **changed):
    """The config.yaml of a run, as its command would leave it, with some values changed."""
    cfg = config_of(run, *(x for pair in changed.items() for x in pair))
    os.makedirs(run.folder)
    with open(os.path.join(run.folder, "config.yaml"), "w") as file:
        file.write(cfg.dump())
    open(os.path.join(run.folder, "last_checkpoint"), "w").close()


def test_a_run_of_an_older_profile_is_refused(run, tiny_dataset):
    write_config(run, **{"SOLVER.BASE_LR": "0.5", "INPUT.MIN_SIZE_TRAIN": "(32,)"})
    with pytest.raises(InputError) as error:
        check_plan([run], [])
    lr, side = config_of(run).SOLVER.BASE_LR, config_of(run).INPUT.MIN_SIZE_TRAIN
    lines = [line for line in str(error.value).splitlines() if "SOLVER" in line or "INPUT" in line]
    assert run.folder in str(error.value) and len(lines) == 2
    assert all(x in lines[0] + lines[1] for x in ("0.5", str(lr), "[32]", str(list(side))))


def test_a_run_on_a_first_stage_of_an_older_profile_is_refused(run, tiny_dataset):
    run = run._replace(method="tsddnet")
    write_config(run.needs, **{"SOLVER.BASE_LR": "0.5"})
    with pytest.raises(InputError, match=r"tsddnet_stage1_.*\n.*SOLVER.BASE_LR"):
        check_plan([run], [run])
    check_plan([run], [])  # it is neither shown nor trained
    write_predictions(run)
    with pytest.raises(InputError, match=r"tsddnet_stage1_.*\n.*SOLVER.BASE_LR"):
        check_plan([run], [])


def test_what_is_no_matter_of_the_run_is_not_compared(run, tiny_dataset):
    elsewhere = {
        "CUDNN_BENCHMARK": "True", "DATALOADER.NUM_WORKERS": "7", "MODEL.DEVICE": "meta", "OUTPUT_DIR": "there",
        "SOLVER.AMP.ENABLED": "True",
    }  # fmt: skip
    write_config(run, **elsewhere)
    path = os.path.join(run.folder, "config.yaml")
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(text.replace("  P: 0.5\n", "  OF_LONG_AGO: 3\n"))
    check_plan([run], [run])


def test_initial_weights_and_values_that_were_none_are_compared(run, tiny_dataset):
    write_config(run, **{"MODEL.WEIGHTS": "x.pth", "SOLVER.WEIGHT_DECAY_BIAS": "0.5"})
    with pytest.raises(InputError, match=r"MODEL\.WEIGHTS.*\n.*DECAY_BIAS"):
        check_plan([run], [])
    second_stage = run._replace(method="tsddnet")
    write_config(second_stage, **{"MODEL.WEIGHTS": "moved"})
    check_plan([second_stage], [])


def test_a_cut_off_configuration_of_a_run(run, tiny_dataset):
    os.makedirs(run.folder)
    with open(os.path.join(run.folder, "config.yaml"), "w") as file:
        file.write("DATASETS: [")
    check_plan([run], [run])  # killed before it trained
    open(os.path.join(run.folder, "last_checkpoint"), "w").close()
    with pytest.raises(InputError, match="config.yaml"):
        check_plan([run], [run])


def test_a_run_on_a_data_set_that_has_changed_is_refused(run, tiny_dataset, stand_in):
    """Its images would stand in one table with others."""
    train_run(run, {})
    check_plan([run], [])
    test, train = (tiny_dataset / "annotations" / f"fold1_{x}.json" for x in ("test", "train"))
    write_json(test, {**read_json(test), "info": {}})
    with pytest.raises(InputError, match=r"fold1_test\.json"):
        check_plan([run], [])
    test.unlink()
    check_plan([run], [])  # rendering needs no data
    ensure_registered("tiny_fold1_train")
    RunRecord.of(config_of(run)).write(run.folder)
    check_plan([run], [])
    write_json(train, {**read_json(train), "info": {}})
    with pytest.raises(InputError, match=r"fold1_train\.json"):
        check_plan([run], [])


@pytest.mark.parametrize("key", ["SEED", "DATASETS.P", "DATASETS.TEST", "OUTPUT_DIR"])
def test_what_the_name_of_a_run_says_is_not_overridden(run, key):
    run = run._replace(overrides=("SOLVER.MAX_ITER", "3", key, "7"))
    with pytest.raises(InputError, match=key):
        check_plan([run], [run])


def test_a_data_set_known_from_the_training_is_not_external(run, tiny_dataset):
    annotations = tiny_dataset / "annotations"
    shutil.copy(annotations / "fold1_val.json", annotations / "fold2_test.json")
    with pytest.raises(InputError) as error:
        check_plan([run, run._replace(seed=1)], [], ["tiny_fold1_train", "tiny_fold2_test"])
    assert re.search(rf"tiny_fold1_train: 8 of .* tiny_fold1_train.*{run.id}", str(error.value))
    assert re.search("tiny_fold2_test: 2 of .* tiny_fold1_val", str(error.value))
    # the run's own
    check_plan([run], [], ["tiny_fold1_test"])


def test_patients_of_another_data_set_are_others(run, tiny_dataset):
    other = tiny_dataset.parent / "other"
    make_tiny_dataset(other)
    # a copy under another name
    with pytest.raises(InputError, match="other_fold1_train: 8 .* tiny_fold1_train"):
        check_plan([run], [run], ["other_fold1_train"])
    path = other / "annotations" / "fold1_train.json"
    bbui = read_json(path)
    for image in bbui["images"]:
        image["file_name"] = f"more/{image['file_name']}"
    write_json(path, bbui)
    check_plan([run], [run], ["other_fold1_train"])


def test_other_images_of_a_patient_are_no_external_data(run, tiny_dataset):
    path = tiny_dataset / "annotations" / "fold1_val.json"
    bbui = read_json(path)
    for image in bbui["images"]:
        image["file_name"] = f"more/{image['file_name']}"
    write_json(path.with_name("fold2_test.json"), bbui)
    with pytest.raises(InputError, match="tiny_fold2_test: 2 .* tiny_fold1_val"):
        check_plan([run], [], ["tiny_fold2_test"])


def test_training_data_elsewhere_cannot_be_compared(run, tiny_dataset, caplog):
    runs = [run._replace(data="elsewhere"), run._replace(data="elsewhere", seed=1)]
    with caplog.at_level(logging.WARNING):
        check_plan(runs, [], ["tiny_fold1_test"])
    (message,) = caplog.messages
    assert all(x in message for x in ("tiny_fold1_test", "elsewhere_fold1_train", "elsewhere_fold1_val"))


def test_the_estimate_is_the_mean_of_the_methods_finished_runs(run):
    for fold, seconds in ((1, 10), (2, 20)):
        write_predictions(run._replace(fold=fold), seconds=seconds)
    third, other = run._replace(fold=3), run._replace(method="faster_rcnn")
    assert expected_times([third, other]) == {third: (15, True), other: None}


def test_on_a_new_machine_the_kept_runs_tell_how_long_it_takes(run, monkeypatch, tmp_path):
    kept = str(tmp_path / "kept.tar.xz")
    monkeypatch.setattr("tsdd_d2.experiments.plan.KEPT_RUNS", kept)
    other = run._replace(output=str(tmp_path / "other"), fold=2)
    write_predictions(other, seconds=40)
    keep_predictions([other], kept)
    shorter = run._replace(overrides=("SOLVER.MAX_ITER", "9"))
    assert expected_times([run, shorter]) == {run: (40, False), shorter: None}
    write_predictions(run._replace(fold=3), seconds=10)
    assert expected_times([run, shorter]) == {run: (10, True), shorter: (10, True)}


@pytest.mark.parametrize(
    "seconds, text", [(None, ""), (7.4, "7 s"), (59.6, "1 min 00 s"), (754, "12 min 34 s"), (3900, "1 h 05 min")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text
