import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tsdd_d2.data import BBUIError, read_image_sizes
from tsdd_d2.data.image_sizes import is_too_narrow

from .conftest import HEIGHT, WIDTH


def test_sizes_are_height_first_and_all_bad_images_are_named(root):
    assert read_image_sizes(root, ["Images/1.png", "Images/2.png"]) == [(HEIGHT, WIDTH)] * 2
    (root / "Images/2.png").write_bytes(b"")
    with pytest.raises(BBUIError) as error:
        read_image_sizes(root, ["Images/1.png", "Images/2.png", "Images/none.png"])
    assert len(error.value.problems) == 2


@pytest.mark.parametrize(
    "height, width, min_size, max_size, expected",
    [
        (1, 8000, 800, 1333, True),  # 1333 / 8000 of a pixel
        (8000, 1, 800, 1333, True),
        (1, 2000, 800, 1000, False),  # half a pixel is rounded up
        (1, 2001, 800, 1000, True),
        (1, 8000, 0, 1333, False),
        (480, 640, 800, 1333, False),
    ],
)
def test_too_narrow_for_detectron2s_resizing(height, width, min_size, max_size, expected):
    assert is_too_narrow(height, width, min_size, max_size) is expected


def png_of_16_bit_colours(path):
    """Pillow writes none: 8 x 6 pixels of grey 1000, from the specification of the format."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 8, 6, 16, 2, 0, 0, 0)
    rows = (b"\0" + struct.pack(">24H", *[1000] * 24)) * 6
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def test_colours_of_16_bits_are_refused(root):
    """Pillow would keep the upper 8 bits, 3 of 1000: an almost black image."""
    png_of_16_bit_colours(root / "colours.png")
    assert np.asarray(Image.open(root / "colours.png")).max() == 3
    with pytest.raises(BBUIError, match=r"colours\.png has pixels of more than 8 bits \(Pillow's mode RGB;16B\)"):
        read_image_sizes(root, ["colours.png"])


@pytest.mark.parametrize("suffix", ["tif", "png", "webp", "gif"])
def test_several_pages_are_refused(suffix, root):
    """Of a PNG and a WebP the pages are those of an animation."""
    page, other = (Image.new("L", (WIDTH, HEIGHT), value) for value in (0, 200))
    page.save(root / f"page.{suffix}")
    page.save(root / f"pages.{suffix}", save_all=True, append_images=[other])
    assert read_image_sizes(root, [f"page.{suffix}"]) == [(HEIGHT, WIDTH)]
    with pytest.raises(BBUIError, match=rf"pages\.{suffix} has 2 pages; save each as a file"):
        read_image_sizes(root, [f"pages.{suffix}"])


@pytest.mark.parametrize(
    "name, pixels",
    [
        ("16.png", np.full((HEIGHT, WIDTH), 1000, np.uint16)),
        ("32.tif", np.full((HEIGHT, WIDTH), 1000, np.int32)),
        ("float.tif", np.full((HEIGHT, WIDTH), 0.5, np.float32)),
    ],
)
def test_pixels_of_more_than_8_bits_are_refused(root, name, pixels):
    """Pillow would cut them at 255: a white image."""
    Image.fromarray(pixels).save(root / name)
    with pytest.raises(BBUIError, match=rf"{name} has pixels of more than 8 bits .*; convert it to 8 bits"):
        read_image_sizes(root, [name])
