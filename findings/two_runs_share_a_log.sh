#!/usr/bin/env bash
# Two runs in one process, one after the other, each set up by default_setup of Detectron2 (sal-detectron2 0.7.2) with an
# OUTPUT_DIR of its own, as a loop over folds does: what the second logs goes into the log.txt of the first as well, and
# stands on the console twice. Of one line each:
#   first/log.txt:  "fold 1", "fold 2"
#   second/log.txt: "fold 2"
#   console:        "fold 1" once, "fold 2" twice
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
pip=("$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" torch==2.14.1 torchvision==0.29.1 fvcore==0.1.5.post20221221 iopath==0.1.9 pycocotools==2.0.11 tabulate \
    "setuptools<82" cloudpickle omegaconf matplotlib termcolor tensorboard
# plain Python, though its wheel says that it is for 3.10
"${pip[@]}" --no-deps --only-binary :all: --python-version 3.10 --target "$folder/detectron2" sal-detectron2==0.7.2
cd "$folder"
PYTHONPATH="$folder/detectron2" venv/bin/python -W ignore - > console.txt <<'END'
import argparse
import logging

from detectron2.config import get_cfg
from detectron2.engine import default_setup

for number, name in enumerate(("first", "second"), start=1):
    cfg = get_cfg()
    cfg.MODEL.DEVICE, cfg.OUTPUT_DIR = "cpu", name
    default_setup(cfg, argparse.Namespace(config_file="", eval_only=False))
    logging.getLogger("detectron2").info(f"this is fold {number}")
END
for file in first/log.txt second/log.txt console.txt; do
    echo "$file: fold 1 $(grep -c 'this is fold 1' $file || true) times, fold 2 $(grep -c 'this is fold 2' $file || true) times"
done | tee counts.txt
diff counts.txt - <<'END'
first/log.txt: fold 1 1 times, fold 2 1 times
second/log.txt: fold 1 0 times, fold 2 1 times
console.txt: fold 1 1 times, fold 2 2 times
END
