"""What the mapper says about an image beside its pixels."""

import pytest

from detectron2.data import DatasetCatalog
from tsdd_d2.data import ensure_registered
from tsdd_d2.data.mapper import BBUIMapper


@pytest.mark.parametrize("source, partially_annotated", [("manual", False), ("refined", False), ("pseudo", True)])
def test_the_group_is_that_of_the_file_where_no_roi_is_in_view(tiny_cfg, tiny_dataset, source, partially_annotated):
    ensure_registered("tiny_fold1_train")
    image = DatasetCatalog.get("tiny_fold1_train")[0]
    image["annotations"][0].update(roi_source=source, bbox=[0.0, 0.0, 6.0, 6.0])
    tiny_cfg.INPUT.RANDOM_ZOOM, tiny_cfg.INPUT.RANDOM_SHIFT = 0.5, 1.0
    mapper = BBUIMapper(tiny_cfg, is_train=True)
    mapped = [mapper({**image, "draw_seed": [0, draw]}) for draw in range(20)]
    assert {len(x["instances"]) for x in mapped} == {0, 1}
    assert all(x["partially_annotated"] is partially_annotated for x in mapped)
