"""What the stages of TSDDNet draw their batches from."""

import pytest

from tsdd_d2.engine.configuration import load_config
from tsdd_d2.methods.tsddnet import fa_and_pa

MANUAL, FOUND = {"bbox": [0, 0, 9, 9]}, {"bbox": [0, 0, 9, 9], "roi_source": "pseudo"}
FA = [{"image_id": i, "annotations": [MANUAL]} for i in range(2)]
PA = [{"image_id": i, "annotations": [FOUND]} for i in range(2, 10)]


@pytest.mark.parametrize(
    "share, images, sizes",
    [
        (0.5, FA + PA, {"fa": 4, "pa": 4}),
        (0.0, FA + PA, {"": 8}),  # the paper
        (0.2, FA + PA, {"fa": 2, "pa": 6}),  # where a fifth of 8 is 1.6
        (0.99, FA + PA, {"fa": 7, "pa": 1}),  # the pa images stay
        (0.5, FA + PA[:2], {"": 8}),  # half of them are fully annotated anyway
        (0.5, FA, {"": 8}),  # the warm-up, or p = 1
        (0.5, PA, {"": 8}),
    ],
)
def test_fully_annotated_images_have_their_share_of_a_batch(share, images, sizes):
    cfg = load_config(opts=["SOLVER.IMS_PER_BATCH", "8", "DATASETS.FA_SHARE", str(share)])
    without_roi = {"image_id": 10, "annotations": []}
    streams = fa_and_pa(cfg, [*images, without_roi])
    assert {x.name: x.size for x in streams} == sizes
    assert sorted(y["image_id"] for x in streams for y in x.images) == [x["image_id"] for x in images]
    assert all(x.images == FA for x in streams if x.name == "fa")


@pytest.mark.parametrize("size, sizes", [(6, [4, 2]), (12, [6, 6]), (2, [2])])
def test_each_of_two_processes_has_as_many(size, sizes, monkeypatch):
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    cfg = load_config(opts=["SOLVER.IMS_PER_BATCH", str(size), "DATASETS.FA_SHARE", "0.5"])
    assert [x.size for x in fa_and_pa(cfg, FA + PA)] == sizes
