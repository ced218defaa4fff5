"""Whether a detector can learn eight images by heart: ``python -m tests.methods.overfit METHOD STEPS [KEY VALUE ...]``.

Minutes for each method, so it is no test. It needs BUS-BRA in DETECTRON2_DATASETS, and prints AP50 on the eight images. That
was 1.000 with

    yolov4 100 INPUT.MIN_SIZE_TRAIN "(160,)" INPUT.MIN_SIZE_TEST 160
    yolov7 500 INPUT.MIN_SIZE_TRAIN "(160,)" INPUT.MIN_SIZE_TEST 160 SOLVER.BASE_LR 0.002
"""

import os
import sys
import tempfile
from collections import defaultdict

from detectron2.data import DatasetCatalog, MetadataCatalog
from tsdd_d2 import register_bbui_instances
from tsdd_d2.data import ensure_registered
from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.engine.final_evaluation import evaluate
from tsdd_d2.engine.trainer import trainer_of

SOURCE, NAME = "busbra_fold1_train", "eight"


def eight_images(folder: str) -> None:
    """Registers four images of each class that have a ROI, all of one size.

    Draws are grouped by shape: a batch of so few images of different shapes would be one image eight times.
    """
    ensure_registered(SOURCE)
    DatasetCatalog.get(SOURCE)
    metadata = MetadataCatalog.get(SOURCE)
    bbui = read_json(metadata.json_file)
    annotated = {x["image_id"] for x in bbui["annotations"]}
    by_size = defaultdict(lambda: {1: [], 2: []})
    for image in bbui["images"]:
        if image["id"] in annotated:
            by_size[image["width"], image["height"]][image["category_id"]].append(image)
    chosen = max(by_size.values(), key=lambda x: min(map(len, x.values())))
    images = chosen[1][:4] + chosen[2][:4]
    ids = {x["id"] for x in images}
    annotations = [x for x in bbui["annotations"] if x["image_id"] in ids]
    path = os.path.join(folder, f"{NAME}.json")
    write_json(path, {**bbui, "images": images, "annotations": annotations})
    register_bbui_instances(NAME, path, metadata.image_root)


def ap50(method: str, steps: int, options: list) -> float:
    with tempfile.TemporaryDirectory() as folder:
        eight_images(folder)
        values = {
            "DATASETS.TRAIN": (NAME,),
            "DATASETS.VAL": (),
            "DATASETS.TEST": (NAME,),
            "DATASETS.P": 1.0,
            "DATALOADER.NUM_WORKERS": 0,
            "SOLVER.IMS_PER_BATCH": 8,
            "SOLVER.MAX_ITER": steps,
            "SOLVER.WARMUP_ITERS": steps // 10,
            "TEST.EVAL_PERIOD": 0,
            "TEST.BOOTSTRAP": 0,
            # what makes it harder to learn by heart
            "INPUT.RANDOM_ZOOM": 0.0,
            "INPUT.RANDOM_SHIFT": 0.0,
            "INPUT.INTENSITY_JITTER": 0.0,
            "MODEL.YOLOV4.MOSAIC": 0.0,
            "MODEL.YOLOV7.MOSAIC": 0.0,
            "OUTPUT_DIR": os.path.join(folder, "run"),
        }
        cfg = load_config(opts=[x for pair in values.items() for x in pair] + options, method=method)
        os.makedirs(cfg.OUTPUT_DIR)
        trainer = trainer_of(cfg)(cfg)
        trainer.resume_or_load(resume=False)
        trainer.train()
        return evaluate(cfg, trainer.network, NAME)["localisation"]["AP50"]


if __name__ == "__main__":
    print(f"{sys.argv[1]}: AP50 {ap50(sys.argv[1], int(sys.argv[2]), sys.argv[3:]):.3f}")
