#!/usr/bin/env bash
# Detectron2 (sal-detectron2 0.7.2) hands SEED to RepeatFactorTrainingSampler as it is, so that -1, the default, which "fully
# randomizes everything", is a seed like any other: each run and each resumed run begins with the same images in the same order.
# The sampler repeats images of rare classes. Five runs with SEED -1, 100 images:
#   RepeatFactorTrainingSampler: the same order in all of them; five starts of 50 images each see 47 images
#   TrainingSampler:             five orders; such starts see 94 or so
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
pip=("$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" torch==2.14.1 torchvision==0.29.1 fvcore==0.1.5.post20221221 iopath==0.1.9 pycocotools==2.0.11 numpy==2.4.6 \
    pillow==13.0.0 tabulate "setuptools<82" cloudpickle omegaconf matplotlib termcolor tensorboard
# plain Python, though its wheel says that it is for 3.10
"${pip[@]}" --no-deps --only-binary :all: --python-version 3.10 --target "$folder/detectron2" sal-detectron2==0.7.2
cd "$folder"
PYTHONPATH="$folder/detectron2" venv/bin/python -W ignore - <<'END'
import itertools

from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, build_detection_train_loader
from detectron2.utils.env import seed_all_rng

IMAGES, RUNS = 100, 5
DatasetCatalog.register(
    "lesions",
    lambda: [
        {"image_id": i, "width": 200, "height": 200, "annotations": [{"category_id": int(i < 20)}]} for i in range(IMAGES)
    ],
)


def run(sampler, count):
    """The first images of a training that is started now."""
    cfg = get_cfg()
    assert cfg.SEED == -1
    cfg.DATASETS.TRAIN = ("lesions",)
    cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.REPEAT_THRESHOLD = sampler, 0.3
    cfg.DATALOADER.NUM_WORKERS, cfg.SOLVER.IMS_PER_BATCH = 0, 2
    seed_all_rng(None)  # as default_setup does for this SEED
    loader = build_detection_train_loader(cfg, mapper=lambda x: x)
    return [x["image_id"] for batch in itertools.islice(loader, count // 2) for x in batch]


same, seen = {}, {}
for sampler in ("TrainingSampler", "RepeatFactorTrainingSampler"):
    runs = [run(sampler, 1000) for _ in range(RUNS)]
    same[sampler] = sum(all(x == images[0] for x in images) for images in zip(*runs)) / 10
    seen[sampler] = len({image for images in runs for image in images[:50]})
    print(
        f"{sampler}: {RUNS} runs agree in {same[sampler]:.0f}% of 1000 images, begin with {runs[0][:4]} and {runs[1][:4]};"
        f" {RUNS} starts of 50 images each see {seen[sampler]} of {IMAGES}"
    )
assert same["TrainingSampler"] < 1 and seen["TrainingSampler"] > 85
assert same["RepeatFactorTrainingSampler"] == 100 and seen["RepeatFactorTrainingSampler"] <= 50
END
