"""The compared methods share what makes a comparison fair, and the ablations differ in what is removed alone."""

import pytest

from tsdd_d2.engine.configuration import load_config
from tsdd_d2.experiments.paper import ABLATIONS
from tsdd_d2.method import METHODS, PROFILES

DETECTORS = ("retinanet", "faster_rcnn")
TEACHERS = ("unbiased_teacher", "unbiased_teacher_weak", "soft_teacher", "soft_teacher_weak")
# A batch can be divided by 1 + 4.
OTHER_BATCHES = ("soft_teacher", "soft_teacher_weak")
STAC = ("stac", "stac_weak")
# In the small profiles these see the image at a size between what D-Net and C-Net see.
WITH_SIZES = (*DETECTORS, "yolov4", "yolov7", *STAC, *TEACHERS, "spa")
SIZES = {"MIN_SIZE_TRAIN", "MIN_SIZE_TEST", "MAX_SIZE_TRAIN", "MAX_SIZE_TEST"}
# Without pretrained weights it trains as long in the small profile as from random initialisation.
WITHOUT_WEIGHTS = "yolov7"
# Their few ROIs are learned by heart in as many steps as a detector needs.
WITHOUT_DETECTOR = ("cnet_oracle", "cnet_whole_image")
IN_ONE_STAGE = [x.name for x in METHODS.values() if x.starts_from is None and not x.is_part]


def configuration(method, profile="cpu"):
    return load_config(method=method, profile=profile)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_method_draws_as_many_images_in_all_its_stages(profile):
    def images(*methods):
        configurations = [configuration(method, profile) for method in methods]
        return sum(cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH for cfg in configurations)

    expected = images("tsddnet_stage1", "tsddnet")
    found = {name: images(name) for name in IN_ONE_STAGE if name not in (WITHOUT_WEIGHTS, *WITHOUT_DETECTOR)}
    assert found == dict.fromkeys(found, expected)
    cfg, scratch = configuration(WITHOUT_WEIGHTS, profile), configuration(WITHOUT_WEIGHTS, "scratch")
    assert images(WITHOUT_WEIGHTS) == expected or cfg.SOLVER.MAX_ITER == scratch.SOLVER.MAX_ITER
    assert all(images(x) == (16 * 400 if profile == "cpu" else expected) for x in WITHOUT_DETECTOR)
    for student in STAC:  # after a teacher that draws as many
        assert images(student) == expected


@pytest.mark.parametrize("profile", PROFILES)
def test_all_methods_share_images_augmentation_and_optimiser_with_the_first_stage(profile):
    first = configuration("tsddnet_stage1", profile)
    for name in (*IN_ONE_STAGE, *STAC):
        cfg = configuration(name, profile)
        differing = {key for key in cfg.INPUT if cfg.INPUT[key] != first.INPUT[key]}
        other_size = profile != "paper" and name in WITH_SIZES or (profile, name) == ("cpu", "cnet_whole_image")
        assert differing == (SIZES if other_size else set()), name
        assert cfg.DATASETS == first.DATASETS and cfg.SEED == first.SEED, name
        for key in ("OPTIMIZER", "BASE_LR", "WEIGHT_DECAY", "LR_SCHEDULER_NAME", "WARMUP_ITERS"):
            assert cfg.SOLVER[key] == first.SOLVER[key], (name, key)
        assert cfg.SOLVER.IMS_PER_BATCH == first.SOLVER.IMS_PER_BATCH or name in OTHER_BATCHES, name
        assert cfg.MODEL.RESNETS.DEPTH == first.MODEL.RESNETS.DEPTH, name
        assert cfg.MODEL.FPN.OUT_CHANNELS == first.MODEL.FPN.OUT_CHANNELS, name


def test_detectors_see_as_many_pixels_as_dnet():
    first = configuration("tsddnet_stage1", "cpu")
    seen = first.INPUT.MIN_SIZE_TEST // first.MODEL.DNET.INPUT_STRIDE
    assert {configuration(name, "cpu").INPUT.MIN_SIZE_TEST for name in WITH_SIZES} == {seen}


@pytest.mark.parametrize("profile", PROFILES)
def test_ablations_differ_from_the_full_model_in_what_is_removed_alone(profile):
    def less_what_is_removed(method):
        cfg = configuration(method, profile)
        cfg.defrost()
        del cfg["METHOD"]
        first = configuration(METHODS[method].starts_from, profile)
        removed = first.REFINEMENT.RULE, cfg.REFINEMENT.pop("RULE"), cfg.MODEL.FNET.pop("SELF_DISTILLATION")
        first.defrost()
        del first["METHOD"]
        first.REFINEMENT.pop("RULE")
        return removed, cfg, first

    removed, *full = less_what_is_removed("tsddnet")
    assert removed == ("class_guided", "class_guided", True)
    expected = {
        "tsdd_b": ("pseudo_label", "pseudo_label", False),
        "tsdd_b_cs": ("class_guided", "class_guided", False),
        "tsdd_b_sd": ("pseudo_label", "pseudo_label", True),
    }
    for method in ABLATIONS:
        removed, *rest = less_what_is_removed(method)
        assert removed == expected[method] and rest == full


def test_detectors_keep_every_score_and_both_classes():
    for method in DETECTORS:
        for profile in PROFILES:
            cfg = configuration(method, profile)
            assert cfg.MODEL.RETINANET.SCORE_THRESH_TEST == 0 or cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST == 0
            assert cfg.TEST.DETECTIONS_PER_IMAGE == 100
            assert 2 in (cfg.MODEL.RETINANET.NUM_CLASSES, cfg.MODEL.ROI_HEADS.NUM_CLASSES)


def test_the_papers_profile_has_the_papers_backbone():
    for method in ("tsddnet_stage1", "retinanet", "faster_rcnn"):
        cfg = configuration(method, "paper")
        assert cfg.MODEL.RESNETS.DEPTH == 34 and cfg.MODEL.BACKBONE.NAME.endswith("resnet_fpn_backbone")
        assert cfg.MODEL.WEIGHTS.startswith("torchvision://ResNet34")
