import os

import pytest
from torch import nn

from detectron2.modeling import build_model
from tsdd_d2.data.files import write_text
from tsdd_d2.engine import TSDDCheckpointer
from tsdd_d2.engine.checks import check_config, check_data, check_network, check_smallest_images
from tsdd_d2.errors import InputError


def test_an_error_without_a_word_shows_what_was_demanded(tiny_cfg):
    tiny_cfg.MODEL.RETINANET.IOU_THRESHOLDS = [0.5]  # Detectron2: assert len(labels) == len(thresholds) - 1
    with pytest.raises(InputError, match="thresholds"):
        check_network(tiny_cfg)


@pytest.mark.parametrize("key, value", [("BACKBONE.FREEZE_AT", 1), ("RESNETS.NORM", "FrozenBN")])
def test_random_layers_do_not_stay_frozen(tiny_cfg, tiny_dataset, key, value):
    check_network(tiny_cfg)
    tiny_cfg.merge_from_list([f"MODEL.{key}", value])
    with pytest.raises(InputError, match=r'MODEL\.WEIGHTS "": .*FREEZE_AT 0 MODEL\.RESNETS\.NORM BN'):
        check_network(tiny_cfg)


def test_neither_do_those_of_cnet(tiny_cfg, tiny_dataset):
    tiny_cfg.merge_from_list(["MODEL.CNET.FREEZE_AT", 2])
    with pytest.raises(InputError, match=r"MODEL\.CNET\.FREEZE_AT 2"):  # its ResNet has no such option
        check_network(tiny_cfg)
    tiny_cfg.merge_from_list(["MODEL.CNET.BACKBONE", "efficientnet_lite0"])
    with pytest.raises(InputError, match=r'MODEL\.CNET\.WEIGHTS "": .*MODEL\.CNET\.FREEZE_AT 0'):
        check_network(tiny_cfg)


@pytest.mark.parametrize(
    "key, value, check",
    [
        ("MODEL.CNET.DEPTH", 20, check_config),
        ("MODEL.RESNETS.DEPTH", 20, check_network),  # a KeyError in Detectron2
        ("MODEL.RESNETS.RES2_OUT_CHANNELS", 256, check_network),  # an AssertionError
        ("MODEL.CNET.NORM", "batch", check_network),
        ("MODEL.RETINANET.IN_FEATURES", ["p3", "p9"], check_network),
        ("MODEL.BACKBONE.NAME", "nope", check_network),
    ],
)
def test_a_network_that_cannot_be_built_names_the_key(tiny_cfg, key, value, check):
    tiny_cfg.merge_from_list([key, value])
    with pytest.raises(InputError, match=key):
        check(tiny_cfg)


@pytest.mark.parametrize("weights", ["", "no/such.pth", "torchvision://ResNet18_Weights.IMAGENET1K_V1", "."])
def test_only_trained_weights_are_evaluated(tiny_cfg, weights):
    tiny_cfg.MODEL.WEIGHTS = weights
    for resume in (False, True):  # there is no checkpoint to go on from
        with pytest.raises(InputError, match="--eval-only MODEL.WEIGHTS .*run/model_final.pth"):
            check_network(tiny_cfg, training=False, resume=resume)


def test_the_last_checkpoint_must_fit_the_network(tiny_cfg):
    TSDDCheckpointer(nn.Linear(2, 1), tiny_cfg.OUTPUT_DIR).save("model_0000001")
    for training in (True, False):
        with pytest.raises(InputError, match="another architecture"):
            check_network(tiny_cfg, training, resume=True)


def test_weights_that_do_not_fit_tell_what_is_configured_otherwise(tiny_cfg):
    TSDDCheckpointer(build_model(tiny_cfg), tiny_cfg.OUTPUT_DIR).save("model_final")
    write_text(os.path.join(tiny_cfg.OUTPUT_DIR, "config.yaml"), tiny_cfg.dump())
    tiny_cfg.MODEL.WEIGHTS = os.path.join(tiny_cfg.OUTPUT_DIR, "model_final.pth")
    check_network(tiny_cfg, training=False)
    tiny_cfg.MODEL.CNET.BACKBONE = "efficientnet_lite0"
    with pytest.raises(InputError, match=r"(?s)model_final\.pth.*MODEL\.CNET\.BACKBONE.*efficientnet_lite0"):
        check_network(tiny_cfg, training=False)


def test_detectron2s_test_time_augmentation_is_refused(tiny_cfg):
    tiny_cfg.TEST.AUG.ENABLED = True
    with pytest.raises(InputError, match=r"TEST\.AUG\.ENABLED"):
        check_network(tiny_cfg)


@pytest.mark.parametrize(
    "key, value, size, training",
    [
        ("MIN_SIZE_TEST", 32, "36x32", False),
        ("MIN_SIZE_TRAIN", (96, 32), "36x32", True),
        ("MAX_SIZE_TEST", 40, "40x36", True),
    ],
)
def test_images_too_small_for_a_layer_are_told_before_training(tiny_dataset, tiny_cfg, key, value, size, training):
    """D-Net's heads normalise in groups, which one pixel of a feature map does not make."""
    check_data(tiny_cfg)
    check_smallest_images(tiny_cfg)
    tiny_cfg.INPUT[key] = value
    with pytest.raises(InputError, match=rf"images/\d+\.png.* {size} pixels.* 2 times") as error:
        check_smallest_images(tiny_cfg, training)
    assert "MIN_SIZE" in str(error.value)
