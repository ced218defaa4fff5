import pytest

from tsdd_d2.refinement.round_loader import MappedOnce, round_mapper


@pytest.mark.parametrize(
    "min_size, image_format, stays",
    [(0, "L", False), (0, "RGB", False), (512, "L", True), (512, "RGB", False)],  # of 2 MB, 0.5 MB resized
)
def test_images_stay_in_memory_if_they_fit(min_size, image_format, stays, tiny_cfg):
    tiny_cfg.INPUT.MIN_SIZE_TEST, tiny_cfg.INPUT.MAX_SIZE_TEST, tiny_cfg.INPUT.FORMAT = min_size, 1024, image_format
    tiny_cfg.DATALOADER.DECODED_IMAGES_MB = 1
    mapper = round_mapper(tiny_cfg, [{"height": 1024, "width": 2048}], read_pixels=None)
    assert isinstance(mapper, MappedOnce) == stays
