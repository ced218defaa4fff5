"""Every configuration key of ours. Departures from the paper are off by default, but for what it leaves open (the ranking
of D-Net's boxes); its hyperparameters are in configs/tsdd_stage1.yaml and tsdd_stage2.yaml."""

import os

from detectron2.config import CfgNode as CN
from detectron2.config import get_cfg

from .errors import InputError
from .plugins import load_plugins


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


# Keys that older versions had, with the value that changed nothing: a configuration of a run or in a model file may have them.
RETIRED = {
    "MODEL.CNET.DIFFERENTIABLE_CROP": False,
    "MODEL.FNET.SOFT_TARGET_WEIGHT": 0.0,
    "MODEL.FNET.TEMPERATURE": 3.0,
    "MODEL.FNET.ROI_LABEL_ITERS": 0,
}


def without_retired_keys(cfg: CN, source: str) -> CN:
    """A configuration that an older version wrote, less the keys that are gone.

    Args:
        source: names its file, in errors.
    Raises:
        InputError: a key that is gone has a value that mattered.
    """
    cfg = cfg.clone()
    for key, harmless in RETIRED.items():
        *path, name = key.split(".")
        node = cfg
        for part in path:
            node = node.get(part, CN())
        if name not in node:
            continue
        value = node.pop(name)
        if value != harmless:
            raise InputError(f"{source}: {key} {value} is an option that tsdd_d2 no longer has.")
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
    those of ``MODEL.RETINANET`` and ``MODEL.ANCHOR_GENERATOR``; what is there for classes and scores D-Net does not use.
    Our trainers draw the images themselves, without ``DATALOADER.SAMPLER_TRAIN`` and ``ASPECT_RATIO_GROUPING``, and
    ``SOLVER.AMP.ENABLED`` is autocast to bfloat16, also on the CPU.
    """
    _C = cfg

    # The method that is trained, by name in tsdd_d2/methods; "": the first one with this MODEL.META_ARCHITECTURE.
    _C.METHOD = ""

    # ---- data
    # The validation split: periodic evaluation, best checkpoint, Youden threshold. TEST is looked at only at the end.
    _C.DATASETS.VAL = ()
    # p: the share of training patients that keep their ROIs (paper IV.B); 1.0 keeps all that the files have.
    _C.DATASETS.P = 1.0
    # Seed of the draw of these patients; negative: SEED. Draws with one seed are nested (p = 0.2 is part of p = 0.4).
    _C.DATASETS.P_SEED = -1
    # The veto file that a sonologist downloaded from the page of tools/review_rois.py (datasets/README.md); "": none.
    _C.DATASETS.VETOES = ""
    # Strength of random brightness and contrast in training (0 is the paper): factors in [1 - x, 1 + x].
    _C.INPUT.INTENSITY_JITTER = 0.0
    # Random zoom and translation in training (0 is the paper): the visible part of the image is scaled by a factor in
    # [1 - ZOOM, 1 + ZOOM] and moved by up to SHIFT / 2 of its sides.
    _C.INPUT.RANDOM_ZOOM = 0.0
    _C.INPUT.RANDOM_SHIFT = 0.0

    # The training set's images stay decoded in memory (grey ones, a byte for each pixel; once for a process and its
    # loader's workers) if all of them fit into this many MB, and so do those that the rounds see in the size of
    # MIN_SIZE_TEST; 0: they are decoded every time.
    _C.DATALOADER.DECODED_IMAGES_MB = 1024

    # ---- D-Net
    _C.MODEL.DNET = CN()
    # The localiser of both stages, by its name in Detectron2's META_ARCH_REGISTRY (tsdd_d2/modeling/contract.py).
    _C.MODEL.DNET.NAME = "DNet"
    # How D-Net's boxes are ranked, by name in tsdd_d2/modeling/ranking.py: expected_iou, quality or consensus. The first
    # two train a channel that predicts a box's IoU with the ROI, by a loss of its own beside Eq. (1); consensus needs none.
    _C.MODEL.DNET.RANKING = "expected_iou"
    # D-Net sees the image averaged over this many pixels in each direction; 1 is the paper.
    _C.MODEL.DNET.INPUT_STRIDE = 1
    # alpha of Eq. (1): weight of the partially annotated images.
    _C.MODEL.DNET.ALPHA = 0.8

    # ---- C-Net
    _C.MODEL.CNET = CN()
    # ResNet depth.
    _C.MODEL.CNET.DEPTH = 18
    # Side of the square ROI crop in pixels.
    _C.MODEL.CNET.INPUT_SIZE = 224
    # The ROI is enlarged about its centre by this factor before cropping; 1.0 is the paper.
    _C.MODEL.CNET.CONTEXT = 1.0
    # Normalisation layer, by Detectron2's names: BN, FrozenBN, SyncBN, GN.
    _C.MODEL.CNET.NORM = "BN"
    # Initial weights: "torchvision://<weights>" or "" (random). MODEL.WEIGHTS takes the same for D-Net's backbone;
    # where MODEL.WEIGHTS is a checkpoint of the whole network, this key is not used.
    _C.MODEL.CNET.WEIGHTS = ""
    # beta of Eq. (3): weight of the partially annotated images.
    _C.MODEL.CNET.BETA = 0.8
    # Label smoothing of Eq. (4); 0 is the paper.
    _C.MODEL.CNET.LABEL_SMOOTHING = 0.0
    # In training each side of the ROI moves by up to this share of its length; 0 is the paper.
    _C.MODEL.CNET.ROI_JITTER = 0.0
    # With this probability the first stage trains C-Net on D-Net's best box in place of the ROI that this box overlaps, if
    # their IoU is at least 0.5: the diagnosis is of D-Net's boxes at test time. 0 is the paper.
    _C.MODEL.CNET.DNET_BOX_PROBABILITY = 0.0

    # ---- F-Net and self-distillation (paper III.C)
    _C.MODEL.FNET = CN()
    # How D-Net's feature levels are pooled for F-Net, by name in tsdd_d2/modeling/fnet.py: global (over the image) or
    # roi (over the box).
    _C.MODEL.FNET.DNET_POOLING = "roi"
    # Width of the first of F-Net's two FC layers.
    _C.MODEL.FNET.HIDDEN = 256
    # The two auxiliary classifiers, L_cls1 and L_cls2 of Eq. (5); False is TSDDNet-B (+CS) of Table II.
    _C.MODEL.FNET.SELF_DISTILLATION = True

    # ---- YOLOv4 and YOLOv7
    _C.MODEL.YOLOV4 = CN()
    # Factor of the channels of neck and head.
    _C.MODEL.YOLOV4.WIDTH = 1.0
    # Probability that a training image is a mosaic of four.
    _C.MODEL.YOLOV4.MOSAIC = 0.5
    _C.MODEL.YOLOV4.NMS_THRESH_TEST = 0.45
    _C.MODEL.YOLOV7 = CN()
    # Factors of the channels, and of the convolutions in a block, also of the backbone build_yolov7_backbone.
    _C.MODEL.YOLOV7.WIDTH = 1.0
    _C.MODEL.YOLOV7.DEPTH = 1.0
    # Probabilities of a mosaic of four, and of a second one over it; the range of the factor by which it is scaled.
    _C.MODEL.YOLOV7.MOSAIC = 1.0
    _C.MODEL.YOLOV7.MIXUP = 0.15
    _C.MODEL.YOLOV7.SCALE = (0.1, 2.0)
    _C.MODEL.YOLOV7.NMS_THRESH_TEST = 0.65

    # ---- SPA
    _C.MODEL.SPA = CN()
    # Channels of the two convolutions before the class maps.
    _C.MODEL.SPA.HIDDEN = 1024
    # Weight of the restricted activation, and the share of SOLVER.MAX_ITER after which it begins.
    _C.MODEL.SPA.RESTRICTION_WEIGHT = 0.5
    _C.MODEL.SPA.RESTRICTION_START = 0.2
    # A cell is background below the first value of the variance over the classes, which is scaled to [0, 1] in each image,
    # and object above the second.
    _C.MODEL.SPA.RESTRICTION_VARIANCES = (0.2, 0.4)
    # Cells of the class map up to the first value are seeds of the background, from the second on of the object.
    _C.MODEL.SPA.SEEDS = (0.05, 0.1)
    # The box is that of the largest part of the map, in [0, 1], from this value on.
    _C.MODEL.SPA.THRESHOLD = 0.3

    # ---- candidate selection (paper III.B)
    _C.REFINEMENT = CN()
    # False: no rounds; training stays on the fully annotated images.
    _C.REFINEMENT.ENABLED = True
    # Iterations on the fully annotated images before round 1. The rounds divide what is left up to SOLVER.MAX_ITER.
    _C.REFINEMENT.WARMUP_ITER = 1000
    # k as rounds: "By iterating the above process for k times" (III.B).
    _C.REFINEMENT.ROUNDS = 10
    # k as boxes: "The BUS images are fed to the D-Net to predict k candidates" (Fig. 4). The paper's k = 10 is read as the
    # number of rounds; with 1 candidate C-Net accepts or rejects D-Net's best box.
    _C.REFINEMENT.CANDIDATES_PER_ROUND = 1
    # class_guided: the paper's candidate selection. pseudo_label: manual ROIs stay, the others follow D-Net (TSDDNet-B).
    # In the second stage: the rule of the first stage that it may go on from.
    _C.REFINEMENT.RULE = "class_guided"
    # A refined ROI must overlap the manual one at least this much (IoU); 0 is the paper.
    _C.REFINEMENT.MIN_IOU_WITH_MANUAL = 0.0
    # Images in one forward pass of a round.
    _C.REFINEMENT.IMS_PER_BATCH = 16

    # ---- optimisation and evaluation
    # "Adam" (the paper) or "AdamW".
    _C.SOLVER.OPTIMIZER = "Adam"
    # Decay, for each iteration, of a running average of the weights, which takes the place of the trained ones in the
    # rounds, in the evaluation and in the checkpoints; 0 is the paper.
    _C.SOLVER.EMA_DECAY = 0.0
    # False: an image is called malignant from probability 0.5 on. True: from the threshold with the largest Youden
    # index on the validation split on.
    _C.TEST.YOUDEN_THRESHOLD = False
    # TEST.AUG.ENABLED, as in Detectron2's own tools: the final evaluation, and --eval-only, come also with test-time
    # augmentation ("..., TTA"), where C-Net sees the ROI with these factors on its context and, with TEST.AUG.FLIP,
    # mirrored too.
    _C.TEST.AUG.SCALES = (0.83, 1.0, 1.2)
    # Resamples of the patient bootstrap behind the 95% intervals of the final evaluation.
    _C.TEST.BOOTSTRAP = 1000
