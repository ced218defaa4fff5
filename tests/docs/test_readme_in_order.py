"""The commands of README.md one after the other, as a user gives them, on a tiny data set and with few iterations."""

import os
import shlex
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from ..conftest import ROOT, make_tiny_dataset
from ..methods.tiny import tiny_overrides
from .test_commands import shown_commands

# What makes the environment, and the pictures of the page; test_commands.py reads these commands too.
LEFT_OUT = ("install_detectron2.py", "docs/make_")
FEW = [
    *tiny_overrides(iterations=6)[8:], *"REFINEMENT.WARMUP_ITER 2 REFINEMENT.ROUNDS 2 MODEL.CNET.INPUT_SIZE 64".split()
]  # fmt: skip


def readme():
    return [command.split("#")[0].strip() for page, command in shown_commands() if page == "README.md"]


def commands_in_order():
    found = [x for x in readme() if x.startswith("python ") and not any(part in x for part in LEFT_OUT)]
    return [x for x in found if "reproduce.py" not in x or "--dry-run" in x]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working copy, with busbra/ as it is downloaded, a folder mine/ with mine.csv, and scans."""
    work = tmp_path / "work"
    work.mkdir()
    for name in ("tools", "configs", "datasets", "docs"):
        (work / name).symlink_to(os.path.join(ROOT, name))
    data = tmp_path / "data"
    make_tiny_dataset(data / "mine")
    shutil.rmtree(data / "mine" / "annotations")
    images = sorted((data / "mine" / "images").iterdir())
    for name in ("scans", "more_scans"):
        (work / name).mkdir()
        shutil.copy(images[0], work / name / f"{name}.png")
    for name in ("Images", "Masks"):
        (data / "busbra" / name).mkdir(parents=True)
    table = ["ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side,BBOX"]
    folds = ["ID,Pathology,kFold,valid_1"]
    mine = ["file_name,patient_id,class,x,y,w,h"]
    for number, image in enumerate(images):  # two of each patient
        patient, name = number // 2 + 1, f"bus_{number // 2 + 1:04d}-{'lr'[number % 2]}"
        pathology = "benign" if patient % 2 else "malignant"
        shutil.copy(image, data / "busbra" / "Images" / f"{name}.png")
        mask = np.zeros((64, 72), np.uint8)
        mask[11:32, 9 + patient : 36 + patient] = 255
        cv2.imwrite(str(data / "busbra" / "Masks" / f"{name.replace('bus_', 'mask_')}.png"), mask)
        table.append(f'{name},{patient},some,{pathology},4,GE,72,64,left,"[{10 + patient},12,26,20]"')
        folds.append(f"{name},{pathology},{1 + patient // 2 % 4},1")
        mine.append(f"images/{image.name},{patient},{pathology},{10 + patient},12,26,20")
    (data / "busbra" / "bus_data.csv").write_text("\n".join(table) + "\n")
    (data / "busbra" / "5-fold-cv.csv").write_text("\n".join(folds) + "\n")
    (work / "mine.csv").write_text("\n".join(mine) + "\n")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(data))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return work


def test_the_environment_is_activated_before_python_is_called():
    """make installs into an environment that the user's shell does not know of."""
    commands = readme()
    assert commands.index(". .venv/bin/activate") < commands.index(commands_in_order()[0])


def test_all_commands_in_order(folder):
    done = []
    for command in commands_in_order():
        words = shlex.split(os.path.expandvars(command))
        words += FEW if "train_net.py" in command else []
        result = subprocess.run([sys.executable, *words[1:]], cwd=folder, capture_output=True, text=True)
        assert result.returncode == 0, f"{command}\n{result.stdout[-2000:]}{result.stderr[-2000:]}"
        done.append(words[1])
    assert {"datasets/prepare.py", "tools/train_net.py", "tools/reproduce.py"} <= set(done)
    assert {"model.pth", "model.onnx", "out"} <= set(os.listdir(folder))
    assert len((folder / "out" / "predictions.jsonl").read_text().splitlines()) == 2
    assert os.path.isfile(folder / "output" / "p02" / "tsddnet_stage1" / "review.html")
