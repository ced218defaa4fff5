"""One run with a stand-in for the training tool: attempts, records, predictions, and lost parents."""

import json
import multiprocessing
import os
import time

import pytest

from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.errors import InputError
from tsdd_d2.experiments import training
from tsdd_d2.experiments.checks import check_plan
from tsdd_d2.experiments.training import Outcome, evaluate_run_on, is_taken, train_run, training_environment

from .conftest import calls

pytestmark = pytest.mark.usefixtures("stand_in")


def record(run):
    return read_json(os.path.join(run.folder, "experiment.json"))


def predictions(run):
    return read_json(os.path.join(run.folder, "predictions.json"))


def test_of_several_lesions_the_one_that_the_box_overlaps_counts(run, tiny_dataset):
    path = os.path.join(tiny_dataset, "annotations", "fold1_test.json")
    content = read_json(path)
    first = next(x for x in content["annotations"] if x["image_id"] == 21)
    content["annotations"].append({**first, "id": 1000, "bbox": [2, 3, 28, 50]})
    write_json(path, content)
    assert train_run(run, {}).error is None
    found = {x["image_id"]: x for x in predictions(run)["predictions"]["tiny_fold1_test"]}
    # the stand-in's box for image 21 is 1.2, 2 to 30, 123
    assert first["bbox"] != [2, 3, 28, 50] and found[21]["roi"] == [2, 3, 30, 53] and found[21]["num_rois"] == 2


def test_a_finished_run_leaves_its_record_and_is_not_repeated(run):
    assert train_run(run, {}).error is None
    assert train_run(run, {}) == Outcome() and calls(run) == 1
    content = predictions(run)
    assert {key: content[key] for key in run.descriptor} == {
        "method": "retinanet", "data": "tiny", "profile": "cpu", "fold": 1, "p": 0.5, "seed": 0,
    }  # fmt: skip
    assert content["youden_threshold"] == 0.43 and content["seconds"] > 0
    assert {"torch", "numpy", "detectron2", "tsdd_d2", "python"} <= set(content["versions"])
    (attempt,) = record(run)["attempts"]
    assert attempt["exit_code"] == 0 and attempt["git_revision"] == content["git_revision"]


def test_a_finished_run_keeps_its_last_model_and_no_periodic_checkpoint(run):
    os.makedirs(run.folder)
    for name in ("last_checkpoint", "model_0000099.pth", "model_final.pth", "model_best.pth", "model_round_00.pth"):
        open(os.path.join(run.folder, name), "w").close()
    train_run(run, {})
    kept = {name for name in os.listdir(run.folder) if name.endswith(".pth")}
    assert kept == {"model_final.pth", "model_best.pth", "model_round_00.pth"}


def test_predictions_are_those_of_the_networks_own_boxes_one_image_on_a_line(run):
    train_run(run, {})
    first, second = predictions(run)["predictions"]["tiny_fold1_test"]
    assert first == {
        "image_id": 21, "file_name": "images/021.png", "patient_id": "p10", "label": 0, "malignancy": 0.123456789,
        "box": [1.2346, 2, 30, 123.46], "score": 0.987654321, "roi": [30, 20, 56, 40], "num_rois": 1,
    }  # fmt: skip
    assert second["box"] is None and second["score"] is None
    with open(os.path.join(run.folder, "predictions.json")) as file:
        assert sum(line.startswith('{"image_id"') for line in file) == 2


def test_pseudo_boxes_over_the_training_are_kept(run):
    os.makedirs(run.folder)
    steps = [(19, 0.25), (39, 0.5), (39, 0.75), (59, 1.0)]  # the second was repeated after an interruption
    lines = [json.dumps({"iteration": i, "loss": 1.0, "pseudo_boxes/images": x}) for i, x in steps]
    lines.insert(2, lines[2][:20])
    with open(os.path.join(run.folder, "metrics.json"), "w") as file:
        file.write("\n".join(lines))
    open(os.path.join(run.folder, "last_checkpoint"), "w").close()
    train_run(run, {})
    assert run.result.pseudo_boxes == {"images": [[19, 0.25], [39, 0.75], [59, 1.0]]}


def test_a_failure_is_reported_with_its_message_and_tried_again(run):
    os.makedirs(os.path.dirname(run.folder))
    open(run.folder + ".fails", "w").close()
    outcome = train_run(run, {})
    assert "exit code 2" in outcome.error and outcome.error.endswith("error: DATASETS.TRAIN is missing")
    assert run.status == "failed" and outcome.busy[0] < outcome.busy[1]
    os.remove(run.folder + ".fails")
    assert train_run(run, {}).error is None and calls(run) == 2
    assert [x["exit_code"] for x in record(run)["attempts"]] == [2, 0]


def test_the_record_has_the_configuration_of_the_attempt_that_trained(run):
    os.makedirs(os.path.dirname(run.folder))
    open(run.folder + ".fails", "w").close()
    train_run(run._replace(overrides=("SOLVER.MAX_ITER", "3")), {})
    os.remove(run.folder + ".fails")
    train_run(run, {})
    assert record(run)["overrides"] == predictions(run)["overrides"] == []


def test_remains_of_an_attempt_that_trained_nothing_are_removed(run):
    os.makedirs(run.folder)
    for name in ("config.yaml", "log.txt"):
        with open(os.path.join(run.folder, name), "w") as file:
            file.write("DATASETS: [")
    assert train_run(run, {}).error is None
    with open(os.path.join(run.folder, "config.yaml")) as file:
        assert file.read() == "{}"  # of the stand-in


def test_a_run_that_another_configuration_trained_meanwhile_is_left_alone(run):
    train_run(run, {})
    before = record(run)
    outcome = train_run(run._replace(overrides=("SOLVER.MAX_ITER", "3")), {})
    assert run.folder in outcome.error and "SOLVER.MAX_ITER" in outcome.error
    assert record(run) == before and calls(run) == 1


def test_damaged_predictions_are_one_clear_error(run):
    train_run(run, {})
    path = os.path.join(run.folder, "predictions.json")
    with open(path, "r+") as file:
        file.truncate(100)
    with pytest.raises(InputError, match="predictions.json"):
        check_plan([run], [])


def test_seconds_leave_out_what_an_interruption_made_it_repeat(run):
    """An attempt of 100 s whose last checkpoint was written after 60 s, then the one that ended the run."""
    started = time.time() - 1000
    attempts = [{"started": started, "seconds": None, "exit_code": None, "versions": {}, "git_revision": None}]
    content = {**run.descriptor, "overrides": [], "attempts": attempts}
    write_json(os.path.join(run.folder, "experiment.json"), content)
    checkpoint = os.path.join(run.folder, "last_checkpoint")
    open(checkpoint, "w").close()
    os.utime(checkpoint, (started + 60, started + 60))
    train_run(run, {})
    last = record(run)["attempts"][-1]["seconds"]
    assert predictions(run)["seconds"] == pytest.approx(60 + last, abs=0.2) and last < 30


def test_a_run_whose_parent_was_killed_is_waited_for_and_not_repeated(run):
    os.makedirs(os.path.dirname(run.folder))
    open(run.folder + ".sleeps", "w").close()
    parent = multiprocessing.get_context("fork").Process(target=train_run, args=(run, {}))
    parent.start()
    while not os.path.exists(os.path.join(run.folder, "calls")):
        time.sleep(0.01)
    parent.kill()
    parent.join()
    assert run.status == "missing" and not os.path.exists(os.path.join(run.folder, "results.json"))
    assert is_taken(run) and train_run(run, {}) == Outcome(taken=True)
    while is_taken(run):
        time.sleep(0.01)
    assert train_run(run, {}).error is None and calls(run) == 1
    assert record(run)["attempts"][0]["exit_code"] == 0 and predictions(run)["seconds"] >= 1.4


def test_a_run_without_its_record_goes_on_and_gets_one(run):
    train_run(run, {})
    for name in ("experiment.json", "predictions.json"):
        os.remove(os.path.join(run.folder, name))
    assert train_run(run, {}).error is None and len(record(run)["attempts"]) == 1


def test_a_record_without_attempts_is_damaged(run):
    train_run(run, {})
    write_json(os.path.join(run.folder, "experiment.json"), {**record(run), "attempts": []})
    os.remove(os.path.join(run.folder, "predictions.json"))
    with pytest.raises(InputError, match=r"experiment\.json"):
        train_run(run, {})


def test_other_data_sets_are_added_once_without_training(run, monkeypatch):
    train_run(run, {})
    before = predictions(run)
    assert evaluate_run_on(run, ["tiny_fold1_val"], {}).error is None
    after = predictions(run)
    assert list(after["predictions"]) == ["tiny_fold1_test", "tiny_fold1_val"] and calls(run) == 1
    assert after["predictions"]["tiny_fold1_val"][0]["malignancy"] == 0.1
    for values in (after["predictions"], after["annotation_sha256"]):
        del values["tiny_fold1_val"]
    assert after == before
    os.remove(os.path.join(run.folder, "model_final.pth"))
    assert evaluate_run_on(run, ["tiny_fold1_val"], {}).error is None
    assert "without the model" in evaluate_run_on(run, ["tiny_fold1_train"], {}).error


def test_what_another_process_evaluated_meanwhile_is_not_repeated(run, monkeypatch):
    """Before this one has the lock."""
    train_run(run, {})
    path, only_one = os.path.join(run.folder, "predictions.json"), training._only_one

    def lock_after_another(folder):
        content = read_json(path)
        content["predictions"]["tiny_fold1_val"] = []
        write_json(path, content)
        return only_one(folder)

    monkeypatch.setattr(training, "_only_one", lock_after_another)
    assert evaluate_run_on(run, ["tiny_fold1_val"], {}) == Outcome()
    assert predictions(run)["predictions"]["tiny_fold1_val"] == []


def test_training_processes_get_the_threads_and_the_place_of_the_data(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DETECTRON2_DATASETS", "data")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    environment = training_environment(3)
    assert environment["OMP_NUM_THREADS"] == "3" and environment["DETECTRON2_DATASETS"] == str(tmp_path / "data")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert training_environment(3)["OMP_NUM_THREADS"] == "1"
