"""What a method is: one record for everything that trains, compares or shows one. Each stands in a file of
:mod:`tsdd_d2.methods`, or in a package of its own (docs/new_method.md)."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from detectron2.config import CfgNode

from .errors import InputError

# Profile -> how the name of a configuration file ends: small compute on a CPU, the same from random initialisation, and
# the paper's values.
PROFILES = {"cpu": "_cpu", "scratch": "_scratch", "paper": ""}

PAPER_METRICS = ("accuracy", "sensitivity", "specificity", "youden_index")


class Sees(NamedTuple):
    """What training may see. The rest is withheld, see :func:`tsdd_d2.data.withheld.visible`.

    The class and the pixels of the fully annotated (fa) images are always seen.

    Attributes:
        boxes: the ROIs of the fa images.
        pa_images: the pixels of the partially annotated (pa) images.
        pa_classes: their classes.
    """

    boxes: bool
    pa_images: bool
    pa_classes: bool


FA_BOXES = Sees(boxes=True, pa_images=False, pa_classes=False)
FA_BOXES_PA_IMAGES = Sees(boxes=True, pa_images=True, pa_classes=False)
EVERYTHING = Sees(boxes=True, pa_images=True, pa_classes=True)
CLASSES = Sees(boxes=False, pa_images=True, pa_classes=True)


class PaperRow(NamedTuple):
    """A row of arXiv:2306.06982, on its private data set.

    Attributes:
        tables: that have it: "table1", "table2", "table3".
        p: share of the training patients with ROIs.
        metrics: mean and standard deviation over five folds, in percent, for each of :data:`PAPER_METRICS`.
        auc: area under the ROC curve as a fraction; the text states TSDDNet's alone.
    """

    tables: Tuple[str, ...]
    p: float
    metrics: Dict[str, Tuple[float, float]]
    auc: Optional[float] = None


def paper_row(tables: str, p: float, printed: str, auc: Optional[float] = None) -> PaperRow:
    """A row as it is printed, such as ``paper_row("table1 table2", 1.0, "84.84±1.08 86.01±0.82 82.70±1.09 68.71±1.74")``."""
    pairs = [tuple(map(float, x.split("±"))) for x in printed.split()]
    return PaperRow(tuple(tables.split()), p, dict(zip(PAPER_METRICS, pairs, strict=True)), auc)


@dataclass(frozen=True)
class Method:
    """
    Attributes:
        name: in options, folders and tables.
        title: in tables and figures.
        architecture: the network's name in Detectron2's ``META_ARCH_REGISTRY``.
        sees: what training may see.
        config: ``configs/<config>.yaml`` is the configuration that it starts from in the paper's profile,
            ``configs/<config>_<profile>.yaml`` in another.
        overrides: key of the configuration, such as "MODEL.RETINANET.NUM_CLASSES" -> value.
        profiles: one of :data:`PROFILES` -> the same, for it.
        trainer: a subclass of :class:`tsdd_d2.engine.trainer.Trainer`; None: that class.
        starts_from: the method whose run on the same data, fold, p and seed it goes on from.
        paper: its rows in the paper's tables.
    """

    name: str
    title: str
    architecture: str
    sees: Sees
    config: str = "tsdd_stage1"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    profiles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    trainer: Optional[type] = None
    starts_from: Optional[str] = None
    paper: Tuple[PaperRow, ...] = ()

    @property
    def is_part(self) -> bool:
        """Whether others start from it, so that the tables show these alone; not what the paper compares itself."""
        return not self.paper and any(x.starts_from == self.name for x in METHODS.values())

    def options(self, profile: Optional[str] = None) -> List[Any]:
        """Its keys and values in turn, as ``CfgNode.merge_from_list`` takes them.

        Args:
            profile: whose values are among them; None: those of every profile alone.
        """
        values = {"METHOD": self.name, "MODEL.META_ARCHITECTURE": self.architecture, **self.overrides}
        values.update(self.profiles.get(profile, {}))
        return [x for pair in values.items() for x in pair]


# name -> method
METHODS: Dict[str, Method] = {}


def register_method(method: Method) -> Method:
    """Adds a method, and returns it.

    Raises:
        ValueError: there is one of that name.
    """
    if method.name in METHODS:
        raise ValueError(f"There is a method {method.name} already.")
    METHODS[method.name] = method
    return method


def method_of(cfg: CfgNode) -> Method:
    """The method of a configuration: that of ``METHOD``, or the first one with its ``MODEL.META_ARCHITECTURE``.

    Raises:
        InputError: there is none.
    """
    if cfg.METHOD:
        if cfg.METHOD not in METHODS:
            raise InputError(f"METHOD must be one of {', '.join(METHODS)}, not {cfg.METHOD}.")
        method = METHODS[cfg.METHOD]
        if method.architecture != cfg.MODEL.META_ARCHITECTURE:
            raise InputError(
                f"METHOD {method.name} trains {method.architecture}, not MODEL.META_ARCHITECTURE "
                f"{cfg.MODEL.META_ARCHITECTURE}."
            )
        return method
    found = [x for x in METHODS.values() if x.architecture == cfg.MODEL.META_ARCHITECTURE]
    if not found:
        architectures = dict.fromkeys(x.architecture for x in METHODS.values())
        raise InputError(
            f"MODEL.META_ARCHITECTURE must be one of {', '.join(architectures)}, not {cfg.MODEL.META_ARCHITECTURE}."
        )
    return found[0]
