"""timm's networks as backbones: of D-Net and the detectors with Detectron2's FPN, and of C-Net.

Detectron2's own builders, ResNets above all, are used as they are; both are chosen by ``MODEL.BACKBONE.NAME``.
"""

from typing import Dict, List

from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone, build_resnet_backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from detectron2.modeling.backbone.resnet import ResNet

from ..errors import InputError

# Stride -> name of a feature level, as Detectron2's ResNets have them.
LEVELS = {4: "res2", 8: "res3", 16: "res4", 32: "res5"}


class TimmBackbone(Backbone):
    """The levels "res2" to "res5", at strides 4 to 32, of a network of timm."""

    def __init__(
        self,
        name: str,
        out_features: List[str],
        freeze_at: int = 0,
        channels: int = 3,
        norm_eps: float = 0.0,
        last_stride: int = 32,
    ):
        """
        Args:
            name: of timm's network, such as "efficientnet_lite0"; the weights are random.
            out_features: the levels that are returned.
            freeze_at: see :func:`freeze_first`.
            channels: of the images.
            norm_eps: see :func:`create`.
            last_stride: 16: "res5" is dilated and not strided. It then has the cells of stride 32, and those between them.
        Raises:
            InputError: timm has no such network, or it has not these levels, or they lie beside the anchors.
        """
        super().__init__()
        dilated = {"output_stride": last_stride} if last_stride < 32 else {}  # which few networks of timm do not take
        self.network = create(name, norm_eps, features_only=True, in_chans=channels, **dilated)
        info = self.network.feature_info
        shapes = [ShapeSpec(channels=c, stride=s) for c, s in zip(info.channels(), info.reduction())]
        self.places = {LEVELS[x]: place for place, x in enumerate(undilated_strides(self.network)) if x in LEVELS}
        if not set(out_features) <= set(self.places):
            raise InputError(f"MODEL.BACKBONE.MODEL {name} has the levels {', '.join(self.places)}, not {out_features}.")
        self._out_features = list(out_features)
        self._shapes = {level: shapes[self.places[level]] for level in out_features}
        freeze_first(self.network, freeze_at)

    def forward(self, images: Tensor) -> Dict[str, Tensor]:
        """(N, C, H, W) -> the levels, (N, C, H / stride, W / stride) each."""
        features = self.network(images)
        return {level: features[self.places[level]] for level in self._out_features}

    def output_shape(self) -> Dict[str, ShapeSpec]:
        return dict(self._shapes)


def freeze_first(network: nn.Module, freeze_at: int) -> None:
    """Leaves the first layers of a network of timm as they are loaded, their batch statistics too.

    Args:
        freeze_at: as Detectron2 counts: 0: none, 1: up to stride 2, 2: up to "res2", ...
    """
    from timm.utils.model import freeze  # see create

    from .frozen_norm import normalise_in_one_pass

    strides = undilated_strides(network)
    frozen = [x["module"] for x, stride in zip(network.feature_info, strides) if stride <= 2**freeze_at]
    if freeze_at and frozen:
        # not Detectron2's FrozenBatchNorm2d.convert_frozen_batchnorm: it loses the activation in timm's layers
        freeze(network, up_to(network, frozen[-1]))
        normalise_in_one_pass(network)


def undilated_strides(network: nn.Module) -> List[int]:
    """Of the levels of a network of timm, such as [2, 4, 8, 16, 32] where the last one is dilated, which timm counts as 16."""
    strides, last = [], 0
    for x in network.feature_info:
        strides.append(2 * strides[-1] if x["reduction"] == last else x["reduction"])
        last = x["reduction"]
    return strides


def dilate(stage: nn.Module) -> None:
    """Makes the cells of the last stage of a ResNet of Detectron2 twice as dense, with the same weights: what was computed
    before stands in every other row and column."""
    for layer in stage.modules():
        if not isinstance(layer, nn.Conv2d):
            continue
        if layer.stride != (1, 1):
            layer.stride = (1, 1)
        elif layer.kernel_size != (1, 1):
            layer.dilation, layer.padding = ((2 * rows, 2 * columns) for rows, columns in (layer.dilation, layer.padding))


def up_to(network: nn.Module, name: str) -> List[str]:
    """The names of all that runs up to the module ``name``, such as ["stem", "blocks.0", "blocks.1"] for "blocks.1"."""
    names, parent = [], ""
    if name not in dict(network.named_modules()):
        name = name.replace(".", "_")  # as timm's FeatureListNet flattens a network
    for part in name.split("."):
        siblings = [child for child, _ in network.get_submodule(parent).named_children()]
        before = siblings[: siblings.index(part)]
        names += [f"{parent}.{child}".lstrip(".") for child in before]
        parent = f"{parent}.{part}".lstrip(".")
    return [*names, name]


def create(name: str, norm_eps: float = 0.0, **options) -> nn.Module:
    """A network of timm with random weights.

    Args:
        norm_eps: epsilon of its batch normalisation; 0: timm's own. TensorFlow's weights have 1e-3, which timm gives the
            networks that pad as TensorFlow does, and not their twins. Channels with a variance below that are then scaled
            up to ten times too much.
    Raises:
        InputError: there is none of this name, or its features lie beside the anchors.
    """
    import timm  # seconds, which whoever registers data need not wait for

    if name.startswith("tf_"):
        # Where a side is even TensorFlow pads to the right and below alone: at stride 32 the features of such an image lie
        # 31 pixels beside Detectron2's anchors.
        raise InputError(f"{name} pads as TensorFlow does, beside the anchors: take {name[3:]}, which has the same weights.")
    try:
        network = timm.create_model(name, pretrained=False, **options)
    except (RuntimeError, TypeError, AssertionError) as error:  # of an unknown name, of an option that it does not take
        raise InputError(f"timm {timm.__version__} has no network {name!r} that can be a backbone: {error}") from error
    if norm_eps:
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eps = norm_eps
    return network


def _bottom_up(cfg: CfgNode, input_shape: ShapeSpec, out_features: List[str], last_stride: int = 32) -> TimmBackbone:
    backbone = cfg.MODEL.BACKBONE
    return TimmBackbone(
        backbone.MODEL, out_features, backbone.FREEZE_AT, input_shape.channels, backbone.NORM_EPS, last_stride
    )


def _fpn(cfg: CfgNode, input_shape: ShapeSpec, top_block: nn.Module) -> FPN:
    return FPN(
        bottom_up=_bottom_up(cfg, input_shape, cfg.MODEL.FPN.IN_FEATURES),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """As Detectron2's ``build_resnet_backbone``, with ``MODEL.RESNETS.OUT_FEATURES``, on ``MODEL.BACKBONE.MODEL``."""
    return _bottom_up(cfg, input_shape, cfg.MODEL.RESNETS.OUT_FEATURES)


@BACKBONE_REGISTRY.register()
def build_dilated_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """As ``build_timm_backbone``, with "res5" at stride 16."""
    return _bottom_up(cfg, input_shape, cfg.MODEL.RESNETS.OUT_FEATURES, last_stride=16)


@BACKBONE_REGISTRY.register()
def build_dilated_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """As Detectron2's ``build_resnet_backbone``, with "res5" at stride 16; its own ``MODEL.RESNETS.RES5_DILATION`` is not for
    the depths 18 and 34."""
    network = build_resnet_backbone(cfg, input_shape)
    dilate(network.res5)
    network._out_feature_strides["res5"] = 16
    return network


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """As Detectron2's ``build_resnet_fpn_backbone``, on ``MODEL.BACKBONE.MODEL``."""
    return _fpn(cfg, input_shape, LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_retinanet_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """As Detectron2's ``build_retinanet_resnet_fpn_backbone``, on ``MODEL.BACKBONE.MODEL``."""
    return _fpn(cfg, input_shape, LastLevelP6P7(cfg.MODEL.FPN.OUT_CHANNELS, cfg.MODEL.FPN.OUT_CHANNELS, "p5"))
