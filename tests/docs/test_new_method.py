"""The page about methods of other packages: its files make a package, and its commands find and train the method."""

import importlib
import os
import pickle
import re
import shlex
import subprocess
import sys

import pytest
from setuptools import build_meta

from tsdd_d2 import plugins
from tsdd_d2.config import get_tsdd_cfg
from tsdd_d2.data.files import read_json
from tsdd_d2.errors import InputError
from tsdd_d2.experiments import METHODS, Run, register_method

from ..baselines.tiny import tiny_overrides
from ..conftest import ROOT

FILES = {"toml": "pyproject.toml", "python": "my_peer.py", "yaml": "sharp_retinanet_cpu.yaml"}


def blocks(language):
    with open(os.path.join(ROOT, "docs", "new_method.md"), encoding="utf-8") as file:
        return re.findall(rf"^```{language}\n(.*?)^```$", file.read(), flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The folder of the page's package, which is as good as installed."""
    folder = tmp_path / "my_peer"
    folder.mkdir()
    for language, name in FILES.items():
        (text,) = blocks(language)
        (folder / name).write_text(text.replace("../tsdd_d2/configs/", f"{ROOT}/configs/"))
    monkeypatch.chdir(folder)
    build_meta.prepare_metadata_for_build_wheel(str(folder))  # the *.dist-info that pip writes
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]))
    return folder


def test_the_page_adds_a_method(package, tiny_environment, tmp_path):
    dry, table, train = blocks("bash")[0].splitlines()
    sizes = tiny_overrides(iterations=2)
    sizes += ["REFINEMENT.WARMUP_ITER", "0", "REFINEMENT.ROUNDS", "1"]  # of TSDDNet, in the plan
    experiment = ["--p", "0.5", "--output", str(tmp_path / "out"), "--overrides", *sizes[8:]]  # less data sets and p

    def run(command, *options):
        command = command.replace("--data busbra", "--data tiny").replace("../my_peer", str(package))
        words = [sys.executable, *shlex.split(command)[1:], *options]
        done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout
        return done.stdout

    name = "sharp_retinanet_tiny_cpu_fold1_p0.5_seed0"
    assert re.search(rf"{name} +fa +missing", run(dry, *experiment))
    run(table, *experiment)
    folder = tmp_path / "out" / name
    found = read_json(folder / "predictions.json")
    assert len(found["predictions"]["tiny_fold1_test"]) == 8
    assert found["config_file"] == "sharp_retinanet_cpu.yaml" and found["versions"]["my-peer"] == "0.1"
    assert "sharp_retinanet" in (tmp_path / "out" / "results" / "table1.md").read_text()
    # a run is sent to a worker, which is another process
    sent = pickle.dumps(Run(str(tmp_path), "sharp_retinanet", "tiny", "cpu", 1, 0.5, 0))
    worker = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()).command)"
    printed = subprocess.run([sys.executable, "-c", worker], input=sent, stdout=subprocess.PIPE, check=True).stdout
    assert "my_peer/sharp_retinanet_cpu.yaml" in printed.decode()
    run(train.replace("output/sharp", str(tmp_path / "alone")), *sizes)
    assert "SHARPNESS: 2.0" in (tmp_path / "alone" / "config.yaml").read_text()


def test_a_plugin_that_cannot_be_imported_is_one_clear_error(package, monkeypatch):
    (package / "my_peer.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(package)
    plugins.load_plugins.cache_clear()
    with pytest.raises(InputError, match="plug-in my_peer of the package my-peer .* No module named 'no_such_package'"):
        get_tsdd_cfg()
    (package / "my_peer.py").write_text("def add_config(cfg):\n    cfg.MODEL.NOBODY.KEY = 1\n")
    importlib.invalidate_caches()
    try:
        with pytest.raises(InputError, match="add_config of the plug-in my_peer: AttributeError"):
            get_tsdd_cfg()
    finally:
        plugins.load_plugins.cache_clear()
        sys.modules.pop("my_peer")


def test_two_methods_cannot_have_one_name():
    with pytest.raises(ValueError, match="a method retinanet already"):
        register_method(METHODS["retinanet"])
