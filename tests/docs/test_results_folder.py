"""The tables in results/ are what the commands of `make experiments` and of the pages make of the predictions kept there."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
from decimal import Decimal

import pytest

from ..conftest import ROOT
from .test_commands import shown_commands

main = runpy.run_path(os.path.join(ROOT, "tools", "reproduce.py"))["main"]
NEEDS_IMAGES = ("fig6", "fig8")
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def commands():
    """The arguments of every command that writes to results/."""
    make = ["make", "-C", ROOT, "--no-print-directory", "--dry-run", "experiments"]
    lines = []
    if shutil.which("make"):
        lines = subprocess.run(make, capture_output=True, text=True, check=True).stdout.splitlines()
    lines += [command for page, command in shown_commands() if page in ("README.md", "results/README.md")]
    found = [tuple(shlex.split(x, comments=True)[2:]) for x in lines if "reproduce.py" in x and "--results" in x]
    return [x for x in dict.fromkeys(found) if x[x.index("--experiment") + 1] not in NEEDS_IMAGES]


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


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_a_table_is_made_again_of_the_kept_predictions(arguments, tmp_path):
    # results/README.md: what its one override changes was the default when those runs were made, so that they record none
    arguments = list(arguments[: arguments.index("--overrides")] if "--overrides" in arguments else arguments)
    place = arguments.index("--results") + 1
    kept = os.path.join(ROOT, arguments[place])
    arguments[place] = str(tmp_path)
    assert main([*arguments, "--no-train", "--output", os.path.join(kept, "runs")]) == 0
    tables = [name for name in os.listdir(tmp_path) if name.endswith((".md", ".csv", ".tex"))]
    assert len(tables) >= 3
    for name in tables:
        made, committed = (os.path.join(folder, name) for folder in (tmp_path, kept))
        with open(made, encoding="utf-8") as first, open(committed, encoding="utf-8") as second:
            assert_same_table(first.read(), second.read(), name)


def test_every_table_has_a_command():
    made = {(x[x.index("--results") + 1], x[x.index("--experiment") + 1]) for x in commands()}
    kept = {
        (os.path.relpath(folder, ROOT), name[:-5])
        for folder, _, names in os.walk(os.path.join(ROOT, "results"))
        for name in names
        if name.endswith(".json") and name[:-5] + ".md" in names
    }
    assert kept and kept <= made
