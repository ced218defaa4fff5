"""Shared by all tests: a tiny configuration and a tiny data set on which the whole first stage runs in seconds."""

import os
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from tsdd_d2 import add_tsdd_config
from tsdd_d2.data.files import write_json

torch.set_num_threads(1)

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# as for the scripts that stand there
sys.path[:0] = [os.path.join(ROOT, "datasets"), os.path.join(ROOT, "tools")]
TINY_CONFIG = os.path.join(ROOT, "tests", "tiny.yaml")


@pytest.fixture(autouse=True)
def own_registrations():
    """Data sets that a test registers are forgotten with its folder: the next test has others of the same name."""
    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        if name in MetadataCatalog.list():
            MetadataCatalog.remove(name)


@pytest.fixture
def tiny_cfg(tmp_path):
    """The CPU profile reduced to 64-pixel images; OUTPUT_DIR below tmp_path."""
    cfg = get_cfg()
    add_tsdd_config(cfg)
    cfg.merge_from_file(TINY_CONFIG, allow_unsafe=False)
    cfg.OUTPUT_DIR = str(tmp_path / "run")
    return cfg


def tiny_bbui(patients: range, annotated: bool = True) -> dict:
    """Two 72x64 images for each patient: a dark square (benign) or a dark tall bar (malignant)."""
    images, annotations = [], []
    for patient in patients:
        for view in range(2):
            image_id = patient * 2 + view + 1
            malignant = patient % 2
            x, y = 8 + (patient * 7) % 24, 10 + (patient * 5 + view * 3) % 20
            width, height = (14, 30) if malignant else (26, 20)
            images.append(
                {
                    "id": image_id,
                    "file_name": f"images/{image_id:03d}.png",
                    "width": 72,
                    "height": 64,
                    "patient_id": f"p{patient}",
                    "category_id": malignant + 1,
                }
            )
            if annotated:
                annotations.append(
                    {
                        "id": image_id,
                        "image_id": image_id,
                        "category_id": malignant + 1,
                        "bbox": [x, y, width, height],
                        "area": width * height,
                        "iscrowd": 0,
                    }
                )
    return {
        "categories": [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}],
        "images": images,
        "annotations": annotations,
    }


def make_tiny_dataset(root: pathlib.Path) -> None:
    """Writes images and the splits fold1_train, fold1_val and fold1_test into the folder of a data set."""
    (root / "images").mkdir(parents=True)
    for split, patients in (("train", range(8)), ("val", range(8, 10)), ("test", range(10, 14))):
        bbui = tiny_bbui(patients)
        boxes = {a["image_id"]: a["bbox"] for a in bbui["annotations"]}
        for image in bbui["images"]:
            random = np.random.RandomState(image["id"])
            pixels = random.randint(90, 200, (image["height"], image["width"]), dtype=np.uint8)
            x, y, width, height = boxes[image["id"]]
            pixels[y : y + height, x : x + width] //= 4
            cv2.imwrite(str(root / image["file_name"]), pixels)
        write_json(root / "annotations" / f"fold1_{split}.json", bbui)


@pytest.fixture
def tiny_dataset(tmp_path, monkeypatch):
    """The folder of a data set named "tiny" that the convention finds; a test may spoil it."""
    make_tiny_dataset(tmp_path / "datasets" / "tiny")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    return tmp_path / "datasets" / "tiny"


def train_command(output_dir, *options, overrides=()):
    """The command line of a training run on the tiny data set."""
    script = os.path.join(ROOT, "tools", "train_net.py")
    return [sys.executable, script, "--config-file", TINY_CONFIG, *options, "OUTPUT_DIR", str(output_dir), *overrides]


def train(output_dir, *options, overrides=()):
    """Runs the training tool as a user does; fails the test with its output if it fails."""
    result = subprocess.run(
        train_command(output_dir, *options, overrides=overrides), capture_output=True, text=True, timeout=900
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result


@pytest.fixture(scope="session")
def session_datasets(tmp_path_factory):
    """The folder that holds the tiny data set of :func:`finished_run`."""
    root = tmp_path_factory.mktemp("datasets")
    make_tiny_dataset(root / "tiny")
    return root


@pytest.fixture
def tiny_environment(session_datasets, monkeypatch):
    """Lets this process and its children find the tiny data set, on one thread."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(session_datasets))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def finished_run(session_datasets, tmp_path_factory):
    """The OUTPUT_DIR of an uninterrupted run with two rounds; tests must not change it."""
    run = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(session_datasets))
        patch.setenv("OMP_NUM_THREADS", "1")
        train(run)
    return run
