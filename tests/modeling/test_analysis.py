"""Detectron2's tools/analyze_model.py on our networks: its counter of operations traces them."""

import pytest
import torch
import torchvision
from fvcore.nn import FlopCountAnalysis as FlopCount

from detectron2.modeling import build_model
from detectron2.utils.analysis import FlopCountAnalysis


@pytest.mark.parametrize("architecture", ["TSDDStage1", "TSDDStage2"])
def test_operations_are_counted(tiny_cfg, architecture):
    tiny_cfg.MODEL.META_ARCHITECTURE = architecture
    model = build_model(tiny_cfg).eval()
    counted = FlopCountAnalysis(model, [{"image": torch.rand(3, 128, 128), "height": 128, "width": 128}]).by_module()
    resnet18 = torchvision.models.resnet18(num_classes=1).eval()
    side = tiny_cfg.MODEL.CNET.INPUT_SIZE
    # C-Net sees the one box; without its last layer, which is another one here
    alone = FlopCount(resnet18, torch.rand(1, 3, side, side)).by_module()
    assert counted["model.cnet.resnet"] == alone[""] - alone["fc"]
    assert counted[""] > counted["model.cnet.resnet"] + counted["model.dnet.backbone"] > 0
