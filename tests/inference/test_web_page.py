"""The page that diagnoses: in a real browser its answers are those of Python."""

import json

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tsdd_d2 import Predictor
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.errors import InputError
from tsdd_d2.inference.web_page import RUNTIME, fetch_runtime

from ..browser import needs_browser, start_browser
from ..conftest import TINY_CONFIG
from ..tools.test_tools import main_of
from .test_export import model_file_of, noise

TOLERANCE = 1e-3  # of the box in pixels, and of the probability
EXIF_ORIENTATION = 274


def small_network(image_format):
    """A configuration of 200,000 parameters: a small page."""
    name = "test_efficientnet"
    backbone = ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.BACKBONE.MODEL", name, "MODEL.CNET.BACKBONE", name]
    grey = ["INPUT.FORMAT", "L", "MODEL.PIXEL_MEAN", [127.5], "MODEL.PIXEL_STD", [127.5]]
    return load_config(TINY_CONFIG, backbone + (grey if image_format == "L" else []))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The folder of the runtime's archive, which npm fetches into a cache of the tests' own."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        patch.setenv("npm_config_cache", str(cache / "npm"))
        try:
            fetch_runtime()
        except InputError as error:
            pytest.skip(str(error))
        yield cache / "tsdd_d2"


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return tmp_path_factory.mktemp("models") / "model.pth"


@pytest.fixture(scope="module", params=["L", "RGB"])
def predictor(request, model_path):
    """Of a network that takes grey images, and of one that takes colours."""
    pytest.importorskip("onnxscript", reason="needs the extra: pip install -e '.[export]'")
    return Predictor(model_file_of(small_network(request.param), model_path))


@pytest.fixture(scope="module")
def page(cache, predictor, model_path, tmp_path_factory):
    """The browser on the page, when it has loaded the network."""
    folder = tmp_path_factory.mktemp("page")
    assert main_of("export_model")(["--model", str(model_path), "--html", str(folder / "page.html")]) == 0
    browser = start_browser(folder)
    try:
        browser.get(f"file://{folder / 'page.html'}")
        WebDriverWait(browser, 60, 0.1).until(lambda x: find(x, "file").is_enabled())
        yield browser
        assert browser.get_log("browser") == []  # no error, and nothing that the page may not load
    finally:
        browser.quit()


def find(page, name):
    return page.find_element(By.ID, name)


def give(page, path):
    find(page, "file").send_keys(str(path))


def answer(page, path):
    """What the page says about an image file."""

    def shown(page):
        text = find(page, "result").get_attribute("data-answer") or "{}"
        return (json.loads(text).get("file") == path.name and find(page, "result").is_displayed()) and json.loads(text)

    give(page, path)
    return WebDriverWait(page, 30, 0.1).until(shown)


def assert_the_same(answer, prediction):
    assert answer["box"] == pytest.approx(prediction.box, abs=TOLERANCE)
    assert answer["malignancy"] == pytest.approx(prediction.malignancy, abs=TOLERANCE)
    assert answer["class"] == prediction.predicted_class


@needs_browser
@pytest.mark.parametrize(
    "size",  # of 64 and 96 at most: left, enlarged, reduced, as long as may be, shrunk in one direction more
    [(64, 72), (40, 45), (310, 457), (83, 192), (200, 45)],
)
@pytest.mark.parametrize("channels", [(), (3,)])
def test_the_answers_are_those_of_python(page, predictor, tmp_path, size, channels):
    path = tmp_path / f"{size}{channels}.png"
    Image.fromarray(noise(sum(size), *size, *channels).numpy()).save(path)
    (prediction,) = predictor(path)
    assert np.subtract(prediction.box[2:], prediction.box[:2]).min() > 2
    assert_the_same(answer(page, path), prediction)


@needs_browser
def test_a_photograph_that_was_turned(page, predictor, tmp_path):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    path = tmp_path / "turned.png"
    Image.fromarray(noise(1, 100, 160).numpy()).save(path, exif=exif)
    (prediction,) = predictor(path)
    assert (prediction.height, prediction.width) == (160, 100)
    assert_the_same(answer(page, path), prediction)


@needs_browser
def test_what_it_cannot_read_is_said_and_the_next_one_is_read(page, predictor, tmp_path):
    (tmp_path / "scan.dcm").write_bytes(b"no image")
    Image.fromarray(noise(2, 64, 72, 4).numpy()).save(tmp_path / "transparent.png")
    Image.fromarray(np.zeros((1000, 1), np.uint8)).save(tmp_path / "narrow.png")
    for name in ("scan.dcm", "transparent.png", "narrow.png"):
        give(page, tmp_path / name)
        said = WebDriverWait(page, 30, 0.1).until(
            lambda x, name=name: find(x, "status").get_attribute("class") == "error" and find(x, "status").text
        )
        assert name in said and not find(page, "result").is_displayed()
        Image.fromarray(noise(3, 64, 72).numpy()).save(tmp_path / f"after_{name}.png")
        path = tmp_path / f"after_{name}.png"
        assert_the_same(answer(page, path), predictor(path)[0])
        assert find(page, "status").text == ""


@needs_browser
def test_it_opens_no_connection(page):
    script = "const done = arguments[0]; fetch('https://example.org').then(() => done('sent'), () => done('refused'))"
    assert page.execute_async_script(script) == "refused"
    assert "example.org" in page.get_log("browser")[0]["message"]
    loaded = page.execute_script("return performance.getEntriesByType('resource').map((x) => x.name)")
    assert all(x.startswith("blob:") for x in loaded)


@needs_browser
def test_every_control_has_a_name(page):
    assert "image" in find(page, "file").accessible_name
    assert find(page, "picture").accessible_name


def test_without_npm(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=f"{RUNTIME}.*npm is not installed.*{tmp_path}"):
        fetch_runtime()


def test_npm_that_cannot_fetch(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "npm").write_text("#!/bin/sh\necho 'npm error code ENOTFOUND' >&2\nexit 1\n")
    (tmp_path / "npm").chmod(0o755)
    with pytest.raises(InputError, match=f"{RUNTIME} .*ENOTFOUND"):
        fetch_runtime()
    assert not (tmp_path / "cache").exists()


def test_another_package_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    archive = tmp_path / "tsdd_d2" / f"{RUNTIME.replace('@', '-')}.tgz"
    archive.parent.mkdir()
    archive.write_bytes(b"another one")
    with pytest.raises(InputError, match=f"{archive} is not"):
        fetch_runtime()


@pytest.mark.parametrize("options", [["--html", "page.htm"], ["--html", "page.html", "--output", "model.onnx"]])
def test_unusable_arguments(cache, predictor, model_path, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    try:
        assert main_of("export_model")(["--model", str(model_path), *options]) == 2
    except SystemExit as end:
        assert end.code == 2
    assert list(tmp_path.iterdir()) == []
