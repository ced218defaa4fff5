import os
import pickle

import cv2
import numpy as np
import pytest
from torch.utils.data import DataLoader

from detectron2.data.detection_utils import read_image
from tsdd_d2.data.decoding import DecodedImages, read_pixels


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
    with pytest.raises(FileNotFoundError):
        read(images[2]["file_name"], "RGB")  # colour is not kept


def test_more_than_the_limit_is_not_kept(images):
    read = DecodedImages(images, max_bytes=3 * 6 * 8 - 1)
    assert read(images[0]["file_name"], "RGB").shape == (6, 8, 1)
    os.remove(images[0]["file_name"])
    with pytest.raises(FileNotFoundError):
        read(images[0]["file_name"], "RGB")


def test_a_file_of_another_size_is_not_kept(images):
    read = DecodedImages([{**images[0], "width": 7}], max_bytes=1000)
    assert read(images[0]["file_name"], "RGB").shape == (6, 8, 1)
    assert read(images[0]["file_name"], "RGB").shape == (6, 8, 1)


def test_a_spawned_process_decodes_for_itself(images):
    read = pickle.loads(pickle.dumps(DecodedImages(images, max_bytes=1000)))
    assert read(images[0]["file_name"], "RGB").shape == (6, 8, 1)
