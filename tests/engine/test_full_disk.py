"""On a disk of one megabyte, and on one that cannot be written to."""

import errno
import os
import subprocess

import pytest
from torch import nn

from tsdd_d2.engine.checkpoint import TSDDCheckpointer
from tsdd_d2.engine.checks import check_output_dir
from tsdd_d2.engine.hooks import ResumableWriter
from tsdd_d2.errors import InputError, message_of
from tsdd_d2.refinement import ROIBank

from ..conftest import tiny_bbui

NO_SPACE = os.strerror(errno.ENOSPC)


def mount(*options):
    result = subprocess.run(["mount", *options], capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {result.stderr.strip()}")


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m", "none", str(folder))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder):
    with pytest.raises(OSError), open(folder / "fill", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_checkpoints_and_rounds_survive_a_full_disk(disk):
    model, bank = nn.Linear(200, 500), ROIBank(str(disk / "rois"))  # 400 KB
    checkpointer = TSDDCheckpointer(model, str(disk))
    checkpointer.save("model_0000001", iteration=1)
    bank.write(0, tiny_bbui(range(4)))
    before = bank.read(0)
    fill(disk)
    for name, write in (
        ("model_0000003.pth", lambda: checkpointer.save("model_0000003", iteration=3)),
        ("rois/round_01.json", lambda: bank.write(1, before)),
    ):
        with pytest.raises(OSError) as error:
            write()
        assert message_of(error.value) == f"{disk / name}: {NO_SPACE}"
    assert bank.rounds() == [0] and bank.read(0) == before
    assert sorted(os.listdir(disk)) == ["fill", "last_checkpoint", "model_0000001.pth", "rois"]

    os.remove(disk / "fill")
    assert TSDDCheckpointer(model, str(disk)).resume_or_load("", resume=True) == {"iteration": 1}
    checkpointer.save("model_0000003", iteration=3)
    assert bank.read(bank.rounds()[-1]) == before


def test_the_log_of_the_metrics_names_its_file(disk):
    class Writer:
        def write(self):
            with open(disk / "metrics.json", "a") as file:
                file.write("x" * 10_000)

    hook = ResumableWriter(str(disk))
    hook._writers = [Writer()]
    fill(disk)
    with pytest.raises(OSError) as error:
        hook.after_train()
    assert message_of(error.value) == f"{disk / 'metrics.json'}: {NO_SPACE}"


@pytest.mark.parametrize("why", ["full", "read-only"])
@pytest.mark.parametrize("training", [False, True])
def test_a_folder_that_cannot_be_written_to_is_told_before_anything(disk, tiny_cfg, why, training):
    tiny_cfg.OUTPUT_DIR = str(disk / "run")
    if why == "full":
        fill(disk)
    else:
        mount("-o", "remount,ro", str(disk))
    with pytest.raises(InputError) as error:
        check_output_dir(tiny_cfg, resume=False, overwrite=False, training=training)
    assert str(disk / "run") in str(error.value)
    assert os.strerror(errno.ENOSPC if why == "full" else errno.EROFS) in str(error.value)
    assert not os.path.exists(disk / "run")
