import numpy as np
import pytest
from PIL import Image

from tsdd_d2.data import BBUIError, read_image_sizes

from .conftest import HEIGHT, WIDTH


def test_sizes_are_height_first_and_all_bad_images_are_named(root):
    assert read_image_sizes(root, ["Images/1.png", "Images/2.png"]) == [(HEIGHT, WIDTH)] * 2
    (root / "Images/2.png").write_bytes(b"")
    with pytest.raises(BBUIError) as error:
        read_image_sizes(root, ["Images/1.png", "Images/2.png", "Images/none.png"])
    assert len(error.value.problems) == 2


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
