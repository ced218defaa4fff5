"""The tables of the report: the paper's I to III with its own numbers beside ours, and the tests between methods."""

import os
from typing import Dict, List, Mapping, NamedTuple, Sequence

import numpy as np
import pandas as pd

from ..data.files import write_text
from ..evaluation.tables import markdown_table
from . import paper
from .methods import position, stage_title, title
from .paper import PaperRow
from .results import METRICS, Comparison, Estimate, Gain
from .runs import Group, share

TITLES = {
    "accuracy": "accuracy (%)",
    "sensitivity": "sensitivity (%)",
    "specificity": "specificity (%)",
    "youden_index": "YI (%)",
    "AUC": "AUC",
}
# the source of a figure that paper.MARK is not
SOFTWARE = "this software"
NOT_MEASURED = "–"
# Of a CSV file: more digits would mean nothing, and the last of 17 depends on the processor.
NUMBER = "%.5g"


class Table(NamedTuple):
    """
    Attributes:
        name: of its files, without extension.
        caption: one sentence or two.
        rows: title of the column -> text, for each row, as people read it; all rows have the same columns.
        records: the same with plain numbers, for each row, as programs read it.
        notes: one sentence each.
    """

    name: str
    caption: str
    rows: List[Dict[str, str]]
    records: List[Dict[str, object]]
    notes: List[str]

    @property
    def markdown(self) -> str:
        """The table alone."""
        return markdown_table(self.rows)

    def write(self, folder: str) -> None:
        """``<name>.md`` and ``.tex`` as people read it, ``<name>.csv`` with plain numbers."""
        stem = os.path.join(folder, self.name)
        notes = "".join(f"\n- {note}" for note in self.notes)
        write_text(f"{stem}.md", f"**{self.caption}**\n\n{self.markdown}\n{notes and notes + chr(10)}")
        write_text(f"{stem}.tex", _latex(self))
        write_text(f"{stem}.csv", pd.DataFrame(self.records).to_csv(index=False, lineterminator="\n", float_format=NUMBER))


class OurRow(NamedTuple):
    """A group and its figures, which are empty if none of its runs is finished."""

    group: Group
    figures: Mapping[str, Estimate]


def methods_table(
    name: str, caption: str, ours: Sequence[OurRow], papers: Sequence[PaperRow], by_p: bool = False
) -> Table:
    """
    Methods and their figures, the paper's row of a method after ours.

    Args:
        by_p: order by p first (Table III), else by method.
    """
    entries = [(row.group.method, row.group.p, 0, row) for row in ours]
    entries += [(row.method, row.p, 1, row) for row in papers]

    def order(entry):
        method, p, source, _ = entry
        return (p, position(method), source) if by_p else (position(method), source, p)

    rows, records = [], []
    for method, p, _, row in sorted(entries, key=order):
        describe = _describe_paper if isinstance(row, PaperRow) else _describe_ours
        texts, numbers = describe(row)
        stage = row.group.stage if isinstance(row, OurRow) else None
        mark = f" [{paper.MARK}]" if isinstance(row, PaperRow) else ""
        rows.append({"method": title(method) + mark, "p": share(p), **texts})
        records.append({"method": method, "stage": stage, "p": p, **numbers})
    notes = [f"[{paper.MARK}]: quoted from the paper for orientation; other images, other training."] * bool(papers)
    return Table(name, caption, rows, records, notes)


def stages_table(
    name: str, caption: str, ours: Sequence[OurRow], gains: Mapping[tuple, Mapping[str, Estimate]]
) -> Table:
    """
    The stages of Fig. 9, and under each what candidate selection gives there.

    Args:
        ours: the two methods in both stages, in the order of the table.
        gains: (stage, p) -> metric -> the method with candidate selection less the one without.
    """
    rows, records = [], []

    def add(stage, method, p, texts, numbers):
        rows.append({"method": method, "stage": stage_title(stage), "p": share(p), **texts})
        records.append({"stage": stage, "method": method, "p": p, **numbers})

    for number, row in enumerate(ours):
        stage, p = row.group.stage, row.group.p
        add(stage, title(row.group.method), p, *_describe_ours(row))
        following = ours[number + 1].group if number + 1 < len(ours) else None
        if following is not None and (following.stage, following.p) == (stage, p):
            continue
        if (stage, p) in gains:
            gain = gains[stage, p]
            texts = {TITLES[x]: _estimate_text(gain[x], x, sign=True) for x in METRICS}
            add(stage, "difference", p, {**texts, "folds": ""}, _numbers(SOFTWARE, gain))
        if p == 1.0 and stage in paper.STAGE_GAINS:
            gain = {x: Estimate(v / 100, None, np.nan, np.nan) for x, v in paper.STAGE_GAINS[stage].items()}
            texts = {TITLES[x]: f"{100 * gain[x].mean:+.2f}" if x in gain else NOT_MEASURED for x in METRICS}
            numbers = _numbers(paper.MARK, gain)
            add(stage, f"difference [{paper.MARK}]", p, {**texts, "folds": "5 folds"}, numbers)
    notes = [
        "Differences are TSDDNet less TSDDNet-B+SD, in percentage points (AUC: as a fraction), on the folds that both "
        "have, with the interval of the paired difference.",
    ]
    if any(paper.MARK in row["method"] for row in rows):
        notes.append(f"[{paper.MARK}]: from the text of the paper's Section V.C.")
    return Table(name, caption, rows, records, notes)


def comparisons_table(name: str, caption: str, comparisons: Sequence[Comparison]) -> Table:
    """The tests between one method and the others."""
    rows, records = [], []
    for x in comparisons:
        rows.append(
            {
                "methods": f"{title(x.a.method)} – {title(x.b.method)}",
                "p": share(x.a.p),
                "folds": ", ".join(map(str, x.folds)),
                "images (patients)": f"{x.num_images} ({x.num_patients})",
                "AUC": f"{fraction_text(x.delong.auc_a)} – {fraction_text(x.delong.auc_b)}",
                "difference (95% interval)": _estimate_text(x.difference, "AUC", sign=True),
                "DeLong": _p_value(x.delong.p_value),
                "DeLong, Holm": _p_value(x.delong_holm),
                "right alone": f"{x.mcnemar.only_a} – {x.mcnemar.only_b}",
                "McNemar": _p_value(x.mcnemar.p_value),
                "McNemar, Holm": _p_value(x.mcnemar_holm),
            }
        )
        records.append(
            {
                "method": x.a.method, "other": x.b.method, "p": x.a.p, "folds": " ".join(map(str, x.folds)),
                "images": x.num_images, "patients": x.num_patients,
                "auc": x.delong.auc_a, "auc_other": x.delong.auc_b,
                "difference": x.difference.mean, "difference_low": x.difference.low,
                "difference_high": x.difference.high, "delong_z": x.delong.z, "delong_p": x.delong.p_value,
                "delong_p_holm": x.delong_holm, "only_right": x.mcnemar.only_a, "only_other_right": x.mcnemar.only_b,
                "mcnemar_p": x.mcnemar.p_value, "mcnemar_p_holm": x.mcnemar_holm,
            }
        )  # fmt: skip
    notes = [
        "Over the pooled test images of the folds that both methods have; AUCs of pooled images differ from the means "
        "over folds.",
        "DeLong's and McNemar's tests take images as independent, but a patient has several: their p-values are "
        "somewhat too small. The interval of the difference resamples patients.",
        "Holm's correction is over the methods of one p, for each of the two tests.",
    ]
    return Table(name, caption, rows, records, notes)


def probabilities_table(name: str, caption: str, rows: Sequence[tuple]) -> Table:
    """AUC and Brier score: what the figures of ROC and calibration say in numbers.

    Args:
        rows: group, AUC and Brier score; the latter two None if no run is finished.
    """
    texts, records = [], []
    for group, auc, brier in rows:
        entry = {"method": title(group.method), "p": share(group.p), "folds": group.extent}
        record = {"method": group.method, "p": group.p, "folds": len(group.folds)}
        for label, x in (("AUC", auc), ("Brier score", brier)):
            entry[label] = "missing" if x is None else _estimate_text(x, "AUC")
            if x is not None:
                record.update({f"{label}_{part}".replace(" ", "_"): value for part, value in x._asdict().items()})
        texts.append(entry)
        records.append(record)
    note = "A lower Brier score is better; answering the share s of malignant images for each image has s (1 – s)."
    return Table(name, caption, texts, records, [note])


def interval_text(low: float, high: float, pattern: str) -> str:
    if np.isnan(low) or np.isnan(high):
        return ""
    low, high = _fixed(low, pattern), _fixed(high, pattern)
    return f" ({low}{' to ' if low.startswith('-') else '–'}{high})"


def fraction_text(x: float, sign: str = "") -> str:
    """An AUC or a Brier score with three decimals; with the sign "+" a difference of two."""
    return NOT_MEASURED if np.isnan(x) else _fixed(x, ".3f", sign)


def gains_table(name: str, caption: str, gains: Sequence[Gain]) -> Table:
    """What each part of a method gives, with and without the others."""
    rows, records = [], []
    for x in gains:
        texts = {TITLES[metric]: _estimate_text(x.differences[metric], metric, sign=True) for metric in METRICS}
        of_seeds = ", ".join(f"{seed}: {fraction_text(difference, '+')}" for seed, difference in x.of_seeds.items())
        methods = f"{title(x.a.method)} – {title(x.b.method)}"
        rows.append({"part": x.part, "methods": methods, "p": share(x.a.p), **texts, "AUC, seed by seed": of_seeds})
        record = {"part": x.part, "method": x.a.method, "other": x.b.method, "p": x.a.p}
        numbers = {f"AUC_seed{seed}": difference for seed, difference in x.of_seeds.items()}
        records.append({**record, **_numbers(SOFTWARE, x.differences), **numbers})
    notes = [
        "In percentage points (AUC: as a fraction), on the folds and seeds that both have: the mean, with the interval of "
        "the paired difference from a bootstrap over patients. It does not hold what another seed would change, which the "
        "last column shows.",
    ]
    return Table(name, caption, rows, records, notes)


def _describe_ours(row: OurRow):
    texts = {}
    for name in METRICS:
        x = row.figures.get(name)
        texts[TITLES[name]] = "missing" if x is None else _estimate_text(x, name)
    texts["folds"] = row.group.extent
    numbers = {"folds": len(row.group.folds), "planned_folds": len(row.group.planned_folds)}
    return texts, {**_numbers(SOFTWARE, row.figures), **numbers}


def _describe_paper(row: PaperRow):
    texts = {TITLES[name]: "{:.2f} ± {:.2f}".format(*row.figures[name]) for name in paper.METRICS}
    texts[TITLES["AUC"]] = NOT_MEASURED if row.auc is None else f"{row.auc:.3f}"
    texts["folds"] = "5 folds"
    figures = {x: Estimate(mean / 100, std / 100, np.nan, np.nan) for x, (mean, std) in row.figures.items()}
    if row.auc is not None:
        figures["AUC"] = Estimate(row.auc, None, np.nan, np.nan)
    return texts, {**_numbers(paper.MARK, figures), "folds": 5, "planned_folds": 5}


def _numbers(source: str, figures: Mapping[str, Estimate]) -> Dict[str, object]:
    """Fractions, an empty cell for what is unknown."""
    numbers: Dict[str, object] = {"source": source}
    for name in METRICS:
        x = figures.get(name) or Estimate(*[None] * 4)
        numbers.update({f"{name}_{part}": value for part, value in x._asdict().items()})
    return numbers


def _estimate_text(x: Estimate, metric: str, sign: bool = False) -> str:
    """Percent with one decimal, and for an AUC a fraction with three: mean ± std (interval)."""
    if np.isnan(x.mean):
        return NOT_MEASURED
    scale, pattern = (1, ".3f") if metric == "AUC" else (100, ".1f")
    text = _fixed(scale * x.mean, pattern, "+" * sign)
    if x.std is not None and not np.isnan(x.std):
        text += f" ± {scale * x.std:{pattern}}"
    return text + interval_text(scale * x.low, scale * x.high, pattern)


def _fixed(x: float, pattern: str, sign: str = "") -> str:
    """A number with so many decimals; what is rounded to zero has no minus, which a last digit would decide."""
    return f"{float(f'{x:{pattern}}') + 0.0:{sign}{pattern}}"


def _p_value(p: float) -> str:
    if np.isnan(p):
        return NOT_MEASURED
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _latex(table: Table) -> str:
    """A LaTeX table for the package booktabs."""
    columns = list(table.rows[0])
    text = pd.DataFrame(table.rows).to_latex(
        index=False, escape=True, column_format="l" * len(columns), caption=_escape(table.caption),
        label=f"tab:{table.name}", position="htbp",
    )  # fmt: skip
    notes = "".join(f"% {note}\n" for note in table.notes)
    for character, code in LATEX.items():
        text = text.replace(character, code)
    return notes + text


# What LaTeX sets as something else, or not at all, in text.
LATEX = {"±": r"$\pm$", "–": "--", "≥": r"$\geq$", "×": r"$\times$", "<": "$<$", ">": "$>$"}


def _escape(text: str) -> str:
    special = {x: f"\\{x}" for x in "%&_#${}"}
    special |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return text.translate(str.maketrans(special))
