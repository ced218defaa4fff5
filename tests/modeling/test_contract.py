"""What is asked of a network is asked of its contract: every architecture of ours, by its name and by its class."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from detectron2.modeling import META_ARCH_REGISTRY, ROI_HEADS_REGISTRY, build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from tsdd_d2.config import get_tsdd_cfg
from tsdd_d2.config_values import ANY, RETIRED, without_retired_keys
from tsdd_d2.errors import InputError
from tsdd_d2.modeling.cnet import probabilities_of_boxes
from tsdd_d2.modeling.contract import (
    FOUND_BOX,
    MANUAL_ROI,
    WHOLE_IMAGE,
    DiagnosesROIs,
    DiagnosesTensors,
    DiagnosisNetwork,
    ScoresCandidates,
    supports,
)
from tsdd_d2.modeling.dnet import DNet
from tsdd_d2.modeling.groups import fa_and_pa_terms
from tsdd_d2.modeling.weights import load_cnet

TSDDNET = {DiagnosesROIs, DiagnosesTensors}
OFFERS = {
    "TSDDStage1": (FOUND_BOX, TSDDNET | {ScoresCandidates}),
    "TSDDStage2": (FOUND_BOX, TSDDNET),
    "DiagnosingRetinaNet": (FOUND_BOX, set()),
    "CNetOnROI": (MANUAL_ROI, set()),
    "CNetOnImage": (WHOLE_IMAGE, set()),
}


def inputs():
    instances = Instances((64, 72), gt_boxes=Boxes([[10.0, 10, 40, 50]]), gt_classes=torch.tensor([1]))
    return {
        "image": torch.randint(0, 256, (3, 64, 72), dtype=torch.uint8), "height": 128, "width": 144, "category_id": 1,
        "instances": instances, "partially_annotated": False, "rois": torch.tensor([[20.0, 20, 80, 100]]),
    }  # fmt: skip


@pytest.mark.parametrize("architecture", OFFERS)
def test_every_network_keeps_the_contract(tiny_cfg, architecture):
    boxes, protocols = OFFERS[architecture]
    tiny_cfg.MODEL.META_ARCHITECTURE, tiny_cfg.MODEL.RETINANET.NUM_CLASSES = architecture, 2
    tiny_cfg.TEST.DETECTIONS_PER_IMAGE = 3
    model = build_model(tiny_cfg)
    assert isinstance(model, DiagnosisNetwork) and model.diagnosed_boxes == boxes
    for protocol in (*TSDDNET, ScoresCandidates):
        assert supports(architecture, protocol) == isinstance(model, protocol) == (protocol in protocols)
    with EventStorage():
        assert all(name.startswith("loss_") for name in model.train()([inputs(), inputs()]))
    model.eval()
    found, best = model([inputs()])[0]["instances"], model.detect([inputs()], 1)[0]["instances"]
    assert found.image_size == (128, 144) and len(best) <= 1
    assert all(found.has(x) for x in ("pred_boxes", "scores", "pred_classes", "malignancy"))
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)


def test_an_unknown_architecture_supports_nothing():
    assert not supports("NoSuchNetwork", ScoresCandidates)


class OtherLocaliser(DNet):
    """Stands for a detector of another kind."""


def test_dnet_is_exchangeable(tiny_cfg, monkeypatch):
    monkeypatch.setitem(META_ARCH_REGISTRY._obj_map, "OtherLocaliser", OtherLocaliser)
    tiny_cfg.MODEL.DNET.NAME = "OtherLocaliser"
    for architecture in ("TSDDStage1", "TSDDStage2"):
        tiny_cfg.MODEL.META_ARCHITECTURE = architecture
        assert type(build_model(tiny_cfg).dnet) is OtherLocaliser
    tiny_cfg.MODEL.DNET.NAME = "CNetOnROI"
    with pytest.raises(InputError, match=r"MODEL\.DNET\.NAME CNetOnROI"):
        build_model(tiny_cfg)


class MeanGrey(nn.Module):
    """Stands for a classifier of another kind: it takes the mean grey of each box."""

    num_features = 1

    def __init__(self, cfg, input_shape):
        super().__init__()
        self.classifier = nn.Linear(1, 2)

    def features(self, images, boxes):
        return roi_align(images, boxes, 1).mean(dim=(1, 2, 3))[:, None]

    def class_probabilities(self, images, boxes):
        return probabilities_of_boxes(lambda some: self.classifier(self.features(images, some)), boxes)

    def losses(self, images, boxes, gt_instances, partially_annotated):
        logits = self.classifier(self.features(images, boxes))
        loss = F.cross_entropy(logits, torch.cat([x.gt_classes for x in gt_instances]), reduction="none")
        return fa_and_pa_terms("loss_cnet", loss, partially_annotated, 1.0)


def test_cnet_is_exchangeable(tiny_cfg, monkeypatch):
    monkeypatch.setitem(ROI_HEADS_REGISTRY._obj_map, "MeanGrey", MeanGrey)
    tiny_cfg.MODEL.ROI_HEADS.NAME = "MeanGrey"
    for architecture in ("TSDDStage1", "TSDDStage2", "CNetOnROI"):
        tiny_cfg.MODEL.META_ARCHITECTURE = architecture
        model = build_model(tiny_cfg)
        with EventStorage():
            sum(model([inputs(), inputs()]).values()).backward()
        assert 0 < float(model.eval()([inputs()])[0]["instances"].malignancy[0]) < 1
    with pytest.raises(InputError, match=r"MODEL\.CNET\.WEIGHTS timm://resnet18"):
        load_cnet(model.cnet, "timm://resnet18")
    tiny_cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    with pytest.raises(InputError, match=r"MODEL\.ROI_HEADS\.NAME StandardROIHeads"):
        build_model(tiny_cfg)


@pytest.mark.parametrize("key", [key for key, harmless in RETIRED.items() if harmless is not ANY])
def test_a_retired_key_may_stand_in_an_old_configuration_with_the_value_that_changed_nothing(key):
    old = get_tsdd_cfg()
    *path, name = key.split(".")
    node = old
    for part in path:
        node = node[part]
    node[name] = RETIRED[key]
    assert without_retired_keys(old, "old.yaml") == get_tsdd_cfg()
    node[name] = 7
    with pytest.raises(InputError, match=rf"old\.yaml.*{key}"):
        without_retired_keys(old, "old.yaml")
