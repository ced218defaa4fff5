import os
import pickle
import random

import cv2
import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from detectron2.data.detection_utils import read_image
from tsdd_d2.data import BBUIError, validate_bbui
from tsdd_d2.data.decoding import DecodedImages, decode_image, read_pixels
from tsdd_d2.inference.input_images import read_images


@pytest.fixture
def images(tmp_path):
    """A grey file, a file of colour with equal channels, and one with a coloured pixel: (6, 8)."""
    grey = np.random.RandomState(0).randint(0, 256, (6, 8), dtype=np.uint8)
    equal = np.stack([grey.T[::-1].reshape(6, 8)] * 3, axis=2)
    colour = equal.copy()
    colour[2, 3] = (1, 2, 3)
    names = []
    for name, pixels in (("grey", grey), ("equal", equal), ("colour", colour)):
        names.append(str(tmp_path / f"{name}.png"))
        cv2.imwrite(names[-1], pixels)
    return [{"file_name": name, "height": 6, "width": 8} for name in names]


def test_one_channel_where_all_are_equal(images):
    pixels = [read_pixels(x["file_name"], "RGB") for x in images]
    assert [x.shape for x in pixels] == [(6, 8, 1), (6, 8, 1), (6, 8, 3)]
    for x, found in zip(images, pixels):
        assert (read_image(x["file_name"], "RGB") == found).all()
    assert (read_pixels(images[2]["file_name"], "BGR") == pixels[2][:, :, ::-1]).all()


class Reads:
    """A data set whose items are the pixels of its images."""

    def __init__(self, images, read):
        self.images, self.read = images, read

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.read(self.images[i]["file_name"], "RGB")


def test_what_a_worker_decoded_the_others_need_not(images):
    read = DecodedImages(images, max_bytes=3 * 6 * 8)
    expected = [read_pixels(x["file_name"], "RGB") for x in images]
    by_workers = list(DataLoader(Reads(images, read), batch_size=None, num_workers=2, multiprocessing_context="fork"))
    for x in images:
        os.remove(x["file_name"])
    for found, again, pixels in zip(by_workers, Reads(images[:2], read), expected):
        assert (np.asarray(found) == pixels).all() and (again == pixels).all()
    with pytest.raises(BBUIError, match=r"\.png does not exist"):
        read(images[2]["file_name"], "RGB")  # colour is not kept


def test_more_than_the_limit_is_not_kept(images):
    read = DecodedImages(images, max_bytes=3 * 6 * 8 - 1)
    assert read(images[0]["file_name"], "RGB").shape == (6, 8, 1)
    os.remove(images[0]["file_name"])
    with pytest.raises(BBUIError, match=r"\.png does not exist"):
        read(images[0]["file_name"], "RGB")


def test_a_file_of_another_size_is_not_kept(images):
    read = DecodedImages([{**images[0], "width": 7}], max_bytes=1000)
    assert read(images[0]["file_name"], "RGB").shape == (6, 8, 1)
    assert read(images[0]["file_name"], "RGB").shape == (6, 8, 1)


def test_a_spawned_process_decodes_for_itself(images):
    read = pickle.loads(pickle.dumps(DecodedImages(images, max_bytes=1000)))
    assert read(images[0]["file_name"], "RGB").shape == (6, 8, 1)


FORMATS = {
    "png": {},
    "jpg": {},
    "tif": {"compression": "tiff_deflate"},
    "bmp": {},
    "webp": {},
}


@pytest.fixture(scope="module")
def speckle():
    return np.random.RandomState(0).gamma(2, 30, (48, 64)).clip(0, 255).astype(np.uint8)


def refused(path):
    """By training and rounds, by validation, and by prediction and pictures, each naming the file."""
    bbui = {"images": [{"id": 1, "file_name": path.name, "width": 64, "height": 48, "patient_id": "a", "category_id": 1}]}
    bbui.update(annotations=[], categories=[{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}])
    for read in (
        lambda: read_pixels(str(path), "BGR"),
        lambda: list(read_images([path])),
        lambda: validate_bbui(bbui, path.parent),
    ):
        with pytest.raises(BBUIError, match=path.name):
            read()


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_truncated_file_is_refused(suffix, speckle, tmp_path):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(speckle).save(path, **FORMATS[suffix])
    read_pixels(str(path), "RGB")
    content = path.read_bytes()
    for share in (0.4, 0.8):
        path.write_bytes(content[: int(len(content) * share)])
        refused(path)


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_damaged_pixels_are_refused(suffix, speckle, tmp_path):
    """One byte where the format has a checksum; in a JPEG, whose codes have none, a sector of zeros."""
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(speckle).save(path, **FORMATS[suffix])
    content = path.read_bytes()
    length = 512 if suffix == "jpg" else 1
    starts = {"png": content.find(b"IDAT") + 4, "tif": 8, "jpg": content.find(b"\xff\xda") + 20}
    generator = random.Random(0)
    for _ in range(10):
        damaged = bytearray(content)
        start = generator.randrange(starts[suffix], starts[suffix] + 1500)
        damaged[start : start + length] = bytes(length) if length > 1 else bytes([damaged[start] ^ 16])
        path.write_bytes(damaged)
        refused(path)


def test_what_is_transparent_is_refused(speckle, tmp_path):
    """Decoders leave that channel out: what a viewer hides would be seen."""
    path = tmp_path / "a.png"
    opaque = np.full_like(speckle, 255)
    alpha = opaque.copy()
    alpha[3, 5] = 254
    Image.fromarray(np.dstack([speckle, speckle, speckle, alpha])).save(path)
    refused(path)
    Image.fromarray(np.dstack([speckle, speckle, speckle, opaque])).save(path)
    assert (read_pixels(str(path), "RGB")[:, :, 0] == speckle).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_formats_are_turned_upright_once(orientation, speckle, tmp_path):
    exif = Image.Exif()
    exif[274] = orientation
    found = []
    for suffix, options in (("png", {}), ("tif", {}), ("tif", {"compression": "tiff_lzw"}), ("webp", {"lossless": True})):
        path = tmp_path / f"{orientation}.{suffix}"
        Image.fromarray(speckle).save(path, exif=exif, **options)
        found.append(decode_image(str(path)))
    Image.fromarray(speckle).save(tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0)
    found.append(decode_image(str(tmp_path / "a.jpg")))
    # what the tag says is in the file's first row and first column, from the TIFF specification
    upright = {
        1: speckle, 2: speckle[:, ::-1], 3: speckle[::-1, ::-1], 4: speckle[::-1],
        5: speckle.T, 6: speckle[::-1].T, 7: speckle[::-1, ::-1].T, 8: speckle[:, ::-1].T,
    }[orientation]  # fmt: skip
    for decoded in found:
        assert decoded.turned == (orientation != 1)
        assert np.abs(decoded.pixels[:, :, 0].astype(int) - upright).max() <= (4 if decoded is found[-1] else 0)


def test_validation_says_that_an_image_was_turned(bbui, root):
    exif = Image.Exif()
    exif[274] = 3  # upside down: the size does not tell
    Image.open(root / "Images/2.png").save(root / "Images/2.png", exif=exif)
    (warning,) = validate_bbui(bbui, root)
    assert "orientation tag" in warning and "Images/2.png" in warning
    exif[274] = 6
    Image.open(root / "Images/3.png").save(root / "Images/3.png", exif=exif)
    with pytest.raises(BBUIError, match=r"3\.png has 30x40 pixels, turned upright .*the annotation says 40x30"):
        validate_bbui(bbui, root)
