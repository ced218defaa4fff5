"""YOLOv7's weights under the names of its authors, loaded into ours."""

import re
from typing import Dict

from torch import Tensor, nn

from ..errors import InputError
from .yolo import STRIDES

# 3x3 convolutions of an E-ELAN block of the base model
CONVS = 4


def _elan(first: int, name: str) -> Dict[int, str]:
    chain = {first + 2 + i: f"{name}.chain.{i}" for i in range(CONVS)}
    return {first: f"{name}.shortcut", first + 1: f"{name}.entry", **chain, first + 3 + CONVS: f"{name}.out"}


def _down(first: int, name: str) -> Dict[int, str]:
    return {first + 1: f"{name}.pooled", first + 2: f"{name}.strided.0", first + 3: f"{name}.strided.1"}


# The authors number the layers of their base model, those without weights too.
AUTHORS_LAYERS = {
    **{i: f"backbone.stem.{i}" for i in range(4)},
    **_elan(4, "backbone.elan2"),
    **_down(12, "backbone.down3"),
    **_elan(17, "backbone.elan3"),
    **_down(25, "backbone.down4"),
    **_elan(30, "backbone.elan4"),
    **_down(38, "backbone.down5"),
    **_elan(43, "backbone.elan5"),
    **{51: "head.spp", 52: "head.reduce5", 54: "head.lateral4", 64: "head.reduce4", 66: "head.lateral3"},
    **_elan(56, "head.down_path4"),
    **_elan(68, "head.down_path3"),
    **_down(76, "head.down4"),
    **_elan(81, "head.up_path4"),
    **_down(89, "head.down5"),
    **_elan(94, "head.up_path5"),
    **{102 + i: f"head.rep.{i}" for i in range(3)},
    105: "head.predictors",
}
# What a name within a layer becomes, one after the other.
AUTHORS_PARTS = (
    (r"(^|\.)conv\.", r"\1"),
    (r"\bbn\.", "norm."),
    (r"^rbr_dense\.0", "dense"),
    (r"^rbr_dense\.1", "dense.norm"),
    (r"^rbr_1x1\.0", "pointwise"),
    (r"^rbr_1x1\.1", "pointwise.norm"),
    (r"^cv1", "entry.0"),
    (r"^cv3", "entry.1"),
    (r"^cv4", "entry.2"),
    (r"^cv5", "merged.0"),
    (r"^cv6", "merged.1"),
    (r"^cv2", "shortcut"),
    (r"^cv7", "out"),
    (r"^m\.(\d)", r"\1.conv"),
    (r"^ia\.(\d)\.implicit", r"\1.added"),
    (r"^im\.(\d)\.implicit", r"\1.multiplied"),
)


def from_authors_names(state_dict: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """
    Renames the weights of the authors' base model, ``model.<layer>.<part>``, to those of :class:`~tsdd_d2.methods.yolov7.YOLOv7`.

    Of their two buffers of anchors the one in pixels comes along.
    """
    renamed = {}
    for key, value in state_dict.items():
        _, layer, part = key.split(".", 2)
        if part == "anchor_grid":
            renamed["anchors"] = value.view(len(STRIDES), -1, 2)
        elif part != "anchors":
            for pattern, ours in AUTHORS_PARTS:
                part = re.sub(pattern, ours, part)
            renamed[f"{AUTHORS_LAYERS[int(layer)]}.{part}"] = value
    return renamed


def take_authors_weights(model: nn.Module, state_dict: Dict[str, Tensor], *_) -> None:
    """Before a state dict is loaded: weights of the authors' naming get ours, in place.

    Predictors for other classes than ours begin anew.

    Raises:
        InputError: the weights are of another size than the network.
    """
    if "model.0.conv.weight" not in state_dict:
        return
    renamed, own = from_authors_names(state_dict), model.state_dict()
    for key in own.keys() & renamed.keys():
        if key.startswith("head.predictors.") and own[key].shape != renamed[key].shape:
            renamed[key] = own[key]
        elif own[key].shape != renamed[key].shape:
            raise InputError(
                f"MODEL.WEIGHTS: YOLOv7's weights by its authors have {key} as {tuple(renamed[key].shape)}, the network "
                f"{tuple(own[key].shape)}; MODEL.YOLOV7.WIDTH and DEPTH must be 1."
            )
    state_dict.clear()
    state_dict.update(renamed)
