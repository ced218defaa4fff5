"""The first stage as a user runs it: real processes on a tiny data set."""

import json
import multiprocessing
import os
import resource
import shutil
import subprocess
from concurrent.futures import ProcessPoolExecutor

import pytest

from tsdd_d2.data.files import read_json
from tsdd_d2.inference.model_file import save_model_of_run

from ..conftest import train, train_command
from ..kills import differences, small_config, start

pytestmark = pytest.mark.usefixtures("tiny_environment")


def rois(output_dir):
    return {
        name: read_json(os.path.join(output_dir, "rois", name))["annotations"]
        for name in sorted(os.listdir(os.path.join(output_dir, "rois")))
        if not name.startswith(".")
    }


def test_a_run_leaves_everything_a_user_expects(finished_run):
    files = set(os.listdir(finished_run))
    assert {"config.yaml", "log.txt", "metrics.json", "results.json", "model_final.pth", "model_round_00.pth"} <= files
    assert list(rois(finished_run)) == ["round_00.json", "round_01.json", "round_02.json"]
    annotations = rois(finished_run)
    # p = 0.5 of 8 patients keep the ROIs of their 2 images; round 1 gives every image a ROI
    assert len(annotations["round_00.json"]) == 8 and len(annotations["round_01.json"]) == 16
    sources = [a.get("roi_source", "manual") for a in annotations["round_02.json"]]
    assert sources.count("pseudo") == 8
    results = read_json(finished_run / "results.json")
    assert set(results) >= {"round 0", "last round"}
    figures = results["last round"]["tiny_fold1_test"]
    assert 0 <= figures["found box"]["diagnosis"]["AUC"] <= 1
    assert {"AUC_low", "AUC_high"} <= set(figures["manual ROI"]["diagnosis"])
    logged = [json.loads(line) for line in open(finished_run / "metrics.json")]
    assert max(x.get("refinement/round", 0) for x in logged) == 2
    assert any("loss_cnet_pa" in x for x in logged)


# in the warm-up, in a round, between a checkpoint and what names it, between two steps, at the end and after it
KILLS = [
    "after replace round_00.json", "before replace round_01.json", "after replace model_0000005.pth", 40,
    "before remove model_0000002.pth", "after replace model_final.pth", "before replace results.md",
]  # fmt: skip


def test_after_any_number_of_kills_the_folder_is_that_of_an_uninterrupted_run(tmp_path):
    whole, killed, config_file = str(tmp_path / "whole"), str(tmp_path / "killed"), small_config(tmp_path / "small.yaml")
    # the process of the tests may have used autograd already, and then none that is forked from it may
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        fresh.submit(start, whole, config_file, -1).result()
        for kill in KILLS:
            _, where = fresh.submit(start, killed, config_file, kill).result()
            assert where == kill or isinstance(kill, int) and where != "not at all"
        fresh.submit(start, killed, config_file, -1).result()
    assert differences(whole, killed) == []


def test_two_processes_write_the_candidates_of_one(finished_run, tmp_path):
    """One round right at the start, from the weights of a finished run, with one process and with two."""
    overrides = [
        "MODEL.WEIGHTS", str(finished_run / "model_final.pth"), "REFINEMENT.WARMUP_ITER", "0",
        "REFINEMENT.ROUNDS", "1", "SOLVER.MAX_ITER", "2", "TEST.EVAL_PERIOD", "0",
    ]  # fmt: skip
    train(tmp_path / "one", overrides=overrides)
    train(tmp_path / "two", "--num-gpus", "2", "--dist-url", "auto", overrides=overrides)
    one, two = (rois(tmp_path / name)["round_01.json"] for name in ("one", "two"))
    assert len(one) == len(two) == 16
    for a, b in zip(one, two):
        assert a["image_id"] == b["image_id"] and a.get("roi_source") == b.get("roi_source")
        assert a["bbox"] == pytest.approx(b["bbox"], abs=0.02)
        assert a["roi_score"] == pytest.approx(b["roi_score"], abs=1e-4)


def test_a_disk_that_is_full_is_one_message(tmp_path, tiny_environment):
    """Here a limit on the size of a file, which no checkpoint fits into."""
    run = tmp_path / "run"
    result = subprocess.run(
        train_command(run, overrides=("TEST.EVAL_PERIOD", "0")),
        capture_output=True,
        text=True,
        timeout=900,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20)),
    )
    assert result.returncode == 2 and "Traceback" not in result.stdout + result.stderr
    assert f"error: {run / 'model_0000002.pth'}: " in result.stderr
    assert sorted(x.name for x in run.iterdir() if "pth" in x.name) == []


def test_detectron2s_own_tools_read_the_run(finished_run, monkeypatch):
    """DefaultPredictor on the run's own configuration file and checkpoint."""
    import cv2

    from detectron2.config import get_cfg
    from detectron2.engine import DefaultPredictor
    from tsdd_d2 import add_tsdd_config

    cfg = get_cfg()
    add_tsdd_config(cfg)
    cfg.merge_from_file(str(finished_run / "config.yaml"))
    cfg.MODEL.WEIGHTS = str(finished_run / "model_final.pth")
    image = cv2.imread(os.path.join(os.environ["DETECTRON2_DATASETS"], "tiny/images/021.png"))
    instances = DefaultPredictor(cfg)(image)["instances"]
    assert len(instances) == 1 and instances.image_size == (64, 72)


def test_eval_only_leaves_the_runs_own_files(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    before = (run / "config.yaml").read_bytes()
    result = train(run, "--eval-only", "--resume", overrides=["TEST.YOUDEN_THRESHOLD", "True"])
    assert "AUC" in result.stdout and str(run / "model_final.pth") in result.stdout  # its last checkpoint
    assert (run / "config.yaml").read_bytes() == before


def test_eval_only_takes_the_threshold_of_a_model_file(finished_run, tmp_path):
    save_model_of_run(str(finished_run), str(tmp_path / "model.pth"), threshold=0.125)
    result = train(tmp_path / "out", "--eval-only", overrides=["MODEL.WEIGHTS", str(tmp_path / "model.pth")])
    report = read_json(next((tmp_path / "out").rglob("found_box/diagnosis_tiny_fold1_test.json")))
    assert report["threshold"] == 0.125 and " 0.125 " in result.stdout


def test_a_finished_run_is_not_overwritten_by_accident(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    result = subprocess.run(train_command(run, overrides=["SEED", "1"]), capture_output=True, text=True, timeout=600)
    assert result.returncode == 2 and "SEED: 0 there, 1 now" in result.stderr
    assert rois(run) == rois(finished_run)


def test_a_run_is_not_resumed_with_another_share_of_rois(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    before = {name: (run / name).read_bytes() for name in ("config.yaml", "run.json", "log.txt")}
    command = train_command(run, "--resume", overrides=["DATASETS.P", "1.0"])
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 2 and "DATASETS.P: 0.5 there, 1.0 now" in result.stderr
    assert all((run / name).read_bytes() == content for name, content in before.items())


def test_a_finished_run_stays_as_it_is(finished_run, tmp_path):
    """Its config.yaml must go on telling what it was trained with."""
    run = shutil.copytree(finished_run, tmp_path / "run")
    result = train(run, "--resume", overrides=["SOLVER.BASE_LR", "0.5"])
    assert (run / "results.md").read_text() in result.stdout and "SOLVER.BASE_LR" in result.stderr
    names = [str(x.relative_to(finished_run)) for x in finished_run.rglob("*") if x.is_file()]
    assert all((run / name).read_bytes() == (finished_run / name).read_bytes() for name in names)


def test_detectron2s_evaluator_and_visualizer_take_the_output(finished_run, tmp_path):
    from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_test_loader
    from detectron2.evaluation import COCOEvaluator, inference_on_dataset
    from detectron2.modeling import build_model
    from detectron2.utils.visualizer import Visualizer
    from tsdd_d2.data import ensure_registered
    from tsdd_d2.data.mapper import BBUIMapper
    from tsdd_d2.engine import load_weights
    from tsdd_d2.engine.configuration import load_config

    weights = ["MODEL.WEIGHTS", str(finished_run / "model_final.pth")]
    cfg = load_config(str(finished_run / "config.yaml"), weights)
    ensure_registered("tiny_fold1_test")
    model = build_model(cfg).eval()
    load_weights(model, cfg)
    loader = build_detection_test_loader(cfg, "tiny_fold1_test", mapper=BBUIMapper(cfg, is_train=False))
    results = inference_on_dataset(model, loader, COCOEvaluator("tiny_fold1_test", output_dir=str(tmp_path)))
    assert {"AP", "AP50", "AP-benign", "AP-malignant"} <= set(results["bbox"])
    inputs = next(iter(loader))
    picture = Visualizer(
        inputs[0]["image"].permute(1, 2, 0).numpy(), MetadataCatalog.get("tiny_fold1_test")
    ).draw_instance_predictions(model(inputs)[0]["instances"])
    assert picture.get_image().shape[2] == 3
    assert len(DatasetCatalog.get("tiny_fold1_test")) == 8


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["SOLVER.NO_SUCH_KEY", "1"], "NO_SUCH_KEY"),
        (["DATASETS.TRAIN", "('absent_fold1_train',)"], "absent_fold1_train"),
        (["REFINEMENT.CANDIDATES_PER_ROUND", "0"], "CANDIDATES_PER_ROUND"),
        (["MODEL.WEIGHTS", "no/such/file.pth"], "no/such/file.pth"),
        (["--eval-only"], "--eval-only MODEL.WEIGHTS"),
        (["--num-gpus", "3"], "SOLVER.IMS_PER_BATCH"),
        (["--method", "tsddnet"], "--config-file"),
        (["--profile", "paper"], "--profile"),
        (["--data", "tiny", "--fold", "0"], "--fold"),
    ],
)
def test_bad_input_exits_with_2_and_writes_nothing(tmp_path, arguments, message):
    output = tmp_path / "refused"
    options, overrides = (arguments, []) if arguments[0].startswith("--") else ([], arguments)
    command = train_command(output, *options, overrides=overrides)
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 2
    assert message in result.stderr and "Traceback" not in result.stderr
    assert not output.exists()
