import numpy as np
import pytest
import torch

from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data import transforms as T
from detectron2.data.datasets import load_coco_json
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils.visualizer import Visualizer
from tsdd_d2.data import BBUIError, load_bbui_json, register_bbui_instances
from tsdd_d2.data.files import write_json
from tsdd_d2.data.roi import is_fully_annotated

from .conftest import HEIGHT, WIDTH, annotation_entry


@pytest.fixture
def registered(bbui, root):
    write_json(root / "all.json", bbui)
    register_bbui_instances("test_bbui", root / "all.json", root)
    return "test_bbui"


# ----------------------------------------------------------------------------------------- loading


def test_loader_keeps_partially_annotated_images_and_our_fields(bbui, root):
    write_json(root / "all.json", bbui)
    first, second, third = load_bbui_json(root / "all.json", root)
    assert first["annotations"] == [
        {"iscrowd": 0, "bbox": [4.0, 5.0, 10.0, 8.0], "category_id": 0, "bbox_mode": BoxMode.XYWH_ABS}
    ]
    assert second["annotations"] == [] and second["true_bbox"] == [1.0, 2.0, 3.0, 4.0]
    assert [record["patient_id"] for record in (first, second, third)] == ["a", "a", "b"]
    assert [record["category_id"] for record in (first, second, third)] == [0, 0, 1]
    refined, locked = third["annotations"]
    assert refined["roi_source"] == "refined" and refined["manual_bbox"] == [1.0, 1.0, 12.0, 9.0]
    assert locked["locked"] is True and locked["category_id"] == 1
    assert "true_bbox" not in first


def test_refinement_does_not_change_who_is_fully_annotated(bbui, root):
    pseudo = annotation_entry(4, 2, 1, [0.0, 0.0, 5.0, 5.0], roi_source="pseudo", roi_round=1)
    bbui["annotations"].append(pseudo)
    write_json(root / "all.json", bbui)
    records = load_bbui_json(root / "all.json", root)
    assert [is_fully_annotated(record["annotations"]) for record in records] == [True, False, True]


def test_detectron2_drops_partially_annotated_images_unless_told_otherwise(registered):
    assert len(get_detection_dataset_dicts(registered, filter_empty=True)) == 2
    assert len(get_detection_dataset_dicts(registered, filter_empty=False)) == 3


def test_loader_refuses_a_broken_file(bbui, root):
    del bbui["images"][0]["patient_id"]
    write_json(root / "all.json", bbui)
    with pytest.raises(BBUIError, match=r"image 1 \(Images/1.png\): the patient is missing"):
        load_bbui_json(root / "all.json", root)


# ---------------------------------------------------------------------------------- with Detectron2


def test_load_coco_json_reads_the_file(registered):
    metadata = MetadataCatalog.get(registered)
    records = load_coco_json(metadata.json_file, metadata.image_root, registered)
    assert [len(record["annotations"]) for record in records] == [1, 0, 2]
    assert [annotation["category_id"] for annotation in records[2]["annotations"]] == [1, 1]


def test_whole_numbers_are_not_cut_down_to_whole_pixels(bbui, root):
    bbui["annotations"][0]["bbox"] = [4, 5, 10, 9]
    write_json(root / "all.json", bbui)
    mapper = DatasetMapper(True, augmentations=[T.ResizeShortestEdge(HEIGHT // 2, WIDTH)], image_format="BGR")
    mapped = mapper(load_bbui_json(root / "all.json", root)[0])
    assert mapped["instances"].gt_boxes.tensor.tolist() == [[2.0, 2.5, 7.0, 7.0]]


def test_coco_evaluator_gives_100_to_the_truth(registered, tmp_path):
    records = DatasetCatalog.get(registered)
    output_dir = str(tmp_path / "out")
    evaluator = COCOEvaluator(registered, tasks=("bbox",), distributed=False, output_dir=output_dir)
    evaluator.reset()
    for record in records:
        boxes = [BoxMode.convert(x["bbox"], x["bbox_mode"], BoxMode.XYXY_ABS) for x in record["annotations"]]
        instances = Instances((record["height"], record["width"]))
        instances.pred_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
        classes = [x["category_id"] for x in record["annotations"]]
        instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
        instances.scores = torch.ones(len(boxes))
        evaluator.process([record], [{"instances": instances}])
    results = evaluator.evaluate()["bbox"]
    assert [results[key] for key in ("AP", "AP-benign", "AP-malignant")] == pytest.approx([100] * 3)


def test_visualizer_draws_the_rois(registered):
    blank = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    drawn = []
    for record in DatasetCatalog.get(registered):
        visualizer = Visualizer(blank, MetadataCatalog.get(registered), scale=4)
        drawn.append(visualizer.draw_dataset_dict(record).get_image())
    assert [image.any() for image in drawn] == [True, False, True]


def test_registering_again_points_the_name_at_the_new_file(bbui, root, registered):
    MetadataCatalog.get(registered).thing_colors = [(0, 255, 0), (255, 0, 0)]
    bbui["annotations"] = []
    write_json(root / "round_01.json", bbui)
    register_bbui_instances(registered, root / "round_01.json", root)
    assert sum(len(record["annotations"]) for record in DatasetCatalog.get(registered)) == 0
    metadata = MetadataCatalog.get(registered)
    assert metadata.json_file == str(root / "round_01.json")
    assert metadata.thing_classes == ["benign", "malignant"]
    assert metadata.thing_dataset_id_to_contiguous_id == {1: 0, 2: 1}
    assert metadata.thing_colors == [(0, 255, 0), (255, 0, 0)]
