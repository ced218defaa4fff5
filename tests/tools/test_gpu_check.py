"""The check of a GPU: the whole way on a CPU, too short to say anything of the training."""

import os

import pytest
import torch

from tsdd_d2.data.files import read_json

from .test_tools import run

# of 64 pixels P6 would be a single one, from which P7's weights learn noise in bfloat16: findings/one_pixel_in_bfloat16.sh
SMALL = ["INPUT.MIN_SIZE_TRAIN", "(96,)", "INPUT.MIN_SIZE_TEST", 96, "SOLVER.IMS_PER_BATCH", 2, "DATALOADER.NUM_WORKERS", 0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_it_is_skipped(tmp_path):
    result = run("gpu_check.py", "--output", tmp_path / "check.json")
    assert result.returncode == 0 and result.stdout.startswith("skipped: ")
    assert os.listdir(tmp_path) == []


def test_the_whole_way_on_a_cpu(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    options = ["--device", "cpu", "--iterations", 4, "--patients", 12, "--output", tmp_path / "check.json"]
    result = run("gpu_check.py", *options, *SMALL)
    assert result.returncode == 0, result.stdout + result.stderr
    found = read_json(tmp_path / "check.json")
    assert found["failed"] == [] and found["resume"]["weights_differ_by"] == 0
    assert set(found["training"]) == {"float32", "mixed"}
    assert found["prediction"]["prediction on the GPU"]["agreeing"] == 1
    assert set(found["step"]) == {f"{x} in {y}" for x in ("TSDDStage1", "RetinaNet") for y in ("float32", "mixed")}
