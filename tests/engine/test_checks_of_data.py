import pytest
from PIL import Image

from detectron2.data import DatasetCatalog
from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.engine.checks import check_data
from tsdd_d2.engine.run_folder import initial_annotation
from tsdd_d2.errors import InputError, kept_warnings


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


def test_warnings_of_the_checks_are_kept_for_the_log(tiny_cfg, tiny_dataset, capsys):
    (tiny_dataset / "images" / "025.png").write_bytes((tiny_dataset / "images" / "001.png").read_bytes())
    with kept_warnings() as kept:
        check_data(tiny_cfg)
    assert any("same pixels" in x for x in kept) and "same pixels" not in capsys.readouterr().err
