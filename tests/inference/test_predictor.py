"""Predictor: what the evaluation says of an image, for images from anywhere."""

import dataclasses
import weakref
from collections import deque

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model
from tsdd_d2 import Predictor, load_model, save_model
from tsdd_d2.data import ensure_registered
from tsdd_d2.data.mapper import BBUIMapper
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.errors import InputError
from tsdd_d2.inference.input_images import InputImage, read_images

from ..conftest import TINY_CONFIG
from ..methods.tiny import tiny_overrides
from .test_dicom import save_dicom

TRAINING_SET = {"name": "tiny_fold1_train", "sha256": "0" * 64}


def loaded(cfg, path):
    """The tiny network, with weights that tell images apart, by way of a model file."""
    torch.manual_seed(0)
    model = build_model(cfg)
    for name, parameter in model.named_parameters():
        if name.endswith(("bbox_pred.weight", "quality.weight")) or parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.1)
    save_model(path, cfg, model, threshold=0.5, training_set=TRAINING_SET)
    return load_model(path, device="cpu")


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    return loaded(load_config(TINY_CONFIG), tmp_path_factory.mktemp("models") / "model.pth")


@pytest.fixture
def files(tmp_path):
    """Four images of three sizes."""
    paths = []
    for number, shape in enumerate([(64, 72), (90, 70), (64, 72), (50, 120)]):
        pixels = np.random.RandomState(number).randint(90, 200, shape, dtype=np.uint8)
        pixels[10:40, 20:45] //= 4
        paths.append(str(tmp_path / f"{number}.png"))
        cv2.imwrite(paths[-1], pixels)
    return paths


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_the_answer_is_that_of_the_evaluation(tiny_cfg, tiny_dataset, tmp_path, image_format):
    tiny_cfg.INPUT.FORMAT, tiny_cfg.INPUT.MIN_SIZE_TEST, tiny_cfg.INPUT.MAX_SIZE_TEST = image_format, 80, 88
    ensure_registered("tiny_fold1_test")
    record = DatasetCatalog.get("tiny_fold1_test")[0]
    colour = np.random.RandomState(0).randint(0, 255, (64, 72, 3), dtype=np.uint8)
    cv2.imwrite(record["file_name"], colour)
    model_file = loaded(tiny_cfg, tmp_path / "model.pth")
    instances = model_file.model([BBUIMapper(tiny_cfg, is_train=False)(record)])[0]["instances"]

    (prediction,) = Predictor(model_file)(record["file_name"])
    assert prediction.box == pytest.approx(instances.pred_boxes.tensor[0].tolist(), abs=1e-3)
    assert prediction.malignancy == pytest.approx(instances.malignancy[0].item(), abs=1e-5)
    assert prediction.candidates[0].score == pytest.approx(instances.scores[0].item(), abs=1e-5)
    assert (prediction.height, prediction.width, prediction.region) == (64, 72, (0, 0, 72, 64))


def test_a_batch_answers_as_single_images_do(model_file, files):
    single = [Predictor(model_file, batch_size=1)(path)[0] for path in files]
    together = Predictor(model_file, batch_size=3)(files)
    assert [x.file_name for x in together] == files
    for a, b in zip(single, together):
        assert b.box == pytest.approx(a.box, abs=1e-3) and b.malignancy == pytest.approx(a.malignancy, abs=1e-5)


def test_arrays_are_the_images_that_files_are(model_file, tmp_path):
    rgb = np.random.RandomState(0).randint(0, 255, (64, 72, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "colour.png")
    predictor = Predictor(model_file)
    (of_file,) = predictor(tmp_path / "colour.png")
    (of_rgb,) = predictor(rgb, channel_order="RGB")
    (of_bgr,) = predictor(cv2.imread(str(tmp_path / "colour.png")), channel_order="BGR")
    for other in (of_rgb, of_bgr):
        assert other.malignancy == pytest.approx(of_file.malignancy, abs=1e-5)
        assert other.box == pytest.approx(of_file.box, abs=1e-3) and other.file_name is None

    Image.fromarray(rgb[:, :, 0]).save(tmp_path / "grey.png")
    (of_grey_file,) = predictor(tmp_path / "grey.png")
    of_grey = predictor([rgb[:, :, 0], rgb[:, :, :1], Image.open(tmp_path / "grey.png")])
    assert all(x.box == pytest.approx(of_grey_file.box, abs=1e-3) for x in of_grey)
    (of_pillow,) = predictor(Image.open(tmp_path / "colour.png"))
    assert of_pillow.malignancy == pytest.approx(of_file.malignancy, abs=1e-5)


def test_the_region_alone_is_seen_and_the_box_lies_in_the_whole_image(model_file, files):
    pixels = next(read_images(files)).pixels
    x0, y0, x1, y1 = region = (8, 3, 60, 40)
    predictor = Predictor(model_file)
    ((_, inside),) = predictor.predict([InputImage(pixels, region)])
    (alone,) = predictor(pixels[y0:y1, x0:x1], channel_order="RGB")
    assert inside.malignancy == pytest.approx(alone.malignancy, abs=1e-5)
    assert inside.box == pytest.approx(np.add(alone.box, [x0, y0, x0, y0]), abs=1e-3)
    assert (inside.height, inside.width, inside.region) == (64, 72, region)


def test_dicom_boxes_lie_in_the_whole_frame(model_file, files, tmp_path):
    grey = next(read_images(files)).pixels[..., 0]
    path = save_dicom(tmp_path / "a.dcm", np.stack([grey, 255 - grey]), regions=[(8, 3, 99, 39)])
    predictor = Predictor(model_file)
    predictions = predictor(path)
    assert [(x.file_name, x.frame) for x in predictions] == [(str(path), 1), (str(path), 2)]
    for prediction, frame in zip(predictions, (grey, 255 - grey)):
        (alone,) = predictor(frame[3:40, 8:])
        assert prediction.box == pytest.approx(np.add(alone.box, [8, 3, 8, 3]), abs=1e-3)
        assert prediction.malignancy == pytest.approx(alone.malignancy, abs=1e-5)
        assert (prediction.height, prediction.width, prediction.region) == (64, 72, (8, 3, 72, 40))


def test_candidates_begin_with_the_diagnosis(model_file, files):
    (one,) = Predictor(model_file)(files[0])
    (more,) = Predictor(model_file, candidates=4)(files[0])
    assert len(one.candidates) == 1 and 1 < len(more.candidates) <= 4
    assert more.candidates[0].box == more.box == pytest.approx(one.box, abs=1e-3)
    assert more.malignancy == more.candidates[0].malignancy == pytest.approx(one.malignancy, abs=1e-5)
    scores = [x.score for x in more.candidates]
    assert scores == sorted(scores, reverse=True)


def test_predictors_of_one_model_do_not_disturb_each_other(model_file, files):
    three, one = Predictor(model_file, candidates=3), Predictor(model_file, candidates=1)
    assert [len(x(files[0])[0].candidates) for x in (three, one, three)] == [3, 1, 3]


def test_the_path_of_a_model_file_will_do(tmp_path, files):
    loaded(load_config(TINY_CONFIG), tmp_path / "model.pth")
    assert Predictor(tmp_path / "model.pth").threshold == 0.5
    with pytest.raises(InputError, match=r"none\.pth"):
        Predictor("none.pth")


@pytest.mark.parametrize("argument", ["batch_size", "candidates"])
def test_nothing_at_a_time_is_refused(model_file, argument):
    with pytest.raises(ValueError, match=f"{argument} must be 1 or more, not 0"):
        Predictor(model_file, **{argument: 0})


def test_the_class_follows_the_models_threshold(model_file, files):
    malignancy = Predictor(model_file)(files[0])[0].malignancy
    for threshold, expected in ((malignancy - 1e-3, "malignant"), (malignancy + 1e-3, "benign")):
        (prediction,) = Predictor(dataclasses.replace(model_file, threshold=threshold))(files[0])
        assert prediction.predicted_class == expected


def test_nothing_found(model_file, files, monkeypatch):
    detect = model_file.model.detect
    monkeypatch.setattr(
        model_file.model, "detect", lambda x, limit: [{"instances": y["instances"][:0]} for y in detect(x, limit)]
    )
    (prediction,) = Predictor(model_file)(files[0])
    assert prediction.box is None and prediction.candidates == [] and prediction.malignancy == 0.5


def peer(method, tmp_path):
    return loaded(load_config(opts=tiny_overrides(), method=method, profile="scratch"), tmp_path / "model.pth")


@pytest.mark.parametrize("method, most", [("retinanet", 2), ("faster_rcnn", 2), ("cnet_whole_image", 1)])
def test_the_peers_are_predictors_too(method, most, files, tmp_path):
    model_file = peer(method, tmp_path)
    pixels = next(read_images(files)).pixels  # 64 pixels high as the model takes it: no resizing
    with torch.no_grad():
        (output,) = model_file.model([{"image": torch.from_numpy(pixels.transpose(2, 0, 1).copy())}])
    instances = output["instances"]
    (prediction,) = Predictor(model_file, candidates=2)(files[0])
    assert len(prediction.candidates) == most
    assert prediction.box == pytest.approx(instances.pred_boxes.tensor[0].tolist(), abs=1e-3)
    assert prediction.malignancy == pytest.approx(instances.malignancy[0].item(), abs=1e-5)
    if method == "cnet_whole_image":
        assert prediction.box == (0, 0, 72, 64)


def test_a_network_that_needs_a_roi_is_refused(tmp_path):
    with pytest.raises(InputError, match="A CNetOnROI cannot diagnose an image alone"):
        Predictor(peer("cnet_oracle", tmp_path))


@pytest.mark.parametrize(
    "array, message",
    [
        (np.zeros((4, 4), np.float32), r"input 1: .*\(4, 4\) and type float32"),
        (np.zeros((3, 4, 4), np.uint8), r"input 1: .*\(3, 4, 4\)"),
        (np.zeros((0, 4), np.uint8), r"input 1: .*\(0, 4\)"),
        (np.zeros((4, 4, 3), np.uint8), "input 1: .*channel_order RGB or BGR, not None"),
        (Image.new("I;16", (4, 4)), "input 1 .*more than 8 bits"),
    ],
)
def test_arrays_that_are_no_image(model_file, array, message):
    with pytest.raises(InputError, match=message):
        Predictor(model_file)(array)


def test_an_image_too_narrow_for_the_network(model_file, files, tmp_path):
    path = str(tmp_path / "line.png")
    cv2.imwrite(path, np.zeros((1000, 1), np.uint8))
    predictor = Predictor(model_file)
    with pytest.raises(InputError, match=r"line\.png: of 1 x 1000 pixels nothing is left"):
        predictor(path)
    errors = []
    predictions = predictor.predict(read_images([files[0], path, files[1]]), on_error=errors.append)
    assert [image.file_name for image, _ in predictions] == files[:2] and len(errors) == 1


def test_an_image_that_the_network_fails_on(model_file, files, tmp_path):
    """Of 64x64 pixels the tiny network has a feature map of one, which has no statistics."""
    path = str(tmp_path / "square.png")
    cv2.imwrite(path, np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match=r"square\.png"):
        Predictor(model_file)(path)
    errors = []
    predictions = Predictor(model_file).predict(read_images([files[0], path, files[1]]), on_error=errors.append)
    assert [image.file_name for image, _ in predictions] == files[:2] and len(errors) == 1


def test_a_model_without_resizing(tiny_cfg, files, tmp_path):
    """MIN_SIZE_TEST 0 switches it off in Detectron2."""
    tiny_cfg.INPUT.MIN_SIZE_TEST = 0
    (prediction,) = Predictor(loaded(tiny_cfg, tmp_path / "model.pth"))(files[0])
    assert (prediction.height, prediction.width) == (64, 72) and prediction.box is not None


def test_no_more_than_a_batch_is_held(model_file, files):
    alive, most, read = weakref.WeakSet(), 0, 0

    def count(image):
        nonlocal most, read
        alive.add(image)
        read += 1
        most = max(most, len(alive))
        return image

    predictions = Predictor(model_file, batch_size=3).predict(map(count, read_images(files * 3)))
    assert read == 0
    next(predictions)
    assert read == 3
    deque(predictions, maxlen=0)
    assert read == 12 and most == 3
