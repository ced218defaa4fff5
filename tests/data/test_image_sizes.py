import pytest

from tsdd_d2.data import BBUIError, read_image_sizes

from .conftest import HEIGHT, WIDTH


def test_sizes_are_height_first_and_all_bad_images_are_named(root):
    assert read_image_sizes(root, ["Images/1.png", "Images/2.png"]) == [(HEIGHT, WIDTH)] * 2
    (root / "Images/2.png").write_bytes(b"")
    with pytest.raises(BBUIError) as error:
        read_image_sizes(root, ["Images/1.png", "Images/2.png", "Images/none.png"])
    assert len(error.value.problems) == 2
