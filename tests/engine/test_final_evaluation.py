"""What is evaluated: all images on the boxes that were found, those with a ROI with the oracle."""

import pytest

from detectron2.modeling import build_model
from tsdd_d2.data import ensure_registered
from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.engine.final_evaluation import evaluate_model


@pytest.mark.parametrize("num_rois", [3, 0])
def test_the_oracle_leaves_out_images_without_a_roi(num_rois, tiny_cfg, tiny_dataset, tmp_path):
    test_set = tiny_dataset / "annotations" / "fold1_test.json"
    bbui = read_json(test_set)
    bbui["annotations"] = bbui["annotations"][:num_rois]
    write_json(test_set, bbui)
    ensure_registered("tiny_fold1_test")

    results = evaluate_model(tiny_cfg, build_model(tiny_cfg), str(tmp_path))["tiny_fold1_test"]
    assert list(results) == ["found box", "manual ROI"][: 2 if num_rois else 1]
    found_box, *oracle = (
        read_json(tmp_path / folder / "diagnosis_tiny_fold1_test.json")
        for folder in ("found_box", "manual_roi")[: len(results)]
    )
    assert found_box["num_images"] == 8
    assert [(x["num_images"], x["num_images_without_instance"]) for x in oracle] == ([(3, 0)] if num_rois else [])
