"""The page about methods and parts of other packages: its files make a package, and its commands find and train them."""

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
from tsdd_d2.experiments.run import Run
from tsdd_d2.method import METHODS, register_method
from tsdd_d2.refinement import SELECTION_RULE_REGISTRY, build_selection_rule
from tsdd_d2.refinement.selection import decide

from ..conftest import ROOT
from ..methods.tiny import tiny_overrides
from ..refinement.test_selection import rows

FILES = {"toml": ["pyproject.toml"], "python": ["my_peer.py", "my_rule.py"]}


# two iterations, of TSDDNet with one round
SIZES = [*tiny_overrides(iterations=2), "REFINEMENT.WARMUP_ITER", "0", "REFINEMENT.ROUNDS", "1"]


def page():
    with open(os.path.join(ROOT, "docs", "new_method.md"), encoding="utf-8") as file:
        return file.read()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page(), flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The folder of the page's package, which is as good as installed."""
    folder = tmp_path / "my_peer"
    folder.mkdir()
    for language, names in FILES.items():
        for name, text in zip(names, blocks(language), strict=True):
            (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    build_meta.prepare_metadata_for_build_wheel(str(folder))  # the *.dist-info that pip writes
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]))
    return folder


def run(command, *options):
    words = [sys.executable, *shlex.split(command)[1:], *options]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_page_adds_a_method(package, tiny_environment, tmp_path):
    commands = blocks("bash")[0].replace("--data busbra", "--data tiny").replace("../my_peer", str(package))
    dry, table, _ = commands.splitlines()
    # less data sets and p; a batch that each method of the table can divide
    overrides = [*SIZES[8:], "SOLVER.IMS_PER_BATCH", "10"]
    experiment = ["--p", "0.5", "--output", str(tmp_path / "out"), "--overrides", *overrides]
    name = "sharp_retinanet_tiny_cpu_fold1_p0.5_seed0"
    assert re.search(rf"{name} +fa +missing", run(dry, *experiment))
    run(table, *experiment)
    folder = tmp_path / "out" / name
    found = read_json(folder / "predictions.json")
    assert len(found["predictions"]["tiny_fold1_test"]) == 8
    assert found["versions"]["my-peer"] == "0.1"
    assert "Sharp RetinaNet" in (tmp_path / "out" / "results" / "table1.md").read_text()
    # a run is sent to a worker, which is another process
    sent = pickle.dumps(Run(str(tmp_path), "sharp_retinanet", "tiny", "cpu", 1, 0.5, 0))
    worker = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()).command)"
    printed = subprocess.run([sys.executable, "-c", worker], input=sent, stdout=subprocess.PIPE, check=True).stdout
    assert "--method" in printed.decode() and "sharp_retinanet" in printed.decode()
    assert "SHARPNESS: 2.0" in (folder / "config.yaml").read_text()


@pytest.mark.parametrize("p", [0.5, 1.0])
def test_the_page_adds_a_semi_supervised_method(package, tiny_environment, tmp_path, p):
    train = blocks("bash")[0].splitlines()[2].replace("--data busbra", "--data tiny")
    run(train.replace("output/self_training", str(tmp_path / "run")), *SIZES, "DATASETS.P", str(p))
    record = read_json(tmp_path / "run" / "run.json")
    assert (record["method"], record["status"], record["p"]) == ("self_training", "finished", p)


def test_what_the_pages_table_names_is_there():
    names = re.findall(r"^\|.*?`(tsdd_d2[\w.]+)", page(), flags=re.MULTILINE)
    assert len(names) == 8
    for module, name in (x.rsplit(".", 1) for x in names):
        assert hasattr(importlib.import_module(module), name), name


def test_the_page_trains_with_a_rule_of_its_own(package, tiny_environment, tmp_path):
    (train,) = blocks("bash")[1].replace("\\\n", " ").splitlines()
    run(train.replace("output/margin", str(tmp_path / "margin")), *SIZES)
    assert read_json(tmp_path / "margin" / "run.json")["rule"] == "with_margin"
    assert "MARGIN: 0.02" in (tmp_path / "margin" / "config.yaml").read_text()


def test_the_pages_rule_refuses_a_value_before_anything_is_written(package, tiny_environment, tmp_path):
    (train,) = blocks("bash")[1].replace("\\\n", " ").splitlines()
    command = train.replace("output/margin", str(tmp_path / "margin")).replace("MARGIN 0.02", "MARGIN -1.0")
    with pytest.raises(AssertionError, match="error: REFINEMENT.MARGIN must be 0 or more"):
        run(command, *SIZES)
    assert not (tmp_path / "margin").exists()


def test_the_pages_rule_keeps_a_roi_by_its_margin(monkeypatch):
    monkeypatch.setattr(SELECTION_RULE_REGISTRY, "_obj_map", dict(SELECTION_RULE_REGISTRY._obj_map))
    module = {}
    exec(blocks("python")[1], module)
    cfg = get_tsdd_cfg()
    module["add_config"](cfg)
    cfg.REFINEMENT.RULE = "with_margin"
    slots = rows(2, current_scores=[0.5, -float("inf")], candidate_scores=[[0.4, 0.6]] * 2)
    for margin, replaced in ((0.05, [True, True]), (0.2, [False, True])):
        cfg.REFINEMENT.MARGIN = margin
        selection = decide(build_selection_rule(cfg), slots)
        assert selection.replaced.tolist() == replaced
        assert selection.scores.tolist() == pytest.approx([0.6 if replaced[0] else 0.5, 0.6])


def test_a_plugin_that_cannot_be_imported_is_one_clear_error(package, monkeypatch):
    (package / "my_peer.py").write_text("import no_such_package\n")
    (package / "my_rule.py").write_text("")
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
        for name in ("my_peer", "my_rule"):
            sys.modules.pop(name)


def test_two_methods_cannot_have_one_name():
    with pytest.raises(ValueError, match="a method retinanet already"):
        register_method(METHODS["retinanet"])
