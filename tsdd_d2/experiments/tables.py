"""The tables: the paper's I to III with its own numbers beside ours, and the tests between methods."""

from typing import Dict, Iterable, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np
import pandas as pd

from ..evaluation.tables import markdown_table
from ..method import PAPER_METRICS, PaperRow
from .groups import Group
from .metrics import DETECTOR_METRICS, METRICS, Comparison, Estimate, Gain, Metric
from .paper import MARK, STAGE_GAINS, position, title

STAGES = {1: "first stage", 2: "second stage"}
# the source of a number that MARK is not
SOFTWARE = "this software"
NOT_MEASURED = "–"
# Of a CSV file: more digits would mean nothing, and the last of 17 depends on the processor.
NUMBER = "%.5g"

# What LaTeX sets as something else, or not at all, in text.
LATEX = {"±": r"$\pm$", "–": "--", "≥": r"$\geq$", "×": r"$\times$", "<": "$<$", ">": "$>$"}


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
        notes = "".join(f"\n- {note}" for note in self.notes)
        return f"**{self.caption}**\n\n{markdown_table(self.rows)}\n{notes and notes + chr(10)}"

    @property
    def csv(self) -> str:
        return pd.DataFrame(self.records).to_csv(index=False, lineterminator="\n", float_format=NUMBER)

    @property
    def latex(self) -> str:
        """For the package booktabs."""
        text = pd.DataFrame(self.rows).to_latex(
            index=False, escape=True, column_format="l" * len(self.rows[0]), caption=_escape(self.caption),
            label=f"tab:{self.name}", position="htbp",
        )  # fmt: skip
        text = "".join(f"% {note}\n" for note in self.notes) + text
        for character, code in LATEX.items():
            text = text.replace(character, code)
        return text


class MethodRow(NamedTuple):
    """A group and its metrics, which are empty if none of its runs is finished."""

    group: Group
    metrics: Mapping[str, Estimate]


def methods_table(
    name: str, caption: str, ours: Sequence[MethodRow], papers: Sequence[Tuple[str, PaperRow]] = (), by_p: bool = False
) -> Table:
    """
    Methods and their metrics, the paper's row of a method after ours.

    Args:
        papers: methods with what the paper prints of them.
        by_p: order by p first (Table III), else by method.
    """
    entries = [(row.group.method, row.group.p, 0, row) for row in ours]
    entries += [(method, row.p, 1, row) for method, row in papers]

    def order(entry):
        method, p, source, _ = entry
        place = position(method), method
        return (p, *place, source) if by_p else (*place, source, p)

    rows, records = [], []
    for method, p, _, row in sorted(entries, key=order):
        quoted = isinstance(row, PaperRow)
        texts, numbers = (_describe_paper if quoted else _describe_ours)(row)
        rows.append({"method": f"{title(method)} [{MARK}]" if quoted else title(method), "p": str(p), **texts})
        records.append({"method": method, "p": p, **numbers})
    notes = [f"[{MARK}]: quoted from the paper for orientation; other images, other training."] * bool(papers)
    return Table(name, caption, rows, records, notes)


def stages_table(
    name: str,
    caption: str,
    ours: Sequence[Tuple[int, str, MethodRow]],
    gains: Mapping[Tuple[int, float], Mapping[str, Estimate]],
) -> Table:
    """
    The stages of Fig. 9, and under each what candidate selection gives there.

    Args:
        ours: stage, method and metrics of the two methods after each stage, in the order of the table.
        gains: (stage, p) -> metric -> the method with candidate selection less the one without.
    """
    rows, records = [], []

    def add(stage, p, label, method, texts, numbers):
        rows.append({"method": label, "stage": STAGES[stage], "p": str(p), **texts})
        records.append({"stage": stage, "method": method, "p": p, **numbers})

    last_of = {(stage, row.group.p): number for number, (stage, _, row) in enumerate(ours)}
    for number, (stage, method, row) in enumerate(ours):
        p = row.group.p
        add(stage, p, title(method), method, *_describe_ours(row))
        if last_of[stage, p] != number:
            continue
        if (stage, p) in gains:
            texts = _texts(gains[stage, p], sign="+")
            add(stage, p, "difference", "difference", {**texts, "folds": ""}, _numbers(SOFTWARE, gains[stage, p]))
        if p == 1.0 and stage in STAGE_GAINS:
            gain = {x: Estimate(v / 100, None, np.nan, np.nan) for x, v in STAGE_GAINS[stage].items()}
            texts = {
                x.title: f"{100 * gain[name].mean:+.2f}" if name in gain else NOT_MEASURED for name, x in METRICS.items()
            }
            add(stage, p, f"difference [{MARK}]", "difference", {**texts, "folds": "5 folds"}, _numbers(MARK, gain))
    notes = [
        "Differences are TSDDNet less TSDDNet-B+SD, in percentage points (AUC: as a fraction), on the folds that both "
        "have, with the interval of the paired difference.",
    ]
    if any(MARK in row["method"] for row in rows):
        notes.append(f"[{MARK}]: from the text of the paper's Section V.C.")
    return Table(name, caption, rows, records, notes)


def comparisons_table(name: str, caption: str, comparisons: Sequence[Comparison]) -> Table:
    """The tests between one method and the others."""
    rows, records = [], []
    for x in comparisons:
        rows.append(
            {
                "methods": f"{title(x.a.method)} – {title(x.b.method)}",
                "p": str(x.a.p),
                "folds": ", ".join(map(str, x.folds)),
                "images (patients)": f"{x.num_images} ({x.num_patients})",
                "difference in AUC (95% interval)": _estimate_text(x.difference, sign="+"),
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
                "pooled_auc": x.delong.auc_a, "pooled_auc_other": x.delong.auc_b,
                "difference": x.difference.mean, "difference_low": x.difference.low,
                "difference_high": x.difference.high, "delong_z": x.delong.z, "delong_p": x.delong.p_value,
                "delong_p_holm": x.delong_holm, "only_right": x.mcnemar.only_a, "only_other_right": x.mcnemar.only_b,
                "mcnemar_p": x.mcnemar.p_value, "mcnemar_p_holm": x.mcnemar_holm,
            }
        )  # fmt: skip
    notes = [
        "On the folds that both methods have: the mean difference over them, and the tests over their pooled images.",
        "DeLong's and McNemar's tests take images as independent, but a patient has several: their p-values are "
        "somewhat too small. The interval of the difference resamples patients.",
        "Holm's correction is over the methods of one p, for each of the two tests.",
    ]
    return Table(name, caption, rows, records, notes)


def gains_table(name: str, caption: str, gains: Sequence[Gain]) -> Table:
    """What each part of a method gives, with and without the others."""
    rows, records = [], []
    for x in gains:
        texts = _texts(x.differences, sign="+")
        of_seeds = ", ".join(f"{seed}: {fraction_text(difference, '+')}" for seed, difference in x.of_seeds.items())
        methods = f"{title(x.a.method)} – {title(x.b.method)}"
        rows.append({"part": x.part, "methods": methods, "p": str(x.a.p), **texts, "AUC, seed by seed": of_seeds})
        record = {"part": x.part, "method": x.a.method, "other": x.b.method, "p": x.a.p}
        numbers = {f"AUC_seed{seed}": difference for seed, difference in x.of_seeds.items()}
        records.append({**record, **_numbers(SOFTWARE, x.differences), **numbers})
    notes = [
        "In percentage points (AUC: as a fraction), on the folds and seeds that both have: the mean, with the interval of "
        "the paired difference from a bootstrap over patients. It does not hold what another seed would change, which the "
        "last column shows.",
    ]
    return Table(name, caption, rows, records, notes)


def teachers_table(
    name: str, caption: str, rows: Sequence[Tuple[Group, Mapping[str, Estimate], Mapping[str, Estimate]]]
) -> Table:
    """
    Detectors that learn from pseudo-boxes, each with what these give.

    Args:
        rows: group, its :data:`~tsdd_d2.experiments.metrics.DETECTOR_METRICS`, and their differences to the same detector
            without unlabelled images; both are empty where no run is finished.
    """
    texts, records = [], []

    def add(group, label, metrics, runs, sign=""):
        columns = _texts(metrics, DETECTOR_METRICS, sign)
        texts.append({"method": label or title(group.method), "p": str(group.p), **columns, "runs": runs})
        numbers = _numbers(SOFTWARE, metrics, DETECTOR_METRICS)
        records.append({"method": group.method, "p": group.p, "row": label or "metrics", **numbers})

    for group, metrics, differences in rows:
        add(group, "", metrics, f"{len(group.shown)} of {len(group.planned)}")
        if differences:
            add(group, "difference", differences, "", sign="+")
    notes = [
        "Differences are to the same detector, Faster R-CNN, trained on as many images, all of them labelled: on the folds and "
        "seeds that both have, with the interval of the paired difference from a bootstrap over patients. AP50 is of the one "
        "box of each image, whatever its class.",
        "A teacher with *classes* drops pseudo-boxes of another class than the image's.",
    ]
    return Table(name, caption, texts, records, notes)


def probabilities_table(name: str, caption: str, rows: Sequence[tuple]) -> Table:
    """What the figures of ROC and calibration say in numbers, and how well the boxes lie.

    Args:
        rows: group, and for each title of a column an estimate, None where the method finds no box; no estimates at all if
            no run is finished.
    """
    texts, records = [], []
    for group, estimates in rows:
        entry = {"method": title(group.method), "p": str(group.p), "folds": group.extent}
        record = {"method": group.method, "p": group.p, "folds": len(group.folds)}
        for label in ("AUC", "Brier score", "sensitivity*", "specificity*", "mean IoU", "IoU ≥ 0.5"):
            x = estimates.get(label)
            entry[label] = _estimate_text(x) if x else NOT_MEASURED if estimates else "missing"
            if x is not None:
                record.update(
                    {
                        f"{label}_{part}".replace(" ", "_").replace("*", "_youden"): value
                        for part, value in x._asdict().items()
                    }
                )
        texts.append(entry)
        records.append(record)
    notes = [
        "A lower Brier score is better; answering the share s of malignant images for each image has s (1 – s).",
        "* At the threshold with the largest Youden index on each run's validation images.",
    ]
    return Table(name, caption, texts, records, notes)


def interval_text(low: float, high: float, pattern: str) -> str:
    if np.isnan(low) or np.isnan(high):
        return ""
    low, high = _fixed(low, pattern), _fixed(high, pattern)
    return f" ({low}{' to ' if low.startswith('-') else '–'}{high})"


def fraction_text(x: float, sign: str = "") -> str:
    """An AUC or a Brier score with three decimals; with the sign "+" a difference of two."""
    return NOT_MEASURED if np.isnan(x) else _fixed(x, ".3f", sign)


def _describe_ours(row: MethodRow):
    texts = {**_texts(row.metrics), "folds": row.group.extent}
    numbers = {"folds": len(row.group.folds), "planned_folds": len(row.group.planned_folds)}
    return texts, {**_numbers(SOFTWARE, row.metrics), **numbers}


def _describe_paper(row: PaperRow):
    texts = {METRICS[name].title: "{:.2f} ± {:.2f}".format(*row.metrics[name]) for name in PAPER_METRICS}
    texts[METRICS["AUC"].title] = NOT_MEASURED if row.auc is None else f"{row.auc:.3f}"
    texts["folds"] = "5 folds"
    metrics = {x: Estimate(mean / 100, std / 100, np.nan, np.nan) for x, (mean, std) in row.metrics.items()}
    if row.auc is not None:
        metrics["AUC"] = Estimate(row.auc, None, np.nan, np.nan)
    return texts, {**_numbers(MARK, metrics), "folds": 5, "planned_folds": 5}


def _texts(metrics: Mapping[str, Estimate], shown: Mapping[str, Metric] = METRICS, sign: str = "") -> Dict[str, str]:
    """Title of the column -> text."""
    return {
        x.title: _estimate_text(metrics[name], x.in_percent, sign) if metrics else "missing" for name, x in shown.items()
    }


def _numbers(source: str, metrics: Mapping[str, Estimate], names: Iterable[str] = METRICS) -> Dict[str, object]:
    """Fractions, an empty cell for what is unknown."""
    numbers: Dict[str, object] = {"source": source}
    for name in names:
        x = metrics.get(name) or Estimate(*[None] * 4)
        numbers.update({f"{name}_{part}": value for part, value in x._asdict().items()})
    return numbers


def _estimate_text(x: Estimate, in_percent: bool = False, sign: str = "") -> str:
    """Percent with one decimal, or a fraction with three: mean ± std (interval)."""
    if np.isnan(x.mean):
        return NOT_MEASURED
    scale, pattern = (100, ".1f") if in_percent else (1, ".3f")
    text = _fixed(scale * x.mean, pattern, sign)
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


def _escape(text: str) -> str:
    special = {x: f"\\{x}" for x in "%&_#${}"}
    special |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return text.translate(str.maketrans(special))
