"""Which runs an experiment has, what they share, and what is refused before anything is trained."""

import logging
import os
import shutil
import signal

import pytest

from tsdd_d2.data import ensure_registered
from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.engine import TRAINERS
from tsdd_d2.engine.run_folder import RunRecord
from tsdd_d2.engine.setup import load_config
from tsdd_d2.errors import InputError
from tsdd_d2.experiments import (
    EXPERIMENTS,
    METHODS,
    check_plan,
    compared_methods,
    duration,
    existing_folds,
    expected_times,
    folds_of_runs,
    runs_to_train,
    shown_runs,
    train_run,
)

from ..conftest import ROOT, make_tiny_dataset


def methods(runs):
    return [run.method for run in runs]


def test_the_defaults_are_those_of_the_paper():
    five = {
        name: x._replace(methods=x.methods or compared_methods(), folds=x.folds or range(1, 6))
        for name, x in EXPERIMENTS.items()
    }
    sizes = {name: len(shown_runs(x, "out", "busbra", "cpu")) for name, x in five.items()}
    assert sizes == {"table1": 25, "table2": 20, "table3": 10, "roc": 25, "fig6": 25, "fig8": 20, "fig9": 4}
    assert {run.p for _, run in shown_runs(EXPERIMENTS["table3"], "out", "busbra", "cpu")} == {0.2, 0.4, 0.6, 0.8, 1.0}


def test_all_folds_are_those_with_a_test_split(tiny_dataset):
    for name in ("fold10_test.json", "fold3_test.json", "fold4_train.json", "fold5_test.json.bak"):
        (tiny_dataset / "annotations" / name).write_text("{}")
    assert existing_folds("tiny") == [1, 3, 10]
    with pytest.raises(InputError, match="python datasets/prepare_busbra.py"):
        existing_folds("busbra")


def test_all_folds_of_a_folder_of_runs(run):
    for other in (run, run._replace(fold=12, p=1.0), run._replace(fold=2, data="tiny_2"), run._replace(profile="paper")):
        os.makedirs(other.folder)
    assert folds_of_runs(run.output, "tiny", "cpu") == [1, 12] and folds_of_runs("absent", "tiny", "cpu") == []


def test_variants_share_the_first_stage_of_their_rule(tmp_path):
    experiment = EXPERIMENTS["table2"]._replace(folds=(1,))
    runs = [run for _, run in shown_runs(experiment, str(tmp_path), "busbra", "cpu")]
    to_train = runs_to_train(runs)
    # each first stage before the first one that needs it
    assert methods(to_train) == ["tsddnet_stage1", "tsddnet", "tsdd_b_stage1", "tsdd_b", "tsdd_b_cs", "tsdd_b_sd"]
    for run in to_train:
        if run.needs is not None:
            assert run.command[-2:] == ["MODEL.WEIGHTS", run.needs.folder]


def test_a_finished_run_asks_for_nothing(tmp_path):
    experiment = EXPERIMENTS["table3"]._replace(methods=["tsddnet"], p=(0.2,))
    ((_, run),) = shown_runs(experiment, str(tmp_path), "busbra", "cpu")
    write_json(os.path.join(run.folder, "predictions.json"), {})
    assert runs_to_train([run]) == []


def test_fig_9_shows_a_shared_first_stage_under_both_methods():
    shown = shown_runs(EXPERIMENTS["fig9"]._replace(methods=["tsddnet", "tsdd_b_cs"]), "out", "busbra", "cpu")
    assert [(name, run.method, run.descriptor["stage"]) for name, run in shown] == [
        ("tsddnet", "tsddnet_stage1", 1),
        ("tsddnet", "tsddnet", 2),
        ("tsdd_b_cs", "tsddnet_stage1", 1),
        ("tsdd_b_cs", "tsdd_b_cs", 2),
    ]


def test_the_command_is_the_run(run):
    command = run._replace(overrides=("SEED", "7", "SOLVER.MAX_ITER", "3")).command
    values = dict(zip(command[-12::2], command[-11::2]))
    assert values == {
        "DATASETS.TRAIN": "('tiny_fold1_train',)",
        "DATASETS.VAL": "('tiny_fold1_val',)",
        "DATASETS.TEST": "('tiny_fold1_test',)",
        "DATASETS.P": "0.5",
        "SEED": "0",  # after the user's: the name of the folder says so
        "OUTPUT_DIR": run.folder,
    }
    assert command[command.index("--config-file") + 1].endswith("configs/retinanet_cpu.yaml") and "--resume" in command
    assert command.index("SOLVER.MAX_ITER") < command.index("DATASETS.TRAIN")


def test_status(run):
    assert run.status == "missing"
    record = {"attempts": [{"exit_code": 1}]}
    write_json(os.path.join(run.folder, "experiment.json"), record)
    assert run.status == "failed"
    record["attempts"].append({"exit_code": None})  # it was killed, or trains
    write_json(os.path.join(run.folder, "experiment.json"), record)
    assert run.status == "missing"
    record["attempts"].append({"exit_code": -signal.SIGINT})
    write_json(os.path.join(run.folder, "experiment.json"), record)
    assert run.status == "missing"
    write_json(os.path.join(run.folder, "predictions.json"), {})
    assert run.status == "finished"


def test_values_that_training_would_refuse_are_refused_before(run, tiny_dataset):
    wrong = [
        run._replace(overrides=("SOLVER.MAXITER", "3")), run._replace(p=1.5), run._replace(method="cnet_oracle", seed=-1)
    ]  # fmt: skip
    with pytest.raises(InputError) as error:
        check_plan(wrong, wrong)
    for part in ("SOLVER.MAXITER", "DATASETS.P must be a share in [0, 1], not 1.5", "SEED must be 0 or more"):
        assert part in str(error.value)
    assert "  cnet_oracle: The configuration cannot be run:\n    " in str(error.value)


def test_a_network_that_nobody_registered_is_named(run, tiny_dataset, monkeypatch, tmp_path):
    (tmp_path / "peer_cpu.yaml").write_text(f"_BASE_: {ROOT}/configs/retinanet_cpu.yaml\nMODEL:\n  META_ARCHITECTURE: Nobody\n")
    monkeypatch.setitem(METHODS, "peer", METHODS["retinanet"]._replace(name="peer", config=str(tmp_path / "peer")))
    monkeypatch.setitem(TRAINERS, "Nobody", None)
    peer = run._replace(method="peer")
    with pytest.raises(InputError, match=r"peer: .*\n.*META_ARCHITECTURE Nobody has a trainer, but is not in"):
        check_plan([peer], [peer])


def test_a_method_says_truly_which_images_it_uses(run, tiny_dataset, monkeypatch):
    monkeypatch.setitem(METHODS, "retinanet", METHODS["retinanet"]._replace(uses_pa_images=True))
    with pytest.raises(InputError, match="retinanet has uses_pa_images True, and its network DiagnosingRetinaNet needs_rois"):
        check_plan([run], [run])


def test_an_attempt_that_trained_nothing_binds_nobody(run, tiny_dataset):
    content = {**run.configuration, "overrides": ["SOLVER.MAX_ITER", "9"], "attempts": [{"exit_code": 2}]}
    write_json(os.path.join(run.folder, "experiment.json"), content)
    check_plan([run], [run])
    open(os.path.join(run.folder, "last_checkpoint"), "w").close()
    with pytest.raises(InputError, match=r"was made with overrides \['SOLVER\.MAX_ITER', '9'\], not \[\]"):
        check_plan([run], [run])


def test_all_that_cannot_be_run_in_one_message(run, tiny_dataset):
    check_plan([run], [run])
    content = {"config_file": "configs/retinanet_cpu.yaml", "overrides": ["SOLVER.MAX_ITER", "9"]}
    write_json(os.path.join(run.folder, "predictions.json"), content)
    absent = run._replace(fold=2)
    with pytest.raises(InputError) as error:
        check_plan([run, absent], [absent], ["absent_fold1_test"])
    for part in ("fold2_train.json", "fold2_test.json", "absent_fold1_test", "['SOLVER.MAX_ITER', '9'], not []"):
        assert part in str(error.value)


def test_a_finished_first_stage_of_another_configuration_is_refused(run, tiny_dataset):
    run = run._replace(method="tsddnet")
    content = {"config_file": "configs/tsdd_stage1_cpu.yaml", "overrides": ["SOLVER.MAX_ITER", "9"]}
    write_json(os.path.join(run.needs.folder, "predictions.json"), content)
    assert methods(runs_to_train([run])) == ["tsddnet"]
    with pytest.raises(InputError, match=r"tsddnet_stage1_.*\['SOLVER\.MAX_ITER', '9'\], not \[\]"):
        check_plan([run], [run])
    check_plan([run], [])  # what is not trained needs nothing


def write_config(run, **changed):
    """The config.yaml of a run, as its command would leave it, with some values changed."""
    cfg = load_config(run.config_file, [*run.options, *(x for pair in changed.items() for x in pair)])
    os.makedirs(run.folder)
    with open(os.path.join(run.folder, "config.yaml"), "w") as file:
        file.write(cfg.dump())
    open(os.path.join(run.folder, "last_checkpoint"), "w").close()


def test_a_run_of_an_older_profile_is_refused(run, tiny_dataset):
    write_config(run, **{"SOLVER.BASE_LR": "0.5", "INPUT.MIN_SIZE_TRAIN": "(32,)"})
    with pytest.raises(InputError) as error:
        check_plan([run], [])
    lr, side = load_config(run.config_file).SOLVER.BASE_LR, load_config(run.config_file).INPUT.MIN_SIZE_TRAIN
    assert f"{run.folder} was made with other values: name another --output, or remove the folder" in str(error.value)
    assert f"SOLVER.BASE_LR: 0.5 there, {lr} now" in str(error.value)
    assert f"INPUT.MIN_SIZE_TRAIN: [32] there, {list(side)} now" in str(error.value)
    assert str(error.value).count(" there, ") == 2


def test_a_run_on_a_first_stage_of_an_older_profile_is_refused(run, tiny_dataset):
    run = run._replace(method="tsddnet")
    write_config(run.needs, **{"SOLVER.BASE_LR": "0.5"})
    with pytest.raises(InputError, match=r"tsddnet_stage1_.*\n.*SOLVER.BASE_LR: 0.5 there"):
        check_plan([run], [run])
    check_plan([run], [])  # it is neither shown nor trained
    content = {"config_file": "configs/tsdd_stage2_cpu.yaml", "overrides": []}
    write_json(os.path.join(run.folder, "predictions.json"), content)
    with pytest.raises(InputError, match=r"tsddnet_stage1_.*\n.*SOLVER.BASE_LR: 0.5 there"):
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


@pytest.mark.parametrize("method", ["tsdd_b", "retinanet", "faster_rcnn", "cnet_oracle", "cnet_whole_image"])
def test_keys_of_fnet_are_compared_where_there_is_one(run, tiny_dataset, method):
    run = run._replace(method=method)
    without = run.needs or run
    write_config(without, **{"MODEL.FNET.HIDDEN": "77"})
    check_plan([run], [run])
    if run.needs:
        write_config(run, **{"MODEL.FNET.HIDDEN": "77"})
        with pytest.raises(InputError, match=r"MODEL\.FNET\.HIDDEN: 77 there"):
            check_plan([run], [run])


def test_initial_weights_and_values_that_were_none_are_compared(run, tiny_dataset):
    write_config(run, **{"MODEL.WEIGHTS": "x.pth", "SOLVER.WEIGHT_DECAY_BIAS": "0.5"})
    with pytest.raises(InputError, match=r"MODEL\.WEIGHTS: x\.pth there, '' now\n.*DECAY_BIAS: 0\.5 there, None now"):
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
    with pytest.raises(InputError, match="config.yaml cannot be read"):
        check_plan([run], [run])


def test_a_run_on_a_data_set_that_has_changed_is_refused(run, tiny_dataset, stand_in):
    """Its images would stand in one table with others."""
    train_run(run, {})
    check_plan([run], [])
    test, train = (tiny_dataset / "annotations" / f"fold1_{x}.json" for x in ("test", "train"))
    write_json(test, {**read_json(test), "info": {}})
    with pytest.raises(InputError, match=r"was made with another .*fold1_test\.json: name another --output"):
        check_plan([run], [])
    test.unlink()
    check_plan([run], [])  # rendering needs no data
    ensure_registered("tiny_fold1_train")
    cfg = load_config(run.config_file, run.options)
    RunRecord.of(cfg).write(run.folder)
    check_plan([run], [])
    write_json(train, {**read_json(train), "info": {}})
    with pytest.raises(InputError, match=r"was made with another .*fold1_train\.json"):
        check_plan([run], [])


@pytest.mark.parametrize("key", ["SEED", "DATASETS.P", "DATASETS.TEST", "OUTPUT_DIR"])
def test_what_the_name_of_a_run_says_is_not_overridden(run, key):
    run = run._replace(overrides=("SOLVER.MAX_ITER", "3", key, "7"))
    with pytest.raises(InputError, match=rf"--overrides {key}: .*choose it by --p, --seeds"):
        check_plan([run], [run])


def test_a_data_set_known_from_the_training_is_not_external(run, tiny_dataset):
    annotations = tiny_dataset / "annotations"
    shutil.copy(annotations / "fold1_val.json", annotations / "fold2_test.json")
    with pytest.raises(InputError) as error:
        check_plan([run, run._replace(seed=1)], [], ["tiny_fold1_train", "tiny_fold2_test"])
    assert f"tiny_fold1_train: 8 of its 8 patients are in tiny_fold1_train, which belongs to the training of {run.id}" in (
        str(error.value)
    )
    assert "tiny_fold2_test: 2 of its 2 patients are in tiny_fold1_val" in str(error.value)
    assert "and 1 more" in str(error.value)
    # the run's own
    check_plan([run], [], ["tiny_fold1_test"])


def test_patients_of_another_data_set_are_others(run, tiny_dataset):
    other = tiny_dataset.parent / "other"
    make_tiny_dataset(other)
    check_plan([run], [run], ["other_fold1_train"])
    # the same images under another root
    shutil.rmtree(other / "images")
    os.symlink(tiny_dataset / "images", other / "images")
    with pytest.raises(InputError, match="other_fold1_train: 8 of its 8 patients are in tiny_fold1_train"):
        check_plan([run], [run], ["other_fold1_train"])


def test_other_images_of_a_patient_are_no_external_data(run, tiny_dataset):
    path = tiny_dataset / "annotations" / "fold1_val.json"
    bbui = read_json(path)
    for image in bbui["images"]:
        image["file_name"] = f"more/{image['file_name']}"
    write_json(path.with_name("fold2_test.json"), bbui)
    with pytest.raises(InputError, match="tiny_fold2_test: 2 of its 2 patients are in tiny_fold1_val"):
        check_plan([run], [], ["tiny_fold2_test"])


def test_training_data_elsewhere_cannot_be_compared(run, tiny_dataset, caplog):
    runs = [run._replace(data="elsewhere"), run._replace(data="elsewhere", seed=1)]
    with caplog.at_level(logging.WARNING):
        check_plan(runs, [], ["tiny_fold1_test"])
    (message,) = caplog.messages
    assert "share patients with tiny_fold1_test: elsewhere_fold1_train, elsewhere_fold1_val" in message


def test_the_estimate_is_the_mean_of_the_methods_finished_runs(run):
    for fold, seconds in ((1, 10), (2, 20)):
        write_json(os.path.join(run._replace(fold=fold).folder, "predictions.json"), {"seconds": seconds})
    third, other = run._replace(fold=3), run._replace(method="faster_rcnn")
    assert expected_times([third, other]) == {third: (15, True), other: None}


def test_on_a_new_machine_the_kept_runs_tell_how_long_it_takes(run, monkeypatch, tmp_path):
    monkeypatch.setattr("tsdd_d2.experiments.plan.KEPT_RUNS", str(tmp_path / "kept"))
    kept = run._replace(output=str(tmp_path / "kept"), fold=2)
    write_json(os.path.join(kept.folder, "predictions.json"), {"seconds": 40})
    shorter = run._replace(overrides=("SOLVER.MAX_ITER", "9"))
    assert expected_times([run, shorter]) == {run: (40, False), shorter: None}
    write_json(os.path.join(run._replace(fold=3).folder, "predictions.json"), {"seconds": 10})
    assert expected_times([run, shorter]) == {run: (10, True), shorter: (10, True)}


@pytest.mark.parametrize(
    "seconds, text", [(None, ""), (7.4, "7 s"), (59.6, "1 min 00 s"), (754, "12 min 34 s"), (3900, "1 h 05 min")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text
