"""Configurations from files and the command line: what is accepted, and one message for what is not."""

import time

import pytest

from detectron2.config import CfgNode
from tsdd_d2.config import get_tsdd_cfg
from tsdd_d2.config_values import RANGES, above, add_key, merge_options, value_problems
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.errors import InputError


def test_defaults_are_allowed():
    cfg = get_tsdd_cfg()
    cfg.MODEL.DEVICE, cfg.SEED = "cpu", 0  # Detectron2's defaults ask for CUDA, and for another run each time
    assert value_problems(cfg) == []


def test_values_have_the_kind_of_the_default():
    cfg = load_config("", ["DATASETS.P", "1", "INPUT.MIN_SIZE_TRAIN", "[64, 96]", "DATASETS.VETOES", "a.json"])
    assert cfg.DATASETS.P == 1.0 and isinstance(cfg.DATASETS.P, float)
    assert cfg.INPUT.MIN_SIZE_TRAIN == (64, 96)
    assert load_config("", ["SOLVER.BASE_LR", 1, "SEED", 3]).SEED == 3  # as from Python


@pytest.mark.parametrize(
    "options, key",
    [
        (["SEED", "1.5"], "SEED"),
        (["DATASETS.P", "many"], r"DATASETS\.P"),
        (["DATASETS.P", "None"], r"DATASETS\.P"),
        (["MODEL", "1"], "MODEL"),
        (["MODEL", "{'DEVICE': 'cpu'}"], "MODEL"),
        (["MODEL.DNET.ALPA", "1"], r"MODEL\.DNET\.ALPA: .*ALPHA"),
        (["MODEL.WEIGHTS.X", "1"], r"MODEL\.WEIGHTS"),
        (["SEED"], "SEED"),
        (["DATASETS.TRAIN", "(" * 3000], r"DATASETS\.TRAIN"),
        (["_BASE_", "a.yaml"], "_BASE_"),
    ],
)
def test_an_option_that_cannot_be_is_named(options, key):
    with pytest.raises(InputError, match=key):
        load_config("", options)


def test_all_wrong_options_in_one_message():
    with pytest.raises(InputError) as error:
        load_config("", ["SEED", "x", "NOWHERE", "1", "DATASETS.P", "True"])
    assert all(key in str(error.value) for key in ("SEED", "NOWHERE", "DATASETS.P"))


FILES = {
    "empty": "",
    "list": "[1, 2]",
    "number": "3",
    "base of itself": "_BASE_: a.yaml",
    "folder": "_BASE_: .",
    "base of a number": "_BASE_: 3",
    "base of numbers": "_BASE_: [3]",
    "missing base": "_BASE_: gone.yaml",
    "base without a path": '_BASE_: "a\\0b"',
    "base that no path is": '_BASE_: "\\ud800"',
    "keys": "1: 2",
    "a key twice": "SEED: 1\nSEED: 2",
    "a deeper key twice": "MODEL: {WEIGHTS: a, WEIGHTS: b}",
    "deeper keys": "MODEL: {1: 2}",
    "version": "VERSION: two",
    "old": "VERSION: 1",
    "section": "MODEL: 3",
    "nothing": "MODEL:",
    "value": "SEED: {a: 1}",
    "date": "SEED: 2001-13-45",
    "object": "SEED: !!python/object/apply:os.getcwd []",
    "alias of itself": "a: &a [*a]",
    "deep": "[" * 5000,
    "binary": "\x00\x01",
    "laughs": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{x}: &{x} [{', '.join(['*' + y] * 9)}]\n" for x, y in zip("bcdefghijk", "abcdefghij")),
    "merged laughs": "a: &a {x: 1}\n"
    + "".join(f"{x}: &{x} {{<<: [{', '.join(['*' + y] * 9)}]}}\n" for x, y in zip("bcdefghijk", "abcdefghij")),
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_file_that_is_no_configuration_is_named(content, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(content)
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"a\.yaml"):
        load_config(str(path))
    assert time.perf_counter() - start < 30


def test_bases_that_go_in_a_circle_are_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("_BASE_: b.yaml")
    (tmp_path / "b.yaml").write_text("_BASE_: [a.yaml]")
    with pytest.raises(InputError, match=r"b\.yaml"):
        load_config(str(tmp_path / "a.yaml"))


def test_a_file_lies_over_its_bases_in_their_order(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.yaml").write_text("SEED: 1\nSOLVER: {MAX_ITER: 5, BASE_LR: 1}")
    (tmp_path / "b.yaml").write_text("SEED: 2\nSOLVER: {MAX_ITER: 6}")
    (tmp_path / "c.yaml").write_text("_BASE_: [below/a.yaml, b.yaml]\nTEST: {BOOTSTRAP: 7}")
    cfg = load_config(str(tmp_path / "c.yaml"), ["SOLVER.CHECKPOINT_PERIOD", "8"])
    assert (cfg.SEED, cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR, cfg.TEST.BOOTSTRAP) == (2, 6, 1.0, 7)


def test_a_retired_key_of_a_runs_own_file_is_left_out(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("SEED: 3\nMODEL: {CNET: {DIFFERENTIABLE_CROP: false}}")
    assert load_config(str(path)).SEED == 3
    path.write_text("MODEL: {CNET: {DIFFERENTIABLE_CROP: true}}")
    with pytest.raises(InputError, match=r"config\.yaml.*DIFFERENTIABLE_CROP"):
        load_config(str(path))


def test_a_plugin_declares_its_keys_in_the_same_way():
    cfg = CfgNode()
    try:
        add_key(cfg, "MODEL.MINE.STRENGTH", 1.0, above(0))
        merge_options(cfg, ["MODEL.MINE.STRENGTH", "-1"])
        (problem,) = value_problems(cfg)
        assert "MODEL.MINE.STRENGTH" in problem
    finally:
        del RANGES["MODEL.MINE.STRENGTH"]


@pytest.mark.parametrize(
    "options, words",
    [
        (["SEED", "1", "--resume"], "before the first KEY VALUE pair, not after it: --resume."),
        (["SEED", "1", "--method", "stac", "--fold", "2"], "not after it: --method, --fold."),
        (["DATASETS.P=0.2"], "A blank is needed between KEY and VALUE, not '=': DATASETS.P 0.2."),
        (["SEED", "1", "DATASETS.P=0.2", "SOLVER.MAX_ITER", "5"], "not '=': DATASETS.P 0.2."),
        (["DATASETS.P=0.2", "SEED=3"], "not '=': DATASETS.P 0.2, SEED 3."),
        (["SEED", "1", "SOLVER.MAX_ITER"], "'SOLVER.MAX_ITER' has no value."),
    ],
)
def test_words_that_are_no_pairs_are_told(options, words):
    with pytest.raises(InputError) as error:
        load_config(opts=options)
    assert words in str(error.value)


def test_a_value_may_look_like_a_pair():
    assert load_config(opts=["OUTPUT_DIR", "SEED=3"]).OUTPUT_DIR == "SEED=3"
