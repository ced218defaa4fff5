import csv
import io
import re

import numpy as np
import pytest

from tsdd_d2.evaluation.comparison import DeLongTest, McNemarTest
from tsdd_d2.experiments.metrics import Comparison, Estimate, Gain
from tsdd_d2.experiments.paper import paper_rows, title
from tsdd_d2.experiments.tables import (
    MethodRow,
    Table,
    comparisons_table,
    fraction_text,
    gains_table,
    interval_text,
    methods_table,
    probabilities_table,
    stages_table,
)
from tsdd_d2.method import PAPER_METRICS

from .conftest import groups_of, missing, random_entry

NAN = float("nan")
TABLE1, TABLE2, TABLE3 = (paper_rows(f"table{number}") for number in (1, 2, 3))
METRICS = {
    "accuracy": Estimate(0.84321, 0.0123, 0.8, 0.88),
    "sensitivity": Estimate(0.9, None, NAN, NAN),
    "specificity": Estimate(0.5, None, 0.4, 0.6),
    "youden_index": Estimate(0.4, None, -0.01, 0.6),
    "AUC": Estimate(0.9, 0.01, 0.85, 0.95),
}


def groups(*finished):
    return groups_of(*(random_entry(*x) for x in finished))


def test_the_papers_figures_agree_with_themselves():
    for _, row in (*TABLE1, *TABLE2, *TABLE3):
        sensitivity, specificity, youden_index = (row.metrics[x][0] for x in PAPER_METRICS[1:])
        assert youden_index == pytest.approx(sensitivity + specificity - 100, abs=0.15), row
    # the gains that the text states over the second-best method of Table I, and over TSDDNet-B+CS in Table II
    for table, gains in ((TABLE1, (3.53, 3.47, 2.69, 6.59)), (TABLE2, (1.70, 2.45, 1.58, 4.04))):
        (ours,) = (row for method, row in table if method == "tsddnet")
        best = [max(row.metrics[x][0] for method, row in table if method != "tsddnet") for x in PAPER_METRICS]
        assert [ours.metrics[x][0] - y for x, y in zip(PAPER_METRICS, best)] == pytest.approx(gains, abs=0.011)


def test_cells():
    (x,) = groups(("retinanet", 1), ("retinanet", 2))
    (row,) = methods_table("t", "T", [MethodRow(x, METRICS)]).rows
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
    some, none = groups_of(random_entry("retinanet", 2), missing("retinanet", 1), missing("faster_rcnn", 1))
    table = methods_table("t", "T", [MethodRow(some, METRICS), MethodRow(none, {})])
    first, second = table.rows
    assert first["accuracy (%)"] == "84.3 ± 1.2 (80.0–88.0)" and first["folds"] == "1 of 2 folds"
    assert second["accuracy (%)"] == second["AUC"] == "missing" and second["folds"] == "0 of 1 folds"
    assert table.records[1]["accuracy_mean"] is None and table.records[1]["folds"] == 0


def test_an_undefined_figure_is_a_dash():
    (x,) = groups(("retinanet", 1))
    (row,) = methods_table("t", "T", [MethodRow(x, {**METRICS, "AUC": Estimate(NAN, None, NAN, NAN)})]).rows
    assert row["AUC"] == "–"


def test_the_papers_row_stands_beside_ours_and_is_marked():
    rows = methods_table("t", "T", [MethodRow(x, METRICS) for x in groups(("tsddnet", 1), ("peer", 1))], TABLE1).rows
    names = [row["method"] for row in rows]
    assert names[-3:] == ["peer", "TSDDNet", "TSDDNet [paper, private data]"]
    assert rows[-1]["accuracy (%)"] == "89.62 ± 1.24" and rows[-1]["AUC"] == "0.928"
    assert sum("[paper, private data]" in name for name in names) == len(TABLE1) == 9


def test_table_iii_goes_by_p():
    (x,) = groups(("tsddnet", 1))
    rows = methods_table("t", "T", [MethodRow(x, METRICS)], TABLE3, by_p=True).rows
    assert [row["p"] for row in rows] == ["0.2"] * 3 + ["0.4"] * 2 + ["0.6"] * 2 + ["0.8"] * 2 + ["1.0"]
    assert [row["method"] for row in rows[1:3]] == ["TSDDNet", "TSDDNet [paper, private data]"]


def test_forms_of_a_table():
    (x,) = groups(("a_b & c", 1))
    (quoted,) = (row for row in TABLE1 if row[0] == "retinanet")
    table = methods_table("name", "Figures in %.", [MethodRow(x, METRICS)], [quoted])
    assert table.markdown.startswith("**Figures in %.**\n\n| method") and table.markdown.endswith(f"\n- {table.notes[0]}\n")
    assert r"a\_b \& c & 0.2 & 84.3 $\pm$ 1.2 (80.0--88.0)" in table.latex and r"\caption{Figures in \%.}" in table.latex
    assert re.search(r"[^\x00-\x7f]", table.latex) is None  # no character that LaTeX might not know
    retinanet, ours = csv.DictReader(io.StringIO(table.csv))
    assert (ours["method"], float(ours["accuracy_mean"]), ours["sensitivity_std"]) == ("a_b & c", 0.84321, "")
    assert (retinanet["source"], float(retinanet["accuracy_std"])) == ("paper, private data", 0.0108)


def test_a_number_has_the_digits_that_mean_something():
    table = Table("name", "T", [{"x": "y"}], [{"x": 1 / 3, "p": 3.5872673471701656e-07, "n": 1492}], [])
    assert table.csv == "x,p,n\n0.33333,3.5873e-07,1492\n"


def test_what_is_rounded_to_zero_has_no_sign():
    assert interval_text(-1e-17, 0.25, ".3f") == " (0.000–0.250)" and fraction_text(-1e-9, "+") == "+0.000"


def test_latex_of_a_small_p_value():
    """In text LaTeX's default encoding sets < as an inverted exclamation mark."""
    assert "$<$ 0.001" in Table("name", "Tests.", [{"DeLong": "< 0.001"}], [], []).latex


def test_latex_of_special_characters():
    """The cells are escaped by pandas, the caption by us; both are the same text here."""
    special = r"a\b{c}$d^e~f_g%h&i#j"
    latex = re.sub(r"(\\text\w+) ", r"\1{}", Table("name", special, [{"cell": special}], [], []).latex)
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
        "difference in AUC (95% interval)": "+0.032 (-0.010 to 0.070)",
        "DeLong": "0.045",
        "DeLong, Holm": "0.091",
        "right alone": "30 – 12",
        "McNemar": "< 0.001",
        "McNemar, Holm": "–",
    }


def test_gains():
    a, b = groups(("tsddnet", 1), ("tsdd_b_sd", 1))
    (row,) = gains_table("t", "T", [Gain("CS", b, a, METRICS, {0: 0.0123, 2: -0.004})]).rows
    assert (row["part"], row["methods"]) == ("CS", f"{title(b.method)} – {title(a.method)}")
    assert row["AUC"].startswith("+") and row["AUC, seed by seed"] == "0: +0.012, 2: -0.004"


def test_probabilities():
    some, none = groups_of(random_entry("retinanet", 1), missing("faster_rcnn", 1))
    estimates = {"AUC": METRICS["AUC"], "Brier score": Estimate(0.2, None, 0.1, 0.3)}
    table = probabilities_table("t", "T", [(some, estimates), (none, {})])
    assert [row["Brier score"] for row in table.rows] == ["0.200 (0.100–0.300)", "missing"]
    assert [row["mean IoU"] for row in table.rows] == ["–", "missing"]
    assert table.records[0]["Brier_score_high"] == 0.3


def test_stages_and_their_differences():
    sd, ours = groups_of(random_entry("tsdd_b_sd", p=1.0), random_entry("tsddnet", p=1.0))
    gain = {name: Estimate(0.05, None, -0.01, 0.1) for name in METRICS}
    of_stages = [(stage, x.method, MethodRow(x, METRICS)) for stage in (1, 2) for x in (sd, ours)]
    rows = stages_table("t", "T", of_stages, {(2, 1.0): gain}).rows
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
