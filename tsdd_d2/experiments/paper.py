"""What arXiv:2306.06982 says beyond the rows that stand in the records of the methods; on private data."""

from typing import List, Tuple

from detectron2.modeling import META_ARCH_REGISTRY

from ..method import METHODS, PAPER_METRICS, PaperRow
from ..modeling.contract import FOUND_BOX

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


def title(method: str) -> str:
    return METHODS[method].title if method in METHODS else method


def finds_boxes(method: str) -> bool:
    """Whether the method looks for the lesion itself, as one that is not registered may."""
    return method not in METHODS or META_ARCH_REGISTRY.get(METHODS[method].architecture).diagnosed_boxes == FOUND_BOX


def position(method: str) -> int:
    """A sort key: the order of the tables, in which ours is last."""
    order = [x for x in METHODS if x != OURS]
    return len(order) + (method == OURS) if method not in order else order.index(method)


def paper_rows(table: str) -> List[Tuple[str, PaperRow]]:
    """The methods of one of the paper's tables with what it prints of them."""
    return [(name, row) for name, x in METHODS.items() for row in x.paper if table in row.tables]
