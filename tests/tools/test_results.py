"""From the Markdown files in results/ to the tables of README.md and results/README.md."""

import os
import runpy

import pytest

from tsdd_d2.evaluation.tables import results_table
from tsdd_d2.inference.model_file import save_model_of_run

from ..conftest import ROOT

update = runpy.run_path(os.path.join(ROOT, "tools", "update_readme.py"))["main"]

TABLE1 = """**Table I.**

| method                    | p   | accuracy (%) | sensitivity (%) | AUC   | folds   |
|:--------------------------|:----|:-------------|:----------------|:------|:--------|
| TSDDNet                   | 0.2 | 82.8         | 69.1            | 0.886 | 4 folds |
| TSDDNet [paper, private data] | 0.2 | 89.6     | 90.7            | 0.928 | 5 folds |

- A note.

**Another.**

| methods | p   |
|:--------|:----|
| a – b   | 0.2 |
"""
MARKED = "Before.\n<!-- table: table1{} -->\nold\n<!-- end of table -->\nAfter.\n"


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "table1.md").write_text(TABLE1)
    (folder / "empty.md").write_text("No table.\n")
    return folder


def write_readme(tmp_path, text):
    (tmp_path / "README.md").write_text(text)
    return ["--readme", str(tmp_path / "README.md"), "--results", str(tmp_path / "results")]


def cells(text):
    lines = (line.strip("|").split("|") for line in text.splitlines() if line.startswith("| "))
    return [[cell.strip() for cell in line] for line in lines]


def test_an_interval_that_is_not_defined_is_left_out():
    nan = float("nan")
    auc = {"AUC": 0.9, "AUC_low": nan, "AUC_high": nan}
    accuracy = {"accuracy": 0.8, "accuracy_low": 0.7, "accuracy_high": 0.9}
    table = results_table({"last": {"mine_test": {"found box": {"diagnosis": {**auc, **accuracy}}}}})
    assert cells(table)[-1][-2:] == ["0.900", "0.800 (0.700–0.900)"]


def test_the_first_table_stands_between_the_markers(results, tmp_path):
    assert update(write_readme(tmp_path, MARKED.format(""))) == 0
    text = (tmp_path / "README.md").read_text()
    assert cells(text) == cells(TABLE1)[:3]
    assert text.startswith("Before.\n<!-- table: table1 -->\n\n|") and text.endswith("|\n\n<!-- end of table -->\nAfter.\n")


def test_a_short_table_has_our_methods_and_few_columns(results, tmp_path):
    assert update(write_readme(tmp_path, MARKED.format(" short"))) == 0
    assert cells((tmp_path / "README.md").read_text()) == [
        ["method", "p", "AUC", "folds"],
        ["TSDDNet", "0.2", "0.886", "4"],
    ]
    of_one_p = [["method", "AUC", "folds"], ["TSDDNet", "0.886", "4"]]
    for p, expected in (("0.2", of_one_p), ("1.0", [])):
        assert update(write_readme(tmp_path, MARKED.format(f" short p={p}"))) == 0
        assert cells((tmp_path / "README.md").read_text()) == expected


@pytest.mark.parametrize("undefined", [None, float("nan")])
def test_a_number_that_is_not_defined_is_left_out(undefined):
    """The AUC of a test set of one class: nan of the evaluators, null in results.json."""
    diagnosis = {"AUC": undefined, "AUC_low": undefined, "AUC_high": undefined, "accuracy": 1.0}
    table = results_table({"last round": {"tiny_fold1_test": {"found box": {"diagnosis": diagnosis}}}})
    assert "AUC" not in table and "–" not in table and "1.000" in table


def test_a_short_table_has_the_paired_differences(results, tmp_path):
    other = "| SPA | 0.2 | 80.0 | 60.0 | 0.870 ± 0.010 (0.840–0.900) | 1 of 4 folds |\n| TSDDNet |"
    tests = (
        "| methods | p | difference in AUC (95% interval) |\n|:--|:--|:--|\n| TSDDNet – SPA | 0.2 | +0.020 (0.010–0.030) |\n"
    )
    (results / "table1.md").write_text(TABLE1.replace("| TSDDNet                   |", other) + "\nA sentence.\n\n" + tests)
    assert update(write_readme(tmp_path, MARKED.format(" short p=0.2"))) == 0
    assert cells((tmp_path / "README.md").read_text()) == [
        ["method", "AUC", "folds", "TSDDNet's AUC less its"],
        ["SPA", "0.870 (0.840–0.900)", "1 of 4", "+0.020 (0.010–0.030)"],
        ["TSDDNet", "0.886", "4", ""],
    ]


def test_several_pages_in_one_call(results, tmp_path, capsys):
    arguments = write_readme(tmp_path, MARKED.format(""))
    second = tmp_path / "second.md"
    second.write_text(MARKED.format(" short"))
    arguments.insert(2, str(second))
    assert update([*arguments, "--check"]) == 1
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == arguments[1:3]
    assert update(arguments) == 0 and update([*arguments, "--check"]) == 0
    # of the pages none is written if one cannot be
    (tmp_path / "README.md").write_text(MARKED.format(""))
    second.write_text("<!-- table: none -->\n<!-- end of table -->\n")
    assert update(arguments) == 2 and (tmp_path / "README.md").read_text() == MARKED.format("")


def test_check_tells_an_old_table_and_writes_nothing(results, tmp_path):
    arguments = write_readme(tmp_path, MARKED.format(""))
    assert update(arguments) == 0 and update([*arguments, "--check"]) == 0
    before = (tmp_path / "README.md").read_text()
    (results / "table1.md").write_text(TABLE1.replace("0.886", "0.887"))
    assert update([*arguments, "--check"]) == 1 and (tmp_path / "README.md").read_text() == before


@pytest.mark.parametrize(
    "text, key",
    [
        ("<!-- table: none -->\n<!-- end of table -->\n", "none.md"),
        ("<!-- table: empty -->\n<!-- end of table -->\n", "empty.md"),
        ("<!-- table: table1 -->\n", "table: table1"),
        ("<!-- end of table -->\n", "end of table"),
        ("<!-- table: table1 -->\n<!-- table: table1 -->\n<!-- end of table -->\n", "table: table1"),
        ("<!-- table: table1 of -->\n<!-- end of table -->\n", "table1 of"),
    ],
)
def test_markers_that_cannot_be_filled_are_refused(text, key, results, tmp_path, capsys):
    arguments = write_readme(tmp_path, MARKED.format("") + text)
    before = (tmp_path / "README.md").read_text()
    assert update(arguments) == 2
    assert key in capsys.readouterr().err and (tmp_path / "README.md").read_text() == before


def test_the_pages_show_the_results_of_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert update(["--check"]) == 0


def test_what_is_said_of_a_model(finished_run, tmp_path):
    save_model_of_run(finished_run, tmp_path / "model.pth", half=True)
    page = tmp_path / "card.md"
    for path in (tmp_path / "model.pth", tmp_path / "none.pth"):
        page.write_text(f"Before.\n<!-- model: {path} -->\nout of date\n<!-- end of model -->\nAfter.\n")
        assert update(["--readme", str(page)]) == 0
        text = page.read_text()
        assert text.startswith("Before.\n<!-- model: ") and text.endswith("<!-- end of model -->\nAfter.\n")
        assert "out of date" not in text and str(path) in text
        assert ("tiny_fold1_train" in text) == path.exists()
        assert update(["--readme", str(page), "--check"]) == 0
