"""Every configuration key of ours. Departures from the paper are off by default, but for what it leaves open (the ranking
of D-Net's boxes); its hyperparameters are in configs/tsdd_stage1.yaml and tsdd_stage2.yaml."""

import functools
import os
from typing import Any

import tsdd_d2
from detectron2.config import CfgNode as CN
from detectron2.config import get_cfg

from .config_values import (
    A_DEVICE,
    A_NAME,
    A_TEXT,
    NOTHING,
    PLACE_DEPENDENT,
    RANGES,
    RISING,
    a_range,
    above,
    add_key,
    at_least,
    each,
    from_to_below,
    merge,
    none_or,
    one_of,
    value_problems,
    within,
    without_retired_keys,
)
from .errors import BBUIError, InputError
from .plugins import load_plugins

# What Detectron2's own keys may be, of those that we use and that nothing else refuses before a training.
SIDE = within(0, 4096)  # pixels; 0 switches the resizing off
BOX_LOSS = one_of("smooth_l1", "giou", "diou", "ciou")
DETECTRON2_RANGES = {
    "OUTPUT_DIR": A_NAME,
    "SEED": within(0, 2**32 - 1),  # it decides the images, the augmentation and the patients that keep ROIs
    "VIS_PERIOD": at_least(0),
    "DATASETS.TRAIN": each(A_NAME, 0),
    "DATASETS.TEST": each(A_NAME, 0),
    "DATALOADER.NUM_WORKERS": within(0, 1024),
    "INPUT.FORMAT": one_of("L", "RGB", "BGR"),
    "INPUT.MIN_SIZE_TRAIN": each(SIDE),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": one_of("choice", "range"),
    "INPUT.MAX_SIZE_TRAIN": at_least(1),
    "INPUT.MIN_SIZE_TEST": SIDE,
    "INPUT.MAX_SIZE_TEST": at_least(1),
    "INPUT.RANDOM_FLIP": one_of("horizontal", "vertical", "none"),
    "INPUT.CROP.TYPE": one_of("relative", "relative_range", "absolute", "absolute_range"),
    "INPUT.CROP.SIZE": each(above(0), 2, 2),
    "MODEL.DEVICE": A_DEVICE,
    "MODEL.WEIGHTS": A_TEXT,
    # of what our data have not
    "MODEL.KEYPOINT_ON": one_of(False),
    "MODEL.MASK_ON": one_of(False),
    "MODEL.LOAD_PROPOSALS": one_of(False),
    "MODEL.PIXEL_MEAN": each(within(-(10**6), 10**6), 1, 3),
    "MODEL.PIXEL_STD": each(above(0), 1, 3),
    "MODEL.BACKBONE.FREEZE_AT": within(0, 5),
    "MODEL.RESNETS.NUM_GROUPS": at_least(1),
    "MODEL.RESNETS.WIDTH_PER_GROUP": at_least(1),
    "MODEL.RESNETS.RES2_OUT_CHANNELS": at_least(1),
    "MODEL.RESNETS.STEM_OUT_CHANNELS": at_least(1),
    "MODEL.FPN.OUT_CHANNELS": within(1, 2**14),
    "MODEL.ANCHOR_GENERATOR.SIZES": each(each(above(0))),
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": each(each(above(0))),
    "MODEL.ANCHOR_GENERATOR.OFFSET": from_to_below(0, 1),
    "MODEL.RETINANET.NUM_CONVS": within(0, 100),
    "MODEL.RETINANET.NUM_CLASSES": at_least(1),
    "MODEL.RETINANET.PRIOR_PROB": within(1e-6, 1 - 1e-6),
    "MODEL.RETINANET.SCORE_THRESH_TEST": within(0, 1),
    "MODEL.RETINANET.NMS_THRESH_TEST": within(0, 1),
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST": at_least(1),
    "MODEL.RETINANET.BBOX_REG_WEIGHTS": each(above(0), 4, 4),
    "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": at_least(0),
    "MODEL.RETINANET.FOCAL_LOSS_GAMMA": at_least(0),
    "MODEL.RETINANET.FOCAL_LOSS_ALPHA": within(-1, 1),
    "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": BOX_LOSS,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": at_least(1),
    "MODEL.RPN.POSITIVE_FRACTION": within(0, 1),
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": at_least(1),
    "MODEL.RPN.PRE_NMS_TOPK_TEST": at_least(1),
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": at_least(1),
    "MODEL.RPN.POST_NMS_TOPK_TEST": at_least(1),
    "MODEL.RPN.NMS_THRESH": within(0, 1),
    "MODEL.RPN.LOSS_WEIGHT": at_least(0),
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": BOX_LOSS,
    "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": at_least(0),
    "MODEL.RPN.SMOOTH_L1_BETA": at_least(0),
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": within(1, 256),
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": within(0, 64),
    "MODEL.ROI_BOX_HEAD.FC_DIM": within(1, 2**16),
    "MODEL.ROI_BOX_HEAD.CONV_DIM": within(1, 2**14),
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": BOX_LOSS,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": at_least(0),
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": at_least(0),
    "MODEL.ROI_HEADS.NUM_CLASSES": at_least(1),
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": at_least(1),
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": within(0, 1),
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": within(0, 1),
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": within(0, 1),
    "SOLVER.LR_SCHEDULER_NAME": one_of("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR"),
    "SOLVER.IMS_PER_BATCH": within(1, 2**20),
    "SOLVER.BASE_LR": above(0),
    "SOLVER.BASE_LR_END": at_least(0),
    "SOLVER.MAX_ITER": at_least(1),
    "SOLVER.STEPS": RISING,
    "SOLVER.GAMMA": above(0),
    "SOLVER.NUM_DECAYS": at_least(1),
    "SOLVER.WARMUP_ITERS": at_least(0),
    # of what our trainers do not have
    "SOLVER.REFERENCE_WORLD_SIZE": one_of(0),
    "TEST.PRECISE_BN.ENABLED": one_of(False),
    "SOLVER.WARMUP_FACTOR": within(0, 1),
    "SOLVER.WARMUP_METHOD": one_of("linear", "constant"),
    "SOLVER.WEIGHT_DECAY": at_least(0),
    "SOLVER.WEIGHT_DECAY_NORM": none_or(at_least(0)),
    "SOLVER.WEIGHT_DECAY_BIAS": none_or(at_least(0)),
    "SOLVER.BIAS_LR_FACTOR": none_or(at_least(0)),
    "SOLVER.CHECKPOINT_PERIOD": at_least(1),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": one_of("value", "norm"),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": above(0),
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": above(0),
    "TEST.EVAL_PERIOD": at_least(0),
    "TEST.EXPECTED_RESULTS": NOTHING,  # Detectron2 would compare them with results that its trainer alone has
    "TEST.DETECTIONS_PER_IMAGE": at_least(1),
}


def get_tsdd_cfg() -> CN:
    """Detectron2's default config with the keys of TSDDNet and of the plug-ins.

    Raises:
        InputError: a plug-in cannot be imported, or adds no keys.
    """
    cfg = get_cfg()
    add_tsdd_config(cfg)
    for plugin in load_plugins():
        if hasattr(plugin.module, "add_config"):
            try:
                plugin.module.add_config(cfg)
            except Exception as error:  # whatever foreign code does
                raise InputError(f"add_config of the plug-in {plugin.module.__name__}: {error!r}") from error
    return cfg


def stored_config(values: Any, source: str, ignore_unknown: bool = False) -> CN:
    """The configuration that a run was started with, from what its YAML holds, and the defaults of the keys that are newer.

    Args:
        source: names its file, in errors.
        ignore_unknown: see :func:`~tsdd_d2.config_values.merge`.
    Raises:
        InputError: it is damaged, or has keys that are not known here.
    """
    if not isinstance(values, dict):
        raise InputError(f"{source} cannot be read: it holds no keys with values.")
    cfg = get_tsdd_cfg()
    values = without_retired_keys(values, source)
    merge(cfg, values, f"{source}, for tsdd_d2 {tsdd_d2.__version__},", ignore_unknown)
    problems = value_problems(cfg, except_for=PLACE_DEPENDENT)
    if problems:
        raise BBUIError(f"{source} is damaged:", problems)
    return cfg


def config_file(name: str) -> str:
    """The path of one of our configuration files, such as "tsdd_stage1_cpu.yaml", wherever this package is installed.

    Raises:
        InputError: there is none of that name.
    """
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "configs", name)
    if not os.path.isfile(path):
        raise InputError(f"There is no configuration file {name}: {path} does not exist.")
    return path


def add_tsdd_config(cfg: CN) -> None:
    """Adds the keys of TSDDNet to a Detectron2 config, in place.

    Keys of Detectron2 keep their meaning: the anchors, the matching thresholds, the box subnet and NMS of D-Net are
    those of ``MODEL.RETINANET`` and ``MODEL.ANCHOR_GENERATOR``. Of the keys for classes and scores that are there D-Net uses
    ``PRIOR_PROB`` alone, for its quality channel.
    Our trainers draw the images themselves, without ``DATALOADER.SAMPLER_TRAIN``, ``ASPECT_RATIO_GROUPING``,
    ``REPEAT_THRESHOLD`` and ``FILTER_EMPTY_ANNOTATIONS``; ``SOLVER.AMP.ENABLED`` is autocast to bfloat16, also on the CPU;
    ``SOLVER.OPTIMIZER`` has no ``MOMENTUM`` and ``NESTEROV``.
    """
    RANGES.update(DETECTRON2_RANGES)
    key = functools.partial(add_key, cfg)

    # The method that is trained, by name in tsdd_d2/methods; "": the first one with this MODEL.META_ARCHITECTURE.
    key("METHOD", "", A_TEXT)

    # ---- data
    # The validation split: periodic evaluation, best checkpoint, Youden threshold. TEST is looked at only at the end;
    # where it is empty, VAL is once more.
    key("DATASETS.VAL", (), each(A_NAME, 0))
    # p: the share of training patients that keep their ROIs (paper IV.B); 1.0 keeps all that the files have.
    key("DATASETS.P", 1.0, within(0, 1))
    # Seed of the draw of these patients; negative: SEED. Draws with one seed are nested (p = 0.2 is part of p = 0.4).
    key("DATASETS.P_SEED", -1, within(-(2**32), 2**32 - 1))
    # TSDDNet: the least share of fully annotated images in a batch, so that D-Net's own boxes do not outnumber the manual ones;
    # 0 is the paper: all images are drawn alike.
    key("DATASETS.FA_SHARE", 0.0, from_to_below(0, 1))
    # The veto file that a sonologist downloaded from the page of tools/review_rois.py (datasets/README.md); "": none.
    key("DATASETS.VETOES", "", A_TEXT)
    # Strength of random brightness and contrast in training (0 is the paper): factors in [1 - x, 1 + x].
    key("INPUT.INTENSITY_JITTER", 0.0, within(0, 1))
    # Random zoom and translation in training (0 is the paper): the visible part of the image is scaled by a factor in
    # [1 - ZOOM, 1 + ZOOM] and moved by up to SHIFT / 2 of its sides.
    key("INPUT.RANDOM_ZOOM", 0.0, from_to_below(0, 1))
    key("INPUT.RANDOM_SHIFT", 0.0, within(0, 1))

    # The training set's images stay decoded in memory (grey ones, a byte for each pixel; once for a process and its
    # loader's workers) if all of them fit into this many MB; 0: they are decoded every time.
    key("DATALOADER.DECODED_IMAGES_MB", 1024, at_least(0))

    # ---- backbones
    # timm's name of the network that MODEL.BACKBONE.NAME builds, where "timm" is in that name.
    key("MODEL.BACKBONE.MODEL", "efficientnet_lite0", A_NAME)
    # Epsilon of batch normalisation in timm's networks, D-Net's and C-Net's; 0: timm's own. Pretrained weights bring it.
    key("MODEL.BACKBONE.NORM_EPS", 0.0, from_to_below(0, 1))

    # ---- D-Net
    # The localiser of both stages, by its name in Detectron2's META_ARCH_REGISTRY (tsdd_d2/modeling/contract.py).
    key("MODEL.DNET.NAME", "DNet", A_NAME)
    # How D-Net's boxes are ranked, by name in tsdd_d2/modeling/ranking.py: expected_iou, quality or consensus. The first
    # two train a channel that predicts a box's IoU with the ROI, by a loss of its own beside Eq. (1); consensus needs none.
    key("MODEL.DNET.RANKING", "expected_iou", A_NAME)
    # D-Net sees the image averaged over this many pixels in each direction; 1 is the paper.
    key("MODEL.DNET.INPUT_STRIDE", 1, within(1, 64))
    # alpha of Eq. (1): weight of the partially annotated images.
    key("MODEL.DNET.ALPHA", 0.8, at_least(0))

    # ---- C-Net
    # ResNet depth.
    key("MODEL.CNET.DEPTH", 18, one_of(18, 34, 50, 101, 152))
    # A network of timm in its place, such as "efficientnet_lite0"; "": the ResNet.
    key("MODEL.CNET.BACKBONE", "", A_TEXT)
    # Side of the square ROI crop in pixels.
    key("MODEL.CNET.INPUT_SIZE", 224, within(8, 2048))
    # The ROI is enlarged about its centre by this factor before cropping; 1.0 is the paper.
    key("MODEL.CNET.CONTEXT", 1.0, within(0.1, 100))
    # Crop a square about the ROI, with its longer side, so that the lesion keeps its shape; False is the paper: the ROI is
    # stretched to a square.
    key("MODEL.CNET.SQUARE_CROP", False)
    # At inference take the mean of the features of several crops: with these factors on the context, and with MIRROR of the
    # mirror image of each. (1.0,) and False are the paper.
    key("MODEL.CNET.SCALES", (1.0,), each(within(0.05, 20)))
    key("MODEL.CNET.MIRROR", False)
    # Normalisation layer, by Detectron2's names: BN, FrozenBN, SyncBN, GN.
    key("MODEL.CNET.NORM", "BN", one_of("BN", "FrozenBN", "SyncBN", "GN"))
    # Initial weights by their address (tsdd_d2/modeling/weights.py), or "" (random). MODEL.WEIGHTS takes the same for D-Net's
    # backbone; where MODEL.WEIGHTS is a checkpoint of the whole network, this key is not used. An address brings what
    # its weights were trained with: MODEL.PIXEL_MEAN and PIXEL_STD of the images, MODEL.BACKBONE.NORM_EPS.
    key("MODEL.CNET.WEIGHTS", "", A_TEXT)
    # Layers of MODEL.CNET.BACKBONE that stay as they are loaded, counted as MODEL.BACKBONE.FREEZE_AT counts.
    key("MODEL.CNET.FREEZE_AT", 0, within(0, 5))
    # beta of Eq. (3): weight of the partially annotated images.
    key("MODEL.CNET.BETA", 0.8, at_least(0))
    # Label smoothing of Eq. (4); 0 is the paper.
    key("MODEL.CNET.LABEL_SMOOTHING", 0.0, from_to_below(0, 1))
    # In training each side of the ROI moves by up to this share of its length; 0 is the paper.
    key("MODEL.CNET.ROI_JITTER", 0.0, from_to_below(0, 1))
    # With this probability the first stage trains C-Net on D-Net's best box in place of the ROI that this box overlaps, if
    # their IoU is at least 0.5: the diagnosis is of D-Net's boxes at test time. 0 is the paper.
    key("MODEL.CNET.DNET_BOX_PROBABILITY", 0.0, within(0, 1))

    # ---- F-Net and self-distillation (paper III.C)
    # How D-Net's feature levels are pooled for F-Net, by name in tsdd_d2/modeling/fnet.py: global (over the image) or
    # roi (over the box).
    key("MODEL.FNET.DNET_POOLING", "roi", A_NAME)
    # Width of the first of F-Net's two FC layers.
    key("MODEL.FNET.HIDDEN", 256, within(1, 2**16))
    # The two auxiliary classifiers, L_cls1 and L_cls2 of Eq. (5); False is TSDDNet-B (+CS) of Table II.
    key("MODEL.FNET.SELF_DISTILLATION", True)

    # ---- YOLOv4 and YOLOv7
    # Factor of the channels of neck and head.
    key("MODEL.YOLOV4.WIDTH", 1.0, within(0.05, 4))
    # Probability that a training image is a mosaic of four.
    key("MODEL.YOLOV4.MOSAIC", 0.5, within(0, 1))
    key("MODEL.YOLOV4.NMS_THRESH_TEST", 0.45, within(0, 1))
    # Factors of the channels, and of the convolutions in a block, also of the backbone build_yolov7_backbone.
    key("MODEL.YOLOV7.WIDTH", 1.0, within(0.05, 4))
    key("MODEL.YOLOV7.DEPTH", 1.0, within(0.05, 4))
    # Probabilities of a mosaic of four, and of a second one over it; the range of the factor by which it is scaled.
    key("MODEL.YOLOV7.MOSAIC", 1.0, within(0, 1))
    key("MODEL.YOLOV7.MIXUP", 0.15, within(0, 1))
    key("MODEL.YOLOV7.SCALE", (0.1, 2.0), a_range(within(0.01, 100)))
    key("MODEL.YOLOV7.NMS_THRESH_TEST", 0.65, within(0, 1))
    # Whether the gain of the objectness loss falls with the area of the images, as the authors' does.
    key("MODEL.YOLOV7.OBJECTNESS_BY_AREA", True)

    # ---- SPA
    # Channels of the two convolutions before the class maps.
    key("MODEL.SPA.HIDDEN", 1024, within(1, 2**16))
    # Weight of the restricted activation, and the share of SOLVER.MAX_ITER after which it begins.
    key("MODEL.SPA.RESTRICTION_WEIGHT", 0.5, at_least(0))
    key("MODEL.SPA.RESTRICTION_START", 0.2, within(0, 1))
    # A cell is background below the first value of the variance over the classes, which is scaled to [0, 1] in each image,
    # and object above the second. What they mean for two classes, and why these: tsdd_d2/methods/spa.py. They need another
    # training, and those below do not: tools/tune_spa.py shows what these do on the validation images.
    key("MODEL.SPA.RESTRICTION_VARIANCES", (0.2, 0.4), a_range(within(0, 1)))
    # Cells of the class map, in [0, 1], up to the first value are seeds of the background, from the second on of the object.
    key("MODEL.SPA.SEEDS", (0.05, 0.1), a_range(within(0, 1)))
    # Cosines of the features of two cells count from this value on; the authors have 0.1 and 0.2, after the data set.
    key("MODEL.SPA.FIRST_ORDER_MIN", 0.1, within(0, 1))
    # The box is that of the largest part of the map, in [0, 1], from this value on; the authors have 0.1 to 0.5.
    key("MODEL.SPA.THRESHOLD", 0.3, within(0, 1))

    # ---- semi-supervised methods
    # Iterations on the labelled images alone, after which the teacher begins as a copy of the student.
    key("TEACHER.BURN_IN", 0, at_least(0))
    # A pseudo-box has a higher score.
    key("TEACHER.THRESHOLD", 0.9, within(0, 1))
    # Weight of the losses of the unlabelled images.
    key("TEACHER.UNLABELLED_WEIGHT", 1.0, at_least(0))

    # ---- candidate selection (paper III.B)
    # False: no rounds; training stays on the fully annotated images.
    key("REFINEMENT.ENABLED", True)
    # Iterations on the fully annotated images before round 1. The rounds divide what is left up to SOLVER.MAX_ITER.
    key("REFINEMENT.WARMUP_ITER", 1000, at_least(0))
    # k as rounds: "By iterating the above process for k times" (III.B).
    key("REFINEMENT.ROUNDS", 10, within(0, 1000))
    # k as boxes: "The BUS images are fed to the D-Net to predict k candidates" (Fig. 4). The paper's k = 10 is read as the
    # number of rounds; with 1 candidate C-Net accepts or rejects D-Net's best box.
    key("REFINEMENT.CANDIDATES_PER_ROUND", 1, within(0, 1000))
    # class_guided: the paper's candidate selection. pseudo_label: manual ROIs stay, the others follow D-Net (TSDDNet-B).
    # averaged: for coarse manual ROIs, their mean with D-Net's box where the two differ. In the second stage: the rule of the
    # first stage that it may go on from.
    key("REFINEMENT.RULE", "class_guided", A_NAME)
    # The weight of D-Net's box in the mean of the rule averaged; the manual ROI has the rest.
    key("REFINEMENT.WEIGHT_OF_DNET", 0.5, within(0, 1))
    # With class_guided a refined ROI must overlap the manual one at least this much (IoU); 0 is the paper.
    key("REFINEMENT.MIN_IOU_WITH_MANUAL", 0.0, within(0, 1))
    # Images in one forward pass of a round.
    key("REFINEMENT.IMS_PER_BATCH", 16, at_least(0))

    # ---- optimisation and evaluation
    # "Adam" (the paper) or "AdamW".
    key("SOLVER.OPTIMIZER", "Adam", A_NAME)
    # Factor on the learning rate of the layers that pretrained weights are for: the backbones of D-Net and of C-Net.
    key("SOLVER.BACKBONE_MULTIPLIER", 1.0, at_least(0))
    # Decay, for each iteration, of a running average of the weights, which takes the place of the trained ones in the
    # rounds, in the evaluation and in the checkpoints; 0 is the paper.
    key("SOLVER.EMA_DECAY", 0.0, from_to_below(0, 1))
    # False: an image is called malignant from probability 0.5 on. True: from the threshold with the largest Youden
    # index on the validation split on.
    key("TEST.YOUDEN_THRESHOLD", False)
    # Resamples of the patient bootstrap behind the 95% intervals of the final evaluation.
    key("TEST.BOOTSTRAP", 1000, within(0, 10**6))
