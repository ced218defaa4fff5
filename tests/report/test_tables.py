import csv
import re

import numpy as np
import pytest

from tsdd_d2.evaluation.comparison import DeLongTest, McNemarTest
from tsdd_d2.report import paper
from tsdd_d2.report.methods import title
from tsdd_d2.report.results import Comparison, Estimate, Gain
from tsdd_d2.report.runs import group
from tsdd_d2.report.tables import (
    Table,
    OurRow,
    comparisons_table,
    gains_table,
    methods_table,
    probabilities_table,
    stages_table,
)

from .conftest import descriptor, matched, random_run

NAN = float("nan")
FIGURES = {
    "accuracy": Estimate(0.84321, 0.0123, 0.8, 0.88),
    "sensitivity": Estimate(0.9, None, NAN, NAN),
    "specificity": Estimate(0.5, None, 0.4, 0.6),
    "youden_index": Estimate(0.4, None, -0.01, 0.6),
    "AUC": Estimate(0.9, 0.01, 0.85, 0.95),
}


def groups(*finished, missing=()):
    return group(matched([random_run(*x) for x in finished], [descriptor(*x) for x in missing]))


def test_the_papers_figures_agree_with_themselves():
    for row in (*paper.TABLE1, *paper.TABLE2, *paper.TABLE3):
        sensitivity, specificity, youden_index = (row.figures[x][0] for x in paper.METRICS[1:])
        assert youden_index == pytest.approx(sensitivity + specificity - 100, abs=0.15), row
    # the gains that the text states over the second-best method of Table I, and over TSDDNet-B+CS in Table II
    for table, gains in ((paper.TABLE1, (3.53, 3.47, 2.69, 6.59)), (paper.TABLE2, (1.70, 2.45, 1.58, 4.04))):
        *others, ours = table
        best = [max(row.figures[x][0] for row in others) for x in paper.METRICS]
        assert [ours.figures[x][0] - y for x, y in zip(paper.METRICS, best)] == pytest.approx(gains, abs=0.011)


def test_cells():
    (x,) = groups(("retinanet", 1), ("retinanet", 2))
    (row,) = methods_table("t", "T", [OurRow(x, FIGURES)], ()).rows
    assert row == {
        "method": "RetinaNet",
        "p": "0.2",
        "accuracy (%)": "84.3 ± 1.2 (80.0–88.0)",
        "sensitivity (%)": "90.0",
        "specificity (%)": "50.0 (40.0–60.0)",
        "YI (%)": "40.0 (-1.0 to 60.0)",
        "AUC": "0.900 ± 0.010 (0.850–0.950)",
        "folds": "2 folds",
    }


def test_incomplete_and_missing_methods_say_so():
    some, none = groups(("retinanet", 2), missing=[("retinanet", 1), ("faster_rcnn", 1)])
    table = methods_table("t", "T", [OurRow(some, FIGURES), OurRow(none, {})], ())
    first, second = table.rows
    assert first["accuracy (%)"] == "84.3 ± 1.2 (80.0–88.0)" and first["folds"] == "1 of 2 folds"
    assert second["accuracy (%)"] == second["AUC"] == "missing" and second["folds"] == "0 of 1 folds"
    assert table.records[1]["accuracy_mean"] is None and table.records[1]["folds"] == 0


def test_an_undefined_figure_is_a_dash():
    (x,) = groups(("retinanet", 1))
    (row,) = methods_table("t", "T", [OurRow(x, {**FIGURES, "AUC": Estimate(NAN, None, NAN, NAN)})], ()).rows
    assert row["AUC"] == "–"


def test_the_papers_row_stands_beside_ours_and_is_marked():
    rows = methods_table("t", "T", [OurRow(x, FIGURES) for x in groups(("tsddnet", 1), ("peer", 1))], paper.TABLE1).rows
    names = [row["method"] for row in rows]
    assert names[-3:] == ["peer", "TSDDNet", "TSDDNet [paper, private data]"]
    assert rows[-1]["accuracy (%)"] == "89.62 ± 1.24" and rows[-1]["AUC"] == "0.928"
    assert sum("[paper, private data]" in name for name in names) == len(paper.TABLE1) == 9


def test_table_iii_goes_by_p():
    (x,) = groups(("tsddnet", 1))
    rows = methods_table("t", "T", [OurRow(x, FIGURES)], paper.TABLE3, by_p=True).rows
    assert [row["p"] for row in rows] == ["0.2"] * 3 + ["0.4"] * 2 + ["0.6"] * 2 + ["0.8"] * 2 + ["1.0"]
    assert [row["method"] for row in rows[1:3]] == ["TSDDNet", "TSDDNet [paper, private data]"]


def test_files(tmp_path):
    (x,) = groups(("a_b & c", 1))
    table = methods_table("name", "Figures in %.", [OurRow(x, FIGURES)], paper.TABLE1[:1])
    table.write(str(tmp_path))
    markdown = (tmp_path / "name.md").read_text(encoding="utf-8")
    assert markdown.startswith("**Figures in %.**\n\n| method") and markdown.endswith("\n- " + table.notes[0] + "\n")
    latex = (tmp_path / "name.tex").read_text(encoding="utf-8")
    assert r"a\_b \& c & 0.2 & 84.3 $\pm$ 1.2 (80.0--88.0)" in latex and r"\caption{Figures in \%.}" in latex
    assert re.search(r"[^\x00-\x7f]", latex) is None  # no character that LaTeX might not know
    with open(tmp_path / "name.csv", newline="") as file:
        retinanet, ours = csv.DictReader(file)
    assert (ours["method"], float(ours["accuracy_mean"]), ours["sensitivity_std"]) == ("a_b & c", 0.84321, "")
    assert (retinanet["source"], float(retinanet["accuracy_std"])) == ("paper, private data", 0.0108)


def test_latex_of_a_small_p_value(tmp_path):
    """In text LaTeX's default encoding sets < as an inverted exclamation mark."""
    Table("name", "Tests.", [{"DeLong": "< 0.001"}], [], []).write(str(tmp_path))
    assert "$<$ 0.001" in (tmp_path / "name.tex").read_text(encoding="utf-8")


def test_latex_of_special_characters(tmp_path):
    """The cells are escaped by pandas, the caption by us; both are the same text here."""
    special = r"a\b{c}$d^e~f_g%h&i#j"
    Table("name", special, [{"cell": special}], [], []).write(str(tmp_path))
    latex = re.sub(r"(\\text\w+) ", r"\1{}", (tmp_path / "name.tex").read_text(encoding="utf-8"))
    (caption,) = re.findall(r"\\caption\{(.*)\}\n", latex)
    assert latex.count(caption) == 2


def test_comparisons():
    a, b = groups(("retinanet", 1), ("tsddnet", 1))
    x = Comparison(
        b, a, (1, 3), 376, 212, Estimate(0.0321, None, -0.01, 0.07), DeLongTest(0.9, 0.868, 2.0, 0.0455),
        McNemarTest(30, 12, 0.0004), 0.091, NAN,
    )  # fmt: skip
    (row,) = comparisons_table("t", "T", [x]).rows
    assert row == {
        "methods": "TSDDNet – RetinaNet",
        "p": "0.2",
        "folds": "1, 3",
        "images (patients)": "376 (212)",
        "AUC": "0.900 – 0.868",
        "difference (95% interval)": "+0.032 (-0.010 to 0.070)",
        "DeLong": "0.045",
        "DeLong, Holm": "0.091",
        "right alone": "30 – 12",
        "McNemar": "< 0.001",
        "McNemar, Holm": "–",
    }


def test_gains():
    a, b = groups(("tsddnet", 1), ("tsdd_b_sd", 1))
    (row,) = gains_table("t", "T", [Gain("CS", b, a, FIGURES, {0: 0.0123, 2: -0.004})]).rows
    assert (row["part"], row["methods"]) == ("CS", f"{title(b.method)} – {title(a.method)}")
    assert row["AUC"].startswith("+") and row["AUC, seed by seed"] == "0: +0.012, 2: -0.004"


def test_probabilities():
    some, none = groups(("retinanet", 1), missing=[("faster_rcnn", 1)])
    table = probabilities_table("t", "T", [(some, FIGURES["AUC"], Estimate(0.2, None, 0.1, 0.3)), (none, None, None)])
    assert [row["Brier score"] for row in table.rows] == ["0.200 (0.100–0.300)", "missing"]
    assert table.records[0]["Brier_score_high"] == 0.3


def test_stages_and_their_differences():
    contents = [random_run(method, p=1.0, stage=stage) for stage in (1, 2) for method in ("tsdd_b_sd", "tsddnet")]
    of_stage = sorted(group(matched(contents), stages=(1, 2)), key=lambda x: x.stage)
    gain = {name: Estimate(0.05, None, -0.01, 0.1) for name in FIGURES}
    rows = stages_table("t", "T", [OurRow(x, FIGURES) for x in of_stage], {(2, 1.0): gain}).rows
    assert [(row["stage"], row["method"]) for row in rows] == [
        ("first stage", "TSDDNet-B+SD"),
        ("first stage", "TSDDNet"),
        ("first stage", "difference [paper, private data]"),
        ("second stage", "TSDDNet-B+SD"),
        ("second stage", "TSDDNet"),
        ("second stage", "difference"),
        ("second stage", "difference [paper, private data]"),
    ]
    assert rows[2]["YI (%)"] == "+5.25" and rows[2]["AUC"] == "–"
    assert rows[5]["accuracy (%)"] == "+5.0 (-1.0 to 10.0)" and not np.isnan(gain["AUC"].low)
