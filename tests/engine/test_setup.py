import os

import pytest
from PIL import Image
from torch import nn

from detectron2.data import DatasetCatalog
from tsdd_d2.data import ensure_registered
from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.engine import TSDDCheckpointer
from tsdd_d2.engine.run_folder import RunRecord, initial_annotation
from tsdd_d2.engine.setup import (
    check_config,
    check_data,
    check_network,
    check_output_dir,
    check_smallest_images,
    kept_warnings,
    load_config,
)
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
    "key, value, check",
    [
        ("MODEL.CNET.DEPTH", 20, check_config),
        ("MODEL.RESNETS.DEPTH", 20, check_network),  # a KeyError in Detectron2
        ("MODEL.RESNETS.RES2_OUT_CHANNELS", 256, check_network),  # an AssertionError
        ("MODEL.CNET.NORM", "batch", check_network),
    ],
)
def test_a_network_that_cannot_be_built_names_the_key(tiny_cfg, key, value, check):
    tiny_cfg.merge_from_list([key, value])
    with pytest.raises(InputError, match=key):
        check(tiny_cfg)


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


def test_detectron2s_test_time_augmentation_is_refused(tiny_cfg):
    tiny_cfg.TEST.AUG.ENABLED = True
    with pytest.raises(InputError, match=r"TEST\.AUG\.ENABLED"):
        check_network(tiny_cfg)


def test_no_rounds_are_needed_without_refinement(tiny_cfg):
    tiny_cfg.REFINEMENT.ENABLED, tiny_cfg.REFINEMENT.ROUNDS = False, 0
    check_config(tiny_cfg)


@pytest.mark.parametrize("name", sorted(os.listdir(os.path.join(os.path.dirname(__file__), "../../configs"))))
def test_every_shipped_configuration_is_valid(name):
    if not name.startswith("Base-"):
        check_config(load_config(os.path.join(os.path.dirname(__file__), "../../configs", name)))


@pytest.mark.parametrize(
    "stage, learning_rate, minibatch, weight_of_pa, has_rounds",
    [("tsdd_stage1", 1e-4, 8, 0.8, True), ("tsdd_stage2", 1e-5, 16, 1.0, False)],
)
def test_the_papers_values_are_in_the_papers_configuration(stage, learning_rate, minibatch, weight_of_pa, has_rounds):
    cfg = load_config(os.path.join(os.path.dirname(__file__), f"../../configs/{stage}.yaml"))
    assert (cfg.SOLVER.OPTIMIZER, cfg.SOLVER.BASE_LR, cfg.SOLVER.IMS_PER_BATCH) == ("Adam", learning_rate, minibatch)
    assert (cfg.MODEL.DNET.ALPHA, cfg.MODEL.CNET.BETA) == (weight_of_pa, weight_of_pa)
    assert (cfg.REFINEMENT.ENABLED, cfg.REFINEMENT.ROUNDS) == (has_rounds, 10)
    # "the standard smooth L1 loss"
    assert cfg.MODEL.RETINANET.SMOOTH_L1_LOSS_BETA == 1.0
    assert (cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.CNET.DEPTH, cfg.MODEL.CNET.INPUT_SIZE) == (34, 18, 224)
    assert (cfg.MODEL.CNET.CONTEXT, cfg.MODEL.CNET.ROI_JITTER, cfg.MODEL.DNET.INPUT_STRIDE) == (1.0, 0.0, 1)


def test_all_patients_have_no_test_set():
    cfg = load_config(method="tsddnet", data="clinic", fold="all")
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.VAL, cfg.DATASETS.TEST) == (("clinic_all_train",), ("clinic_all_val",), ())
    assert cfg.OUTPUT_DIR == os.path.join("output", "tsddnet_clinic_all")


def test_the_first_fold_is_the_default():
    assert load_config(data="clinic").DATASETS.TRAIN == ("clinic_fold1_train",)


def test_without_cuda_the_cpu_takes_over_with_a_warning(monkeypatch, caplog):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    cfg = load_config("", ["MODEL.DEVICE", "cuda:1"])
    assert cfg.MODEL.DEVICE == "cpu" and "MODEL.DEVICE is cpu instead of cuda:1" in caplog.text


def test_yaml_is_read_by_the_safe_loader(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text(f"OUTPUT_DIR: !!python/object/apply:os.mkdir ['{tmp_path}/executed']\n")
    with pytest.raises(InputError):
        load_config(str(path))
    assert not (tmp_path / "executed").exists()


def test_no_roi_to_start_from(tiny_cfg, tiny_dataset):
    path = tiny_dataset / "annotations" / "fold1_train.json"
    bbui = read_json(path)
    pseudo = [{**annotation, "roi_source": "pseudo"} for annotation in bbui["annotations"]]
    for annotations in ([], pseudo):
        write_json(path, {**bbui, "annotations": annotations})
        with pytest.raises(InputError, match=r"fold1_train\.json: no image keeps a ROI .* has 0 ROIs, pseudo"):
            check_data(tiny_cfg)


@pytest.mark.parametrize("split, key", [("train", "MAX_SIZE_TRAIN"), ("train", "MAX_SIZE_TEST"), ("test", "MAX_SIZE_TEST")])
def test_an_image_too_narrow_to_be_resized(tiny_cfg, tiny_dataset, split, key):
    path = tiny_dataset / "annotations" / f"fold1_{split}.json"
    bbui = read_json(path)
    image = bbui["images"][0]
    Image.new("L", (8000, 1)).save(tiny_dataset / image["file_name"])
    image.update(width=8000, height=1)
    bbui["annotations"] = [x for x in bbui["annotations"] if x["image_id"] != image["id"]]
    write_json(path, bbui)
    tiny_cfg.INPUT.MAX_SIZE_TRAIN = tiny_cfg.INPUT.MAX_SIZE_TEST = 4000  # half a pixel is rounded up
    check_data(tiny_cfg)
    tiny_cfg.INPUT[key] = 3999
    with pytest.raises(InputError, match=rf"fold1_{split}\.json: image \d+ \({image['file_name']}\) of 8000x1 pixels"):
        check_data(tiny_cfg)


def keep_benign(path, keys=("images", "annotations")):
    bbui = read_json(path)
    for key in keys:
        bbui[key] = [x for x in bbui[key] if x["category_id"] == 1]
    write_json(path, bbui)


def test_a_training_set_needs_both_classes(tiny_cfg, tiny_dataset):
    keep_benign(tiny_dataset / "annotations" / "fold1_train.json")
    with pytest.raises(InputError, match=r"fold1_train\.json: all images are of one class"):
        check_data(tiny_cfg)
    check_data(tiny_cfg, training=False)


def test_rois_of_one_class_alone_are_a_warning(tiny_cfg, tiny_dataset, caplog):
    keep_benign(tiny_dataset / "annotations" / "fold1_train.json", keys=["annotations"])
    check_data(tiny_cfg)
    assert "All images with ROIs are of one class" in caplog.text


def test_a_validation_set_of_one_class_is_a_warning(tiny_cfg, tiny_dataset, caplog):
    check_data(tiny_cfg)
    assert "model_best.pth" not in caplog.text
    keep_benign(tiny_dataset / "annotations" / "fold1_val.json")
    check_data(tiny_cfg)
    assert "fold1_val.json: all images are of one class" in caplog.text and "no model_best.pth" in caplog.text


def test_a_youden_threshold_needs_both_classes(tiny_cfg, tiny_dataset):
    tiny_cfg.TEST.YOUDEN_THRESHOLD = True
    check_data(tiny_cfg)
    keep_benign(tiny_dataset / "annotations" / "fold1_val.json")
    for training in (True, False):
        with pytest.raises(InputError, match=r"fold1_val\.json: all images are of one class.*YOUDEN_THRESHOLD"):
            check_data(tiny_cfg, training)
    tiny_cfg.TEST.YOUDEN_THRESHOLD = False
    check_data(tiny_cfg)


def test_evaluation_reads_the_validation_set_for_the_threshold_alone(tiny_cfg, tiny_dataset):
    (tiny_dataset / "annotations" / "fold1_val.json").unlink()
    check_data(tiny_cfg, training=False)
    tiny_cfg.TEST.YOUDEN_THRESHOLD = True
    with pytest.raises(InputError, match="tiny_fold1_val"):
        check_data(tiny_cfg, training=False)


def test_a_data_set_of_detectron2s_usual_kind_is_told_how_to_register(tiny_cfg, tiny_dataset):
    DatasetCatalog.register("clinic", list)
    tiny_cfg.DATASETS.TEST = ("clinic",)
    with pytest.raises(InputError, match="'clinic' is registered without 'json_file'.*register_bbui_instances"):
        check_data(tiny_cfg)


def test_all_problems_of_all_splits_in_one_message(tiny_cfg, tiny_dataset):
    (tiny_dataset / "images" / "001.png").write_bytes(b"no image")
    (tiny_dataset / "images" / "025.png").unlink()
    with pytest.raises(ValueError) as error:
        check_data(tiny_cfg)
    assert "001.png" in str(error.value) and "025.png" in str(error.value)


def test_vetoes_are_checked_with_the_data_and_hold_for_every_share_of_rois(tiny_cfg, tiny_dataset, tmp_path):
    entry = {"image_id": 3, "file_name": "images/003.png", "annotation_id": 3, "roi_source": "refined"}
    path = tmp_path / "vetoes.json"
    tiny_cfg.DATASETS.VETOES, tiny_cfg.DATASETS.P = str(path), 1.0
    with pytest.raises(InputError, match=r"vetoes\.json does not exist"):
        check_data(tiny_cfg)
    write_json(path, {"data_set": "tiny_fold1_train", "run": "r", "vetoes": [{**entry, "annotation_id": 4}]})
    with pytest.raises(InputError, match=r"vetoes\.json: 1 of them.*\n.*annotation 4"):
        check_data(tiny_cfg)
    write_json(path, {"data_set": "tiny_fold1_train", "run": "r", "vetoes": [entry]})
    check_data(tiny_cfg)
    assert [a["id"] for a in initial_annotation(tiny_cfg)["annotations"] if a.get("locked")] == [3]
    tiny_cfg.DATASETS.P = 0.3  # whether its patient keeps the ROI or not
    check_data(tiny_cfg)


@pytest.mark.parametrize("training", [True, False])
def test_an_output_dir_that_cannot_be_made_is_named(tiny_cfg, tmp_path, training):
    (tmp_path / "file").write_text("")
    tiny_cfg.OUTPUT_DIR = str(tmp_path / "file" / "run")
    with pytest.raises(InputError, match="file/run"):
        check_output_dir(tiny_cfg, resume=False, overwrite=False, training=training)
    tiny_cfg.OUTPUT_DIR = str(tmp_path / "a" / "b")
    check_output_dir(tiny_cfg, resume=False, overwrite=False, training=training)
    assert os.listdir(tmp_path) == ["file"]


def test_warnings_of_the_checks_are_kept_for_the_log(tiny_cfg, tiny_dataset, capsys):
    (tiny_dataset / "images" / "025.png").write_bytes((tiny_dataset / "images" / "001.png").read_bytes())
    with kept_warnings() as kept:
        check_data(tiny_cfg)
    assert any("same pixels" in x for x in kept) and "same pixels" not in capsys.readouterr().err


def test_output_dir_of_another_run(tiny_cfg, tmp_path):
    os.makedirs(tiny_cfg.OUTPUT_DIR)
    check_output_dir(tiny_cfg, resume=False, overwrite=False)  # empty
    with open(os.path.join(tiny_cfg.OUTPUT_DIR, "config.yaml"), "w") as file:
        file.write(tiny_cfg.dump())
    with pytest.raises(InputError, match="--resume"):
        check_output_dir(tiny_cfg, resume=False, overwrite=False)
    check_output_dir(tiny_cfg, resume=True, overwrite=False)
    tiny_cfg.SOLVER.BASE_LR = 0.5
    with pytest.raises(InputError, match=r"SOLVER\.BASE_LR: 0\.001 there, 0\.5 now"):
        check_output_dir(tiny_cfg, resume=False, overwrite=False)
    check_output_dir(tiny_cfg, resume=False, overwrite=True)


@pytest.fixture
def run_to_resume(tiny_cfg, tiny_dataset, tmp_path):
    """The configuration of a run that has begun, with an empty veto file."""
    path = tmp_path / "vetoes.json"
    write_json(path, {"data_set": "tiny_fold1_train", "run": "r", "vetoes": []})
    tiny_cfg.DATASETS.VETOES = str(path)
    ensure_registered("tiny_fold1_train")
    os.makedirs(tiny_cfg.OUTPUT_DIR)
    with open(os.path.join(tiny_cfg.OUTPUT_DIR, "config.yaml"), "w") as file:
        file.write(tiny_cfg.dump())
    RunRecord.of(tiny_cfg).write(tiny_cfg.OUTPUT_DIR)
    return tiny_cfg


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("DATASETS.P", 1.0, r"DATASETS\.P: 0\.5 there, 1\.0 now"),
        ("DATASETS.P_SEED", 3, r"DATASETS\.P_SEED: -1 there, 3 now"),
        ("DATASETS.TRAIN", ("tiny_fold1_val",), r"DATASETS\.TRAIN"),
        ("DATASETS.VETOES", "", r"DATASETS\.VETOES: .*vetoes\.json there, '' now"),
        ("SEED", 1, "SEED: 0 there, 1 now"),
        ("MODEL.META_ARCHITECTURE", "TSDDStage2", "TSDDStage1 there, TSDDStage2 now"),
        ("REFINEMENT.RULE", "pseudo_label", r"REFINEMENT\.RULE"),
        ("REFINEMENT.IMS_PER_BATCH", 2, None),
        ("SOLVER.MAX_ITER", 20, r"SOLVER\.MAX_ITER: 10 there, 20 now"),
        ("SOLVER.BASE_LR", 0.1, None),
    ],
)
def test_a_run_is_not_resumed_to_other_rois(run_to_resume, key, value, message):
    run_to_resume.merge_from_list([key, value])
    check_output_dir(run_to_resume, resume=True, overwrite=False, training=False)
    if message is None:
        check_output_dir(run_to_resume, resume=True, overwrite=False)
        return
    with pytest.raises(InputError, match=rf"(?s)--resume: .*{message}.*--overwrite"):
        check_output_dir(run_to_resume, resume=True, overwrite=False)


@pytest.mark.parametrize("kind", ["annotation", "veto"])
def test_a_run_is_not_resumed_on_a_file_that_has_changed(run_to_resume, tiny_dataset, kind):
    check_output_dir(run_to_resume, resume=True, overwrite=False)
    annotation = tiny_dataset / "annotations" / "fold1_train.json"
    path = {"annotation": annotation, "veto": run_to_resume.DATASETS.VETOES}[kind]
    write_json(path, {**read_json(path), "info": {}})
    check_output_dir(run_to_resume, resume=True, overwrite=False, training=False)
    with pytest.raises(InputError, match=rf"SHA-256 of the {kind} file .*\.json: \w+ there, \w+ now"):
        check_output_dir(run_to_resume, resume=True, overwrite=False)


def test_a_run_killed_while_its_configuration_was_written_is_resumed(run_to_resume):
    """Detectron2 writes config.yaml in place."""
    path = os.path.join(run_to_resume.OUTPUT_DIR, "config.yaml")
    open(path, "w").close()
    check_output_dir(run_to_resume, resume=True, overwrite=False)
    with open(path, "w") as file:
        file.write("MODEL: [")
    with pytest.raises(InputError, match=r"config\.yaml"):
        check_output_dir(run_to_resume, resume=True, overwrite=False)


def test_a_run_of_an_older_version_is_resumed(run_to_resume):
    """Its record has no checksum of the vetoes, and its configuration lacks a key."""
    path = os.path.join(run_to_resume.OUTPUT_DIR, "run.json")
    record = read_json(path)
    del record["vetoes_sha256"]
    write_json(path, record)
    old = run_to_resume.clone()
    del old.REFINEMENT["RULE"]
    with open(os.path.join(run_to_resume.OUTPUT_DIR, "config.yaml"), "w") as file:
        file.write(old.dump())
    check_output_dir(run_to_resume, resume=True, overwrite=False)


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
