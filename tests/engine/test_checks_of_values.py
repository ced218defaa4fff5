import pytest

from tsdd_d2.engine.checks import check_config
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.errors import BBUIError, InputError

# Values of the key's own type; each was trained with to the end, or ended in a traceback after the folder was begun.
WRONG_VALUES = {
    "DATASETS.P": (1.5, -0.1, float("nan")),
    "DATASETS.TRAIN": ((("a",),), (3,), ()),
    "DATASETS.VAL": (("a", "b"), (None,)),
    "DATALOADER.NUM_WORKERS": (-1, 10**6),
    "INPUT.FORMAT": ("nope", "P", ""),
    "INPUT.INTENSITY_JITTER": (-0.1, 1.5),
    "INPUT.MAX_SIZE_TEST": (0,),
    "INPUT.MIN_SIZE_TEST": (-1, 30000),
    "INPUT.MIN_SIZE_TRAIN": ((), ("64",), (64.5, -3), (float("inf"),)),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("some", "range"),
    "INPUT.RANDOM_FLIP": ("both",),
    "INPUT.RANDOM_SHIFT": (-1.0, 2.0),
    "INPUT.RANDOM_ZOOM": (-1.0, 1.0),
    "MODEL.ANCHOR_GENERATOR.SIZES": ([], [[]], [[0]], [32]),
    "MODEL.CNET.BETA": (-1.0, float("inf")),
    "MODEL.CNET.CONTEXT": (-1.0, 0.0),
    "MODEL.CNET.DEPTH": (20, 0),
    "MODEL.CNET.DNET_BOX_PROBABILITY": (1.1,),
    "MODEL.CNET.INPUT_SIZE": (0, -5, 10**6),
    "MODEL.CNET.LABEL_SMOOTHING": (2.0, -0.1),
    "MODEL.CNET.NORM": ("batch",),
    "MODEL.CNET.ROI_JITTER": (-1.0, 1.0),
    "MODEL.DEVICE": ("abacus", "", "meta"),
    "MODEL.DNET.ALPHA": (-1.0, float("nan")),
    "MODEL.DNET.INPUT_STRIDE": (0, -1),
    "MODEL.FNET.HIDDEN": (0,),
    "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": ("nope",),
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": (0, -1),
    "MODEL.RPN.POST_NMS_TOPK_TEST": (0,),
    "MODEL.SPA.SEEDS": ((0.5, 0.1), (0.1,)),
    "MODEL.YOLOV7.SCALE": ((2.0, 0.1), (1e9, 1e9)),
    "MODEL.PIXEL_MEAN": ([], [1.0, 2.0, "3"]),
    "MODEL.PIXEL_STD": ([1.0, 0.0, 1.0],),
    "REFINEMENT.CANDIDATES_PER_ROUND": (0, -1),
    "REFINEMENT.IMS_PER_BATCH": (0,),
    "REFINEMENT.MIN_IOU_WITH_MANUAL": (70.0, -1.0, float("nan")),
    "REFINEMENT.ROUNDS": (0, -1),
    "REFINEMENT.WARMUP_ITER": (-1, 10**6),
    "SEED": (-1, 2**32, 10**400),
    "SOLVER.BASE_LR": (0.0, -1.0, float("inf")),
    "SOLVER.CHECKPOINT_PERIOD": (0,),
    "SOLVER.EMA_DECAY": (1.0, -0.1),
    "SOLVER.IMS_PER_BATCH": (0, -4),
    "SOLVER.LR_SCHEDULER_NAME": ("nope",),
    "SOLVER.MAX_ITER": (0,),
    "SOLVER.STEPS": ((5, 3), (-1,), ("5",)),
    "SOLVER.WARMUP_METHOD": ("nope",),
    "SOLVER.WEIGHT_DECAY": (-0.1,),
    "TEST.BOOTSTRAP": (-1,),
    "TEST.EVAL_PERIOD": (-1,),
}


@pytest.mark.parametrize("key", WRONG_VALUES)
def test_a_value_that_cannot_be_is_refused_with_its_key(tiny_cfg, key):
    *sections, name = key.split(".")
    for value in WRONG_VALUES[key]:
        cfg = tiny_cfg.clone()
        node = cfg
        for section in sections:
            node = node[section]
        node[name] = value
        with pytest.raises(InputError, match=key.replace(".", r"\.")):
            check_config(cfg)


def test_all_problems_of_a_configuration_in_one_message(tiny_cfg):
    tiny_cfg.DATASETS.P, tiny_cfg.SEED, tiny_cfg.REFINEMENT.ROUNDS = 1.5, -1, 0
    tiny_cfg.MODEL.DNET.RANKING = "objectness"
    tiny_cfg.TEST.YOUDEN_THRESHOLD, tiny_cfg.DATASETS.VAL = True, ()
    with pytest.raises(BBUIError) as error:
        check_config(tiny_cfg)
    for key in ("DATASETS.P", "SEED", "ROUNDS", "RANKING", "YOUDEN_THRESHOLD"):
        assert key in str(error.value)


@pytest.mark.parametrize("one, other", [("VAL", "TEST"), ("TRAIN", "VAL"), ("TRAIN", "TEST")])
def test_no_data_set_has_two_parts(tiny_cfg, one, other):
    """As it would have been found in two data sets that share patients."""
    tiny_cfg.DATASETS[other] = tiny_cfg.DATASETS[one]
    check_config(tiny_cfg, training=False)
    name = tiny_cfg.DATASETS[one][0]
    with pytest.raises(InputError, match=rf"{name} stands in DATASETS\.{one} and DATASETS\.{other}"):
        check_config(tiny_cfg)


def test_one_image_on_one_pixel_is_no_statistics(tiny_cfg):
    """C-Net's last layer has one pixel for an input of 32."""
    tiny_cfg.SOLVER.IMS_PER_BATCH = 2
    check_config(tiny_cfg)
    with pytest.raises(InputError, match=r"SOLVER\.IMS_PER_BATCH .*MODEL\.CNET\.NORM"):
        check_config(tiny_cfg, num_processes=2)
    tiny_cfg.MODEL.CNET.INPUT_SIZE = 64
    check_config(tiny_cfg, num_processes=2)


def test_every_process_gets_as_many_images_of_a_minibatch(tiny_cfg):
    check_config(tiny_cfg, num_processes=2)
    with pytest.raises(InputError, match=r"SOLVER\.IMS_PER_BATCH must be a multiple .*\(3\), not 4"):
        check_config(tiny_cfg, num_processes=3)


@pytest.mark.parametrize("method, unit", [("unbiased_teacher", 2), ("stac", 2), ("soft_teacher", 5)])
def test_every_process_gets_as_many_images_of_a_minibatch_of_each_kind(method, unit):
    check_config(load_config(method=method, opts=["SOLVER.IMS_PER_BATCH", str(3 * unit)]), num_processes=3)
    cfg = load_config(method=method, opts=["SOLVER.IMS_PER_BATCH", str(3 * unit + 3)])
    with pytest.raises(InputError, match=rf"SOLVER\.IMS_PER_BATCH .*\(3\) times {unit}"):
        check_config(cfg, num_processes=3)
    check_config(cfg, training=False)


@pytest.mark.parametrize(
    "key, names",
    [
        ("SOLVER.OPTIMIZER", "Adam, AdamW"),
        ("MODEL.META_ARCHITECTURE", "CNetOnImage, CNetOnROI, Diagnosing"),
        ("MODEL.DNET.RANKING", "quality, expected_iou, consensus"),
        ("MODEL.FNET.DNET_POOLING", "global, roi"),
        ("REFINEMENT.RULE", "class_guided, pseudo_label"),
    ],
)
def test_an_unknown_name_is_told_the_known_ones(tiny_cfg, key, names):
    tiny_cfg.merge_from_list([key, "Nobody"])
    with pytest.raises(InputError, match=rf"{key} must be one of {names}.* not Nobody"):
        check_config(tiny_cfg)


def test_no_rounds_are_needed_without_refinement(tiny_cfg):
    tiny_cfg.REFINEMENT.ENABLED, tiny_cfg.REFINEMENT.ROUNDS = False, 0
    check_config(tiny_cfg)
