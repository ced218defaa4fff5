"""The tables in results/ are what tools/reproduce.py makes of the archive of predictions that lies there."""

import os
import re
import runpy
from decimal import Decimal

import pytest

from ..conftest import ROOT

RESULTS = os.path.join(ROOT, "results")
ARCHIVE = os.path.join(RESULTS, "predictions.tar.xz")
OF_CPU = ("table1", "table2", "roc", "teachers", "fig9")
OF_SCRATCH = ("table1", "table2", "table2_seeds", "table3")  # the Markdown alone
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
OTHERS = ("README.md", "coarse.md", "coarse.csv")  # not made by tools/reproduce.py


@pytest.mark.parametrize("profile", ["cpu", "scratch"])
def test_the_tables_are_made_again_of_the_kept_predictions(profile, tmp_path, monkeypatch):
    # without the data: those runs from random initialisation are of the published boxes
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    folder = RESULTS if profile == "cpu" else os.path.join(RESULTS, "scratch")
    names = OF_CPU if profile == "cpu" else OF_SCRATCH
    endings = (".md", ".csv") if profile == "cpu" else ".md"
    main = runpy.run_path(os.path.join(ROOT, "tools", "reproduce.py"))["main"]
    options = ["--no-train", "--profile", profile, "--output", ARCHIVE, "--results", str(tmp_path)]
    assert main(["--experiment", *names, *options]) == 0
    kept = {name for name in os.listdir(folder) if name.endswith(endings)} - set(OTHERS)
    assert kept == {name for name in os.listdir(tmp_path) if name.endswith(endings)}
    for name in kept:
        with open(tmp_path / name, encoding="utf-8") as first, open(os.path.join(folder, name), encoding="utf-8") as second:
            assert_same_table(first.read(), second.read(), name)


def assert_same_table(made, committed, name):
    """The same words, and numbers that differ by no more than the last digit: rounding may tip there on another CPU."""
    texts, numbers = zip(*((NUMBER.sub("#", text), NUMBER.findall(text)) for text in (made, committed)))
    # columns of Markdown are as wide as their longest number
    assert re.sub(r"[ -]+", " ", texts[0]) == re.sub(r"[ -]+", " ", texts[1]), name
    for a, b in zip(*numbers, strict=True):
        assert abs(Decimal(a) - Decimal(b)) <= max(last_digit(a), last_digit(b)), (name, a, b)


def last_digit(number):
    """The value of one in the last place: 0.01 of 0.25."""
    return Decimal(1).scaleb(Decimal(number).as_tuple().exponent)


@pytest.mark.parametrize("folder", [RESULTS, os.path.join(RESULTS, "scratch")])
def test_all_files_are_named_or_linked_by_the_page(folder):
    with open(os.path.join(folder, "README.md"), encoding="utf-8") as file:
        links = set(re.findall(r"\]\(([^)#]+)\)", file.read()))
    assert all(os.path.exists(os.path.join(folder, link)) for link in links)
    pages = {name for name in os.listdir(folder) if name.endswith((".md", ".html"))} - {"README.md"}
    assert pages <= links


def test_the_folder_is_a_shelf():
    sizes = [os.path.getsize(os.path.join(folder, x)) for folder, _, names in os.walk(RESULTS) for x in names]
    assert len(sizes) <= 40 and sum(sizes) <= 3e6
