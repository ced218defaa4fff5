"""What is evaluated: all images on the boxes that were found, those with a ROI with the oracle."""

import os

import pytest

from detectron2.modeling import build_model
from tsdd_d2.data import ensure_registered
from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.engine import final_evaluation
from tsdd_d2.engine.checks import data_sets
from tsdd_d2.engine.final_evaluation import evaluate_model, evaluate_run


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
    cases = [x["cases"] for x in results.values()]
    assert cases[0] == {"images": 8, "with_roi": num_rois, "threshold": 0.5}
    assert cases[1:] == [{"images": 3, "with_roi": 3, "threshold": 0.5}][: len(oracle)]
    assert [(x["num_images"], x["num_images_without_instance"]) for x in oracle] == ([(3, 0)] if num_rois else [])


def test_without_a_test_set_the_validation_images_are_evaluated(tiny_cfg, tiny_dataset, tmp_path):
    ensure_registered("tiny_fold1_val")
    tiny_cfg.defrost()
    tiny_cfg.DATASETS.TEST, tiny_cfg.DATASETS.VAL = (), ("tiny_fold1_val",)
    assert data_sets(tiny_cfg, training=False) == ["tiny_fold1_val"]
    results = evaluate_model(tiny_cfg, build_model(tiny_cfg), str(tmp_path))
    assert list(results) == ["tiny_fold1_val"] and "diagnosis" in results["tiny_fold1_val"]["found box"]


def test_a_report_on_validation_images_says_so(tiny_cfg, monkeypatch):
    monkeypatch.setattr(final_evaluation, "checkpoints", lambda cfg: {})
    tiny_cfg.defrost()
    tiny_cfg.DATASETS.TEST = ()
    evaluate_run(tiny_cfg)
    with open(os.path.join(tiny_cfg.OUTPUT_DIR, "results.md")) as file:
        assert "There is no test set" in file.read()


def test_the_report_repeats_what_was_dubious(tiny_cfg, tiny_dataset, monkeypatch):
    monkeypatch.setattr(final_evaluation, "checkpoints", lambda cfg: {})
    monkeypatch.setattr(final_evaluation, "results_table", lambda results: "| a |")
    evaluate_run(tiny_cfg, ["a.png and b.png have the same pixels"] * 2)
    with open(os.path.join(tiny_cfg.OUTPUT_DIR, "results.md")) as file:
        assert file.read() == "| a |\n\n- Warning: a.png and b.png have the same pixels\n"
    evaluate_run(tiny_cfg)
    with open(os.path.join(tiny_cfg.OUTPUT_DIR, "results.md")) as file:
        assert file.read() == "| a |\n"
