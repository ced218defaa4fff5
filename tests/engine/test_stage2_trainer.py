"""The second stage as a user runs it, on a finished first-stage run of the tiny data set."""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest
import torch

from tsdd_d2.data import ensure_registered
from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.engine.checks import check_network
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.engine.run_folder import RunRecord, check_first_run, read_refined_rois
from tsdd_d2.errors import InputError
from tsdd_d2.inference.model_file import save_model_of_run
from tsdd_d2.refinement import ROIBank, veto

from ..conftest import ROOT, train, train_command

CONFIG = os.path.join(ROOT, "tests", "tiny_stage2.yaml")
STAGE2 = ("--config-file", CONFIG)

pytestmark = pytest.mark.usefixtures("tiny_environment")


@pytest.fixture(scope="module")
def stage2_run(session_datasets, finished_run, tmp_path_factory):
    """The OUTPUT_DIR of an uninterrupted second stage; tests must not change it."""
    run = tmp_path_factory.mktemp("stage2") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(session_datasets))
        patch.setenv("OMP_NUM_THREADS", "1")
        train(run, *STAGE2, overrides=["MODEL.WEIGHTS", str(finished_run)])
    return run


def weights(run):
    return torch.load(run / "model_final.pth", weights_only=True)["model"]


def test_it_takes_the_rois_of_the_last_round(finished_run, stage2_run):
    last = read_json(finished_run / "rois" / "round_02.json")
    assert read_json(stage2_run / "rois" / "round_00.json") == last
    assert RunRecord.read(str(stage2_run)).status == "finished"


def test_it_logs_every_term_of_eq_5_and_evaluates(stage2_run):
    logged = [json.loads(line) for line in open(stage2_run / "metrics.json")]
    for part in ("dnet", "fnet", "cls1", "cls2"):
        assert any(f"loss_{part}_fa" in x and f"loss_{part}_pa" in x for x in logged)
    results = read_json(stage2_run / "results.json")
    assert set(results) == {"best validation AUC", "last iteration"}
    figures = results["last iteration"]["tiny_fold1_test"]
    assert 0 <= figures["found box"]["diagnosis"]["AUC"] <= 1 and "manual ROI" in figures


def test_it_starts_from_both_networks_of_the_first_stage(finished_run):
    from detectron2.modeling import build_model
    from tsdd_d2.engine.trainer import trainer_of

    cfg = load_config(CONFIG, ["MODEL.WEIGHTS", str(finished_run)])
    model = build_model(cfg)
    trainer_of(cfg).initialise(cfg, model)
    first = weights(finished_run)
    state = model.state_dict()
    shared = [k for k in state if k.startswith(("dnet.", "cnet."))]
    assert shared and all(torch.equal(state[k], first[k]) for k in shared)
    assert set(first) - set(shared) == {"cnet.classifier.weight", "cnet.classifier.bias"}


def test_a_killed_run_resumes_to_the_same_weights(finished_run, stage2_run, tmp_path):
    killed = tmp_path / "killed"
    overrides = ["MODEL.WEIGHTS", str(finished_run)]
    process = subprocess.Popen(
        train_command(killed, *STAGE2, overrides=overrides), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.time() + 120
    while not (killed / "model_0000003.pth").exists():
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    other = shutil.copytree(finished_run, tmp_path / "other")
    last = ROIBank(str(other / "rois")).path(2)
    write_json(last, {**read_json(last), "annotations": read_json(last)["annotations"][1:]})
    command = train_command(killed, *STAGE2, "--resume", overrides=["MODEL.WEIGHTS", str(other)])
    refused = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert refused.returncode == 2 and "its last round has other ROIs" in refused.stderr
    # the run keeps the ROIs and needs the first stage no more
    train(killed, *STAGE2, "--resume", overrides=["MODEL.WEIGHTS", str(tmp_path / "gone")])
    expected, resumed = weights(stage2_run), weights(killed)
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)


def test_two_processes_evaluate_what_one_does(finished_run, tmp_path):
    """A step that hardly changes a weight, with one process and with two; both diagnose every test image once, alike."""
    overrides = [
        "MODEL.WEIGHTS", str(finished_run), "SOLVER.MAX_ITER", "1", "SOLVER.BASE_LR", "1e-9", "SOLVER.WARMUP_ITERS", "0",
    ]  # fmt: skip
    train(tmp_path / "one", *STAGE2, overrides=overrides)
    train(tmp_path / "two", *STAGE2, "--num-gpus", "2", "--dist-url", "auto", overrides=overrides)
    path = "inference/model_final/found_box/diagnosis_tiny_fold1_test.json"
    one, two = (read_json(tmp_path / name / path)["predictions"] for name in ("one", "two"))
    assert [x["image_id"] for x in one] == [x["image_id"] for x in two] and len(one) > 1
    for a, b in zip(one, two):
        # batch normalisation saw other halves of the batch
        assert a["malignancy"] == pytest.approx(b["malignancy"], abs=0.05)


def test_vetoes_reject_rois_of_the_first_stage(session_datasets, tmp_path):
    run, path = tmp_path / "run", tmp_path / "vetoes.json"
    cfg = load_config(CONFIG, ["MODEL.WEIGHTS", str(run), "DATASETS.VETOES", str(path)])
    ensure_registered(cfg.DATASETS.TRAIN[0])
    bbui = read_json(session_datasets / "tiny" / "annotations" / "fold1_train.json")
    manual, pseudo = bbui["annotations"][0], {**bbui["annotations"][1], "roi_source": "pseudo"}
    ROIBank(str(run / "rois")).write(1, {**bbui, "annotations": [manual, pseudo]})

    entry = veto(bbui["images"][1], pseudo)
    write_json(path, {"data_set": "tiny_fold1_train", "run": "r", "vetoes": [entry]})
    RunRecord.of(cfg)._replace(status="finished", architecture="TSDDStage1", rounds=1).write(str(run))
    check_first_run(cfg)
    rois = read_refined_rois(cfg)
    assert rois["annotations"] == [manual] and rois["images"][1] == {**bbui["images"][1], "roi_veto": True}

    write_json(path, {"data_set": "tiny_fold1_train", "run": "r", "vetoes": [{**entry, "image_id": 99}]})
    with pytest.raises(InputError, match=r"vetoes\.json: 1 of them.*\n.*image 99"):
        check_first_run(cfg)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["DATASETS.P", "1.0"], "DATASETS.P: 0.5 there, 1.0 now"),
        (["DATASETS.P_SEED", "3"], "DATASETS.P_SEED"),
        (["DATASETS.TRAIN", "('tiny_fold1_val',)"], "DATASETS.TRAIN: tiny_fold1_train there, tiny_fold1_val now"),
        (["REFINEMENT.RULE", "pseudo_label"], "REFINEMENT.RULE: class_guided there, pseudo_label now"),
    ],
)
def test_a_first_stage_on_something_else_is_refused(finished_run, overrides, message):
    cfg = load_config(CONFIG, ["MODEL.WEIGHTS", str(finished_run), *overrides])
    ensure_registered(cfg.DATASETS.TRAIN[0])
    with pytest.raises(InputError) as error:
        check_first_run(cfg)
    assert message in str(error.value) and str(finished_run) in str(error.value)


def test_a_first_stage_without_rounds_will_do(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    RunRecord.read(run)._replace(rule=None, rounds=0).write(run)
    cfg = load_config(CONFIG, ["MODEL.WEIGHTS", str(run)])
    ensure_registered(cfg.DATASETS.TRAIN[0])
    check_first_run(cfg)
    assert read_refined_rois(cfg) == ROIBank(str(run / "rois")).read(0)


@pytest.mark.parametrize("of_model_file", [False, True])
def test_evaluation_by_other_values_is_worth_a_warning(finished_run, tiny_environment, tmp_path, caplog, of_model_file):
    path = finished_run / "model_final.pth"
    if of_model_file:
        path = tmp_path / "model.pth"
        save_model_of_run(str(finished_run), str(path), "model_final", 0.5)
    weights = ["MODEL.WEIGHTS", str(path)]
    cfg = load_config(str(finished_run / "config.yaml"), weights)
    check_network(cfg, training=False)
    assert "there," not in caplog.text
    others = ["MODEL.CNET.CONTEXT", "1.75", "MODEL.CNET.SCALES", "(0.5, 1.0)"]
    others += ["MODEL.ANCHOR_GENERATOR.SIZES", "[[24], [40], [64]]"]
    check_network(load_config(str(finished_run / "config.yaml"), [*weights, *others]), training=False)
    assert f"MODEL.CNET.CONTEXT: {cfg.MODEL.CNET.CONTEXT} there, 1.75 now" in caplog.text
    assert "MODEL.CNET.SCALES: " in caplog.text and "MODEL.ANCHOR_GENERATOR.SIZES: " in caplog.text


def test_a_first_stage_that_saw_other_pixels_is_worth_a_warning(finished_run, tiny_environment, caplog):
    options = ["MODEL.WEIGHTS", str(finished_run), "MODEL.CNET.CONTEXT", "1.75"]
    options += ["MODEL.ANCHOR_GENERATOR.SIZES", "[[24], [40], [64]]"]
    cfg = load_config(CONFIG, options[:2])
    ensure_registered(cfg.DATASETS.TRAIN[0])
    check_network(cfg)
    assert "other pixels" not in caplog.text
    check_network(load_config(CONFIG, options))
    assert f"MODEL.CNET.CONTEXT: {cfg.MODEL.CNET.CONTEXT} there, 1.75 now" in caplog.text
    assert "MODEL.ANCHOR_GENERATOR.SIZES: " in caplog.text


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda run: os.remove(run / "run.json"), "has no run.json"),
        (lambda run: os.remove(run / "rois" / "round_02.json"), "lacks the ROIs of its last round"),
        (lambda run: RunRecord.read(run)._replace(status="running").write(run), "not finished"),
        (
            lambda run: RunRecord.read(run)._replace(architecture="TSDDStage2").write(run),
            "goes on from one of tsddnet_stage1",
        ),
        (lambda run: write_json(run / "run.json", {"status": "finished"}), "no record of a training run"),
    ],
)
def test_a_folder_that_is_no_finished_first_stage_is_refused(finished_run, tmp_path, spoil, message):
    run = shutil.copytree(finished_run, tmp_path / "run")
    spoil(run)
    cfg = load_config(CONFIG, ["MODEL.WEIGHTS", str(run)])
    ensure_registered(cfg.DATASETS.TRAIN[0])
    with pytest.raises(InputError, match=message):
        check_first_run(cfg)


def test_without_a_first_stage_nothing_is_written(tmp_path):
    result = subprocess.run(train_command(tmp_path / "refused", *STAGE2), capture_output=True, text=True, timeout=600)
    assert result.returncode == 2 and "must name the OUTPUT_DIR" in result.stderr
    assert not (tmp_path / "refused").exists()
