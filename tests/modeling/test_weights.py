import os
import re
import shlex

import pytest
import torch
import torchvision

from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from tsdd_d2.engine.checkpoint import load_weights
from tsdd_d2.errors import InputError

RESNET18 = "torchvision://ResNet18_Weights.IMAGENET1K_V1"


@pytest.fixture
def torchvision_cache(tmp_path, monkeypatch):
    """A cache folder with random weights under the real file name of ResNet-18."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(1)
    resnet = torchvision.models.resnet18()
    url = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url
    torch.save(resnet.state_dict(), folder / os.path.basename(url))
    return resnet


def test_cached_weights_reach_both_networks(tiny_cfg, torchvision_cache):
    """The converted backbone computes what torchvision's does."""
    tiny_cfg.MODEL.WEIGHTS = tiny_cfg.MODEL.CNET.WEIGHTS = RESNET18
    model = build_model(tiny_cfg)
    own_classifier = model.cnet.classifier.weight.clone()
    load_weights(model, tiny_cfg)
    x = torch.rand(1, 3, 64, 64)
    reference = torchvision_cache.eval()
    features = reference.maxpool(reference.relu(reference.bn1(reference.conv1(x))))
    for layer in (reference.layer1, reference.layer2, reference.layer3, reference.layer4):
        features = layer(features)
    bottom_up = model.eval().dnet.backbone.body.bottom_up
    torch.testing.assert_close(bottom_up(x)["res5"], features, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.cnet.resnet.layer4[1].conv2.weight, reference.layer4[1].conv2.weight)
    assert torch.equal(model.cnet.classifier.weight, own_classifier)


def test_another_depth_names_the_keys(tiny_cfg, torchvision_cache):
    tiny_cfg.MODEL.WEIGHTS, tiny_cfg.MODEL.RESNETS.DEPTH = RESNET18, 34
    with pytest.raises(InputError, match=r"not in the file: res2\.2\.conv1\."):
        load_weights(build_model(tiny_cfg), tiny_cfg)


def test_no_file_and_no_network_names_both(tiny_cfg, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    tiny_cfg.MODEL.CNET.WEIGHTS = RESNET18
    tiny_cfg.MODEL.BACKBONE.FREEZE_AT, tiny_cfg.MODEL.RESNETS.NORM = 2, "FrozenBN"  # as in the paper's configuration
    with pytest.raises(InputError) as error:
        load_weights(build_model(tiny_cfg), tiny_cfg)
    assert "resnet18-f37072fd.pth" in str(error.value) and "https://" in str(error.value)
    advice = re.search(r"random initialisation with (.*), since", str(error.value))[1]
    tiny_cfg.merge_from_list(shlex.split(advice))
    model = build_model(tiny_cfg)
    load_weights(model, tiny_cfg)
    assert all(p.requires_grad for p in model.parameters())
    assert not any(isinstance(module, FrozenBatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("key", ["MODEL.WEIGHTS", "MODEL.CNET.WEIGHTS"])
def test_a_path_instead_of_a_name(tiny_cfg, torchvision_cache, tmp_path, key):
    (file,) = (tmp_path / "hub" / "checkpoints").iterdir()
    tiny_cfg.merge_from_list([key, str(file)])
    with pytest.raises(InputError, match=r"torchvision://NAME.*checkpoints"):
        load_weights(build_model(tiny_cfg), tiny_cfg)


def test_unknown_name(tiny_cfg):
    tiny_cfg.MODEL.CNET.WEIGHTS = "torchvision://ResNet18_Weights.NONE"
    with pytest.raises(InputError, match="no weights of this name"):
        load_weights(build_model(tiny_cfg), tiny_cfg)
