"""The methods as the report names, orders and colours them; one that is not listed has its own name as title."""

from typing import Dict, Optional, Tuple

from ..experiments.methods import METHODS

OURS = "tsddnet"

# In the order of the tables.
TITLES: Dict[str, str] = {
    "cnet_whole_image": "C-Net, whole image",
    "cnet_oracle": "C-Net, manual ROI (oracle)",
    "retinanet": "RetinaNet",
    "faster_rcnn": "Faster R-CNN",
    "yolov4": "YOLOv4",
    "yolov7": "YOLOv7",
    "stac": "STAC",
    "unbiased_teacher": "Unbiased teacher",
    "soft_teacher": "Soft teacher",
    "spa": "SPA",
    "tsdd_b": "TSDDNet-B",
    "tsdd_b_cs": "TSDDNet-B+CS",
    "tsdd_b_sd": "TSDDNet-B+SD",
    OURS: "TSDDNet",
}

# Okabe and Ito's colours, which colour-blind people can tell apart, less the yellow, which is faint on white, and the
# orange, which resembles the vermilion that is ours.
_COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#7F7F7F")
_OUR_COLOUR = "#D55E00"
_LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))


def title(method: str) -> str:
    return TITLES.get(method, method)


def position(method: str) -> Tuple[int, str]:
    """A sort key: the listed methods in their order, then the others by name, and ours last."""
    order = list(TITLES)
    if method == OURS:
        return len(order) + 1, method
    return order.index(method) if method in order else len(order), method


def first_stage_method(method: str) -> str:
    """The method under which a first stage is shown: the last in order of those that go on from the same one."""
    if method not in METHODS or METHODS[method].starts_from is None:
        return method
    same = [x.name for x in METHODS.values() if x.starts_from == METHODS[method].starts_from]
    # one of another package leaves the names of ours as they are
    return max([x for x in same if x in TITLES] or same, key=position)


def line_style(method: str, number: int) -> Dict[str, object]:
    """Colour, dashes and width of the ``number``-th of several methods in a plot; ours stands out in each."""
    if method == OURS:
        return {"color": _OUR_COLOUR, "linestyle": "-", "linewidth": 2.5, "zorder": 3}
    colour = _COLOURS[number % len(_COLOURS)]
    return {"color": colour, "linestyle": _LINES[number % len(_LINES)], "linewidth": 1.4}


def stage_title(stage: Optional[int]) -> str:
    return {None: "", 1: "first stage", 2: "second stage"}.get(stage, f"stage {stage}")
