import json
from collections import OrderedDict

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluators, print_csv_format
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from tsdd_d2.evaluation import DiagnosisEvaluator, load_youden_threshold
from tsdd_d2.evaluation.diagnosis import MALIGNANCY_WITHOUT_INSTANCE

DATASET = "tsdd_test_diagnosis"

# (patient, class, malignancy of the instances)
CASES = [
    ("a", 1, [0.9, 0.1]),
    ("a", 1, [0.4]),
    ("b", 0, [0.3, 0.8]),
    ("c", 0, [0.7]),
    ("d", 1, [0.6]),
    ("e", 0, []),
    ("f", 0, [0.2]),
]
LABELS = [label for _, label, _ in CASES]
PROBABILITIES = [malignancy[0] if malignancy else 0.5 for _, _, malignancy in CASES]


@pytest.fixture
def image_root(tmp_path):
    MetadataCatalog.get(DATASET).image_root = str(tmp_path)
    yield tmp_path
    MetadataCatalog.remove(DATASET)


def model_io(index, image_root="", cases=CASES):
    """The input and output of one image; the boxes are 1 pixel further right for each instance."""
    patient, label, malignancy = cases[index]
    instances = Instances((60, 80))
    number = len(malignancy)
    instances.pred_boxes = Boxes(torch.tensor([[10.0 + i, 20, 40, 50] for i in range(number)]).reshape(-1, 4))
    instances.scores = torch.linspace(0.9, 0.5, number)
    instances.pred_classes = torch.tensor(malignancy).ge(0.5).long()
    instances.malignancy = torch.tensor(malignancy, dtype=torch.float64)
    file_name = f"{image_root}/Images/{index}.png"
    input_ = {"image_id": index, "file_name": file_name, "patient_id": patient, "category_id": label}
    return input_, {"instances": instances}


def run(evaluator, indices=range(len(CASES)), image_root="", cases=CASES):
    evaluator.reset()
    for index in indices:
        input_, output = model_io(index, image_root, cases)
        evaluator.process([input_], [output])
    return evaluator.evaluate()


def test_image_metrics_equal_sklearn():
    results = run(DiagnosisEvaluator(DATASET, bootstrap=0))["diagnosis"]
    called = np.array(PROBABILITIES) >= 0.5
    sensitivity = sklearn_metrics.recall_score(LABELS, called)
    specificity = sklearn_metrics.recall_score(LABELS, called, pos_label=0)
    assert results == pytest.approx(
        {
            "AUC": sklearn_metrics.roc_auc_score(LABELS, PROBABILITIES),
            "accuracy": sklearn_metrics.accuracy_score(LABELS, called),
            "sensitivity": sensitivity,
            "specificity": specificity,
            "youden_index": sensitivity + specificity - 1,
        }
    )


def test_patient_metrics_by_hand():
    results = run(DiagnosisEvaluator(DATASET, bootstrap=0))["diagnosis_patient"]
    # malignant: a 0.65, d 0.6; benign: b 0.3, c 0.7, e 0.5 (nothing found), f 0.2
    expected = {"AUC": 6 / 8, "accuracy": 4 / 6, "sensitivity": 1, "specificity": 0.5, "youden_index": 0.5}
    assert results == pytest.approx(expected)


def test_threshold():
    results = run(DiagnosisEvaluator(DATASET, threshold=0.65, bootstrap=0))["diagnosis"]
    assert (results["sensitivity"], results["specificity"]) == pytest.approx((1 / 3, 3 / 4))


def test_results_are_flat_floats_with_intervals_that_detectron2_prints():
    results = DatasetEvaluators([DiagnosisEvaluator(DATASET, bootstrap=100)])
    results = run(results)
    print_csv_format(results)
    flat = flatten_results_dict(results)
    assert len(flat) == 2 * 5 * 3
    assert all(type(value) is float for value in flat.values())
    for task in ("diagnosis", "diagnosis_patient"):
        for name in ("AUC", "accuracy", "sensitivity", "specificity", "youden_index"):
            assert flat[f"{task}/{name}_low"] <= flat[f"{task}/{name}"] <= flat[f"{task}/{name}_high"]
    assert flatten_results_dict(run(DiagnosisEvaluator(DATASET, bootstrap=100))) == pytest.approx(flat)


def test_report(tmp_path, image_root):
    output_dir = tmp_path / "inference"
    results = run(DiagnosisEvaluator(DATASET, str(output_dir), bootstrap=50), image_root=image_root)
    report = json.loads((output_dir / f"diagnosis_{DATASET}.json").read_text())
    assert [path.name for path in output_dir.iterdir()] == [f"diagnosis_{DATASET}.json"]
    assert (report["num_images"], report["num_patients"], report["num_images_without_instance"]) == (7, 6, 1)
    assert report["image"]["metrics"]["AUC"]["value"] == results["diagnosis"]["AUC"]
    assert report["patient"]["metrics"]["AUC"]["high"] == results["diagnosis_patient"]["AUC_high"]
    roc = report["image"]["roc"]
    assert sklearn_metrics.auc(roc["fpr"], roc["tpr"]) == pytest.approx(results["diagnosis"]["AUC"])
    assert roc["thresholds"][0] is None  # infinity is not JSON
    first, found_nothing = report["predictions"][0], report["predictions"][5]
    assert first == {
        "image_id": 0,
        "file_name": "Images/0.png",
        "patient_id": "a",
        "label": 1,
        "malignancy": 0.9,
        "box": [10, 20, 40, 50],
        "score": pytest.approx(0.9),
    }
    assert found_nothing["malignancy"] == MALIGNANCY_WITHOUT_INSTANCE
    assert found_nothing["box"] is None and found_nothing["score"] is None


def test_youden_threshold_of_a_validation_set(tmp_path):
    run(DiagnosisEvaluator("validation", str(tmp_path), bootstrap=0))
    threshold = load_youden_threshold(str(tmp_path / "diagnosis_validation.json"))
    # from 0.9 on: 1/3 + 1 - 1; from 0.6 on: 2/3 + 3/4 - 1 = 0.42; from 0.4 on: 1 + 2/4 - 1 = 0.5
    assert threshold == 0.4
    results = run(DiagnosisEvaluator(DATASET, threshold=threshold, bootstrap=0))
    assert results["diagnosis"]["youden_index"] == pytest.approx(0.5)


def test_no_youden_threshold_in_the_file(tmp_path):
    run(DiagnosisEvaluator("one_class", str(tmp_path), bootstrap=0), indices=[0, 1])
    for path in (tmp_path / "diagnosis_one_class.json", tmp_path / "other.json"):
        if not path.exists():
            path.write_text("[]")
        with pytest.raises(ValueError, match=f"{path.name} holds no 'youden_threshold'"):
            load_youden_threshold(str(path))


def test_one_class(tmp_path):
    results = run(DiagnosisEvaluator(DATASET, str(tmp_path), bootstrap=20), indices=[0, 1, 4])["diagnosis"]
    assert np.isnan([results["AUC"], results["specificity"], results["AUC_low"]]).all()
    assert results["sensitivity"] == pytest.approx(2 / 3)
    text = (tmp_path / f"diagnosis_{DATASET}.json").read_text()
    assert "NaN" not in text and json.loads(text)["image"]["metrics"]["AUC"]["value"] is None


def test_nothing_found_anywhere():
    cases = [("a", 1, []), ("b", 0, [])]
    results = run(DiagnosisEvaluator(DATASET, bootstrap=0), indices=[0, 1], cases=cases)["diagnosis"]
    assert results["AUC"] == 0.5 and results["youden_index"] == 0


def test_nothing_processed(tmp_path):
    assert run(DiagnosisEvaluator(DATASET, str(tmp_path)), indices=[]) == OrderedDict()
    assert list(tmp_path.iterdir()) == []


def test_ranks_are_merged_and_padding_removed(monkeypatch):
    expected = run(DiagnosisEvaluator(DATASET, bootstrap=50))
    other = DiagnosisEvaluator(DATASET)
    run(other, indices=[5, 3, 1, 0])  # image 0 is the padding of this rank's shard
    monkeypatch.setattr(comm, "gather", lambda records, dst: [records, other._predictions])
    assert run(DiagnosisEvaluator(DATASET, bootstrap=50), indices=[6, 4, 2, 0]) == expected


def test_other_ranks_return_nothing_and_write_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(comm, "gather", lambda records, dst: [])
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert run(DiagnosisEvaluator(DATASET, str(tmp_path))) == {}
    assert list(tmp_path.iterdir()) == []


def test_reset_forgets():
    evaluator = DiagnosisEvaluator(DATASET, bootstrap=0)
    run(evaluator, indices=[0, 2, 5])
    assert run(evaluator) == run(DiagnosisEvaluator(DATASET, bootstrap=0))


def test_file_name_without_image_root(tmp_path):
    run(DiagnosisEvaluator("no_root", str(tmp_path), bootstrap=0), image_root=tmp_path)
    report = json.loads((tmp_path / "diagnosis_no_root.json").read_text())
    assert report["predictions"][3]["file_name"] == "3.png"


def test_bad_malignancy_names_the_image():
    for malignancy in (float("nan"), 1.2):
        with pytest.raises(ValueError, match=r"Image 0 \(.*0.png\): malignancy"):
            run(DiagnosisEvaluator(DATASET), indices=[0], cases=[("a", 1, [malignancy])])


def test_diagnosis_from_the_detections_of_both_classes():
    input_, output = model_io(0)  # scores 0.9 and 0.5
    instances = output["instances"]
    instances.remove("malignancy")
    instances.pred_classes = torch.tensor([0, 1])
    evaluator = DiagnosisEvaluator(DATASET, bootstrap=0, from_detections=True)
    evaluator.reset()
    evaluator.process([input_], [output])
    (prediction,) = evaluator._gather()
    assert prediction["malignancy"] == pytest.approx(0.5 / 1.4) and prediction["score"] == pytest.approx(0.9)
    assert prediction["box"] == [10, 20, 40, 50]


def test_missing_malignancy_names_the_image():
    input_, output = model_io(0)
    output["instances"].remove("malignancy")
    with pytest.raises(ValueError, match=r"Image 0 .* no field 'malignancy'"):
        DiagnosisEvaluator(DATASET).process([input_], [output])


@pytest.mark.parametrize("argument", [{"threshold": 1.5}, {"threshold": float("nan")}, {"bootstrap": -1}])
def test_bad_arguments(argument):
    with pytest.raises(ValueError, match=next(iter(argument))):
        DiagnosisEvaluator(DATASET, **argument)
