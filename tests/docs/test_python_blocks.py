"""The Python of README.md runs as it stands there, on tiny files of the names it has."""

import os
import shutil

import numpy as np
import pytest

from detectron2.modeling import build_model
from tsdd_d2 import save_model

from ..conftest import ROOT
from ..inference.test_dicom import save_dicom
from .test_foreign_project import code_blocks


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny_cfg, tiny_dataset):
    """The working directory of a user who has model.pth, a.png and study.dcm."""
    folder = tmp_path / "work"
    folder.mkdir()
    shutil.copy(tiny_dataset / "images" / "001.png", folder / "a.png")
    save_dicom(folder / "study.dcm", np.random.RandomState(0).randint(0, 256, (64, 72), dtype=np.uint8))
    training_set = {"name": "tiny_fold1_train", "sha256": "0" * 64}
    save_model(folder / "model.pth", tiny_cfg, build_model(tiny_cfg), threshold=0.5, training_set=training_set)
    monkeypatch.chdir(folder)
    return folder


def test_readmes_block_runs(folder, capsys):
    (block,) = code_blocks(os.path.join(ROOT, "README.md"))
    exec(compile(block, "README.md", "exec"), {})
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["a.png", "study.dcm"]
