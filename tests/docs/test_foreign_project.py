"""What another Detectron2 project does with this package: the page in docs/, block by block, and real images."""

import os
import re
import shutil

import numpy as np
import pytest

import tsdd_d2
from detectron2 import model_zoo
from tsdd_d2 import register_bbui_instances
from tsdd_d2.data import dataset_folder
from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.modeling import TSDDStage1

from ..conftest import ROOT, TINY_CONFIG

PAGE = os.path.join(ROOT, "docs", "foreign_project.md")


def code_blocks(path):
    with open(path, encoding="utf-8") as file:
        return re.findall(r"^```python\n(.*?)^```$", file.read(), flags=re.MULTILINE | re.DOTALL)


def small(cfg, iterations, side):
    """A configuration of the model zoo on the CPU in seconds, from random initialisation."""
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    cfg.MODEL.BACKBONE.FREEZE_AT, cfg.MODEL.RESNETS.NORM = 0, "BN"
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS, cfg.MODEL.FPN.OUT_CHANNELS = 18, 64, 32
    cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 50
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16, 32
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (side,), side
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR = 2, iterations, 0.001
    cfg.DATALOADER.NUM_WORKERS = 0
    return cfg


@pytest.fixture
def foreign_folder(tmp_path, monkeypatch, tiny_dataset):
    """The working directory of a project that has a tiny busbra/; the networks are tiny too."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copytree(tiny_dataset, folder / "busbra")
    # round 1 has something to give a ROI to
    train = folder / "busbra" / "annotations" / "fold1_train.json"
    bbui = read_json(train)
    write_json(train, {**bbui, "annotations": bbui["annotations"][::2]})
    tiny = tmp_path / "tiny.yaml"
    # a minibatch with a single ROI still has several values for batch normalisation
    tiny.write_text(f"_BASE_: {TINY_CONFIG}\nMODEL:\n  CNET:\n    INPUT_SIZE: 64\n")
    monkeypatch.setattr(tsdd_d2, "config_file", {"tsdd_stage1_cpu.yaml": str(tiny)}.get)
    monkeypatch.chdir(folder)
    get_config = model_zoo.get_config
    monkeypatch.setattr(model_zoo, "get_config", lambda *arguments: small(get_config(*arguments), 2, 64))
    return folder


def test_every_block_of_the_page_runs(foreign_folder, capsys, monkeypatch):
    pytest.importorskip("supervision", reason="the extra [test] is not installed")
    losses, rois_of_images = TSDDStage1.training_losses, []

    def count(self, batched_inputs):
        rois_of_images.extend(len(x["instances"]) for x in batched_inputs)
        return losses(self, batched_inputs)

    monkeypatch.setattr(TSDDStage1, "training_losses", count)
    namespace = {"__name__": "foreign_project"}
    blocks = code_blocks(PAGE)
    assert len(blocks) == 4
    for number, block in enumerate(blocks, start=1):
        exec(compile(block, f"{PAGE}, block {number}", "exec"), namespace)
    assert np.isfinite(namespace["results"]["diagnosis"]["AUC"])
    assert os.path.isfile("output/diagnosis_lesions_test.json")
    assert namespace["bank"].rounds() == [0, 1, 2]
    # 10 minibatches of 4; an image without a ROI would be learned as background
    assert rois_of_images == [1] * 40


def test_annotation_tools_read_the_refined_rois(foreign_folder):
    """supervision and pycocotools see the images and boxes of a file with pseudo and refined ROIs."""
    supervision = pytest.importorskip("supervision", reason="the extra [test] is not installed")
    from pycocotools.coco import COCO

    path = foreign_folder / "round_01.json"
    bbui = read_json(foreign_folder / "busbra" / "annotations" / "fold1_train.json")
    first, second = bbui["annotations"][:2]
    first.update(roi_source="refined", roi_round=1, roi_score=0.9, manual_bbox=first["bbox"], bbox=[5, 6, 20, 30])
    second.update(roi_source="pseudo", roi_round=1, roi_score=0.8)
    write_json(path, bbui)

    dataset = supervision.DetectionDataset.from_coco(images_directory_path="busbra", annotations_path=str(path))
    assert len(dataset) == len(bbui["images"]) and dataset.classes == ["benign", "malignant"]
    boxes = {os.path.relpath(name, "busbra"): detections.xyxy for name, _, detections in dataset}
    names = {image["id"]: image["file_name"] for image in bbui["images"]}
    assert boxes[names[first["image_id"]]].tolist() == [[5, 6, 25, 36]]
    assert sum(len(x) for x in boxes.values()) == len(bbui["annotations"])

    coco = COCO(str(path))
    (annotation,) = coco.loadAnns(coco.getAnnIds(imgIds=first["image_id"]))
    assert annotation["bbox"] == [5, 6, 20, 30] and len(coco.getAnnIds()) == len(bbui["annotations"])


def test_detectron2s_own_trainer_learns_from_busbra(tmp_path):
    """A split of BUS-BRA through register_bbui_instances alone, with Faster R-CNN of the model zoo."""
    from detectron2.engine import DefaultTrainer

    root = dataset_folder("busbra")
    json_file = os.path.join(root, "annotations", "fold1_val.json")
    if not os.path.isfile(json_file):
        pytest.skip("$DETECTRON2_DATASETS has no busbra/annotations/fold1_val.json")
    register_bbui_instances("foreign_busbra", json_file, root)
    cfg = small(model_zoo.get_config("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"), 3, 96)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("foreign_busbra",), ()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.OUTPUT_DIR = 2, str(tmp_path)
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert trainer.iter == 3 and np.isfinite(trainer.storage.latest()["total_loss"][0])
