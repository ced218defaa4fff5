"""The model that comes with the package, on phantom images and, where BUS-BRA is, on its own."""

import json
import os

import pytest
import torch
from phantom import generate_phantom

from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, pairwise_iou
from tsdd_d2 import Predictor, load_model
from tsdd_d2.data import ensure_registered
from tsdd_d2.inference.model_file import TRAINED

from ..conftest import ROOT
from ..tools.test_tools import main_of

MOST_BYTES = 15e6


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    bbui = generate_phantom(folder, num_patients=4, images_per_patient=1, num_workers=1)
    return [str(folder / x["file_name"]) for x in bbui["images"]]


def test_it_is_small_and_finite():
    assert os.path.getsize(TRAINED) <= MOST_BYTES
    model_file = load_model()
    assert all(x.isfinite().all() for x in model_file.model.state_dict().values() if x.is_floating_point())
    assert all(x.dtype == torch.float32 for x in model_file.model.parameters())


def test_it_predicts_where_no_model_is_named(images, capsys):
    predictions = Predictor()(images)
    for prediction in predictions:
        x0, y0, x1, y1 = prediction.box
        assert 0 <= x0 < x1 <= prediction.width and 0 <= y0 < y1 <= prediction.height
        assert 0 <= prediction.malignancy <= 1
    assert main_of("predict")(["--input", *images, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [x["malignancy"] for x in lines] == pytest.approx([x.malignancy for x in predictions], abs=1e-5)


def test_it_finds_the_lesions_of_the_samples():
    """The boxes are of BUS-BRA's masks; README says what the model takes each lesion for."""
    samples = {
        "bus_0461-r": ((140, 54, 214, 126), "benign"),
        "bus_0482-l": ((106, 67, 205, 131), "benign"),
        "bus_0941-r": ((36, 37, 214, 175), "malignant"),
    }
    files = [os.path.join(ROOT, "docs", "samples", f"{name}.png") for name in samples]
    for prediction, (box, category) in zip(Predictor()(files), samples.values()):
        overlap = pairwise_iou(Boxes([box]), Boxes([prediction.box])).item()
        assert overlap > 0.7 and prediction.predicted_class == category, prediction.file_name


def test_it_diagnoses_images_that_it_has_not_seen():
    name = "busbra_all_val"
    folder = os.path.join(os.environ.get("DETECTRON2_DATASETS", "datasets"), "busbra")
    if not os.path.isfile(os.path.join(folder, "annotations", "all_val.json")):
        pytest.skip("$DETECTRON2_DATASETS has no busbra/annotations/all_val.json: python datasets/prepare.py busbra")
    ensure_registered(name)
    test = DatasetCatalog.get(name)[::5]
    predictions = Predictor()([x["file_name"] for x in test])
    right = [(x.predicted_class == "malignant") == bool(y["category_id"]) for x, y in zip(predictions, test)]
    assert sum(right) >= 0.7 * len(right)
