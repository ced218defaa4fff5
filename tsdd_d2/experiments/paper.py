"""What arXiv:2306.06982 says beyond the rows that stand in the records of the methods; on private data."""

from typing import Dict, List, NamedTuple, Tuple, Union

from ..method import METHODS, PAPER_METRICS, Method, PaperRow, paper_row

MARK = "paper, private data"
OURS = "tsddnet"

# TSDDNet less candidate selection, self-distillation, or both (Table II).
ABLATIONS = ("tsdd_b", "tsdd_b_cs", "tsdd_b_sd")

# What Table II removes: the part, a method with it, and the method that differs in this part alone.
PARTS = (
    ("CS", "tsdd_b_cs", "tsdd_b"),
    ("CS", OURS, "tsdd_b_sd"),
    ("SD", "tsdd_b_sd", "tsdd_b"),
    ("SD", OURS, "tsdd_b_cs"),
)

# Fig. 9 at p = 1: TSDDNet less TSDDNet-B+SD, in percentage points; from the text of Section V.C.
STAGE_GAINS = {
    1: dict(zip(PAPER_METRICS, (2.74, 2.85, 2.40, 5.25))),
    2: dict(zip(PAPER_METRICS, (2.58, 1.33, 3.70, 5.02))),
}

STAC_REMARK = (
    "STAC's rows are quoted as printed; at p = 0.2 the paper's Table I has accuracy 82.42, and its row at p = 0.8 "
    "is the one that Table I gives for p = 0.2."
)


class Quoted(NamedTuple):
    """A method of the paper that this software does not have."""

    title: str
    paper: Tuple[PaperRow, ...]


QUOTED = {
    "yolov4": Quoted("YOLOv4", (paper_row("table1", 1.0, "84.93±1.21 85.17±1.46 82.46±1.23 67.63±2.38"),)),
    "yolov7": Quoted("YOLOv7", (paper_row("table1", 1.0, "86.09±1.14 87.26±1.35 84.46±1.46 71.72±2.23"),)),
    "stac": Quoted(
        "STAC",
        (
            paper_row("table1", 0.2, "82.42±1.70 83.33±1.13 81.34±1.07 64.67±1.99"),
            paper_row("table3", 0.2, "72.42±1.70 83.33±1.13 81.34±1.07 64.67±1.99"),
            paper_row("table3", 0.4, "74.85±1.42 83.82±1.36 81.10±1.02 64.92±2.14"),
            paper_row("table3", 0.6, "78.48±1.26 84.43±1.27 82.06±1.08 66.49±2.25"),
            paper_row("table3", 0.8, "82.42±1.70 83.33±1.13 81.34±1.07 64.67±1.99"),
        ),
    ),
    "spa": Quoted("SPA", (paper_row("table1", 0.2, "85.77±1.30 86.83±2.40 84.90±2.65 71.73±2.62"),)),
}


def _methods() -> Dict[str, Union[Method, Quoted]]:
    """Those of this software and, before TSDDNet and its ablations, those that are quoted only."""
    known = list(METHODS.items())
    first = next((number for number, (name, _) in enumerate(known) if name in (OURS, *ABLATIONS)), len(known))
    return dict([*known[:first], *((k, v) for k, v in QUOTED.items() if k not in METHODS), *known[first:]])


def title(method: str) -> str:
    found = _methods().get(method)
    return method if found is None else found.title


def position(method: str) -> int:
    """A sort key: the order of the tables, in which ours is last."""
    order = [x for x in _methods() if x != OURS]
    return len(order) + (method == OURS) if method not in order else order.index(method)


def paper_rows(table: str) -> List[Tuple[str, PaperRow]]:
    """The methods of one of the paper's tables with what it prints of them."""
    return [(name, row) for name, x in _methods().items() for row in x.paper if table in row.tables]
