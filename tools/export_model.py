#!/usr/bin/env python
"""Writes a model file as ONNX: from the pixels to the box and the probability, without PyTorch and Detectron2."""

import argparse
import importlib.util
import os
import sys

import torch

from tsdd_d2 import load_model
from tsdd_d2.errors import reports_errors
from tsdd_d2.inference.export import OPSET, export_model, largest_differences

EPILOG = """
Examples:
    $ pip install -c constraints.txt -e '.[export]'
    $ python tools/export_model.py --model model.pth --output model.onnx
    $ python tools/export_model.py --model model.pth --batch-size 16 --output model_16.onnx

The file takes `images`, (N, 3, H, W) uint8 RGB of any height and width, and gives `boxes` (N, 4), XYXY in pixels of that
input, `scores` (N,) and `malignancy` (N,). Its metadata hold what is needed around it: the size to resize to, class names,
threshold, training set. docs/onnx.md has the 20 lines that run it with onnxruntime, Pillow and numpy.
"""


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, metavar="FILE", help="a model file, see tools/save_model.py")
    parser.add_argument("--output", required=True, metavar="FILE", help="the ONNX file, *.onnx")
    parser.add_argument("--batch-size", type=int, default=1, help="N, fixed in the file (default 1)")
    args = parser.parse_args(argv)
    model_file = load_model(args.model, device="cpu")
    export_model(model_file, args.output, args.batch_size)
    print(f"The network is in {args.output} ({os.path.getsize(args.output) / 1e6:.0f} MB, opset {OPSET})")
    if importlib.util.find_spec("onnxruntime"):
        side = model_file.preprocessing["min_size"]
        noise = torch.randint(0, 256, (args.batch_size, 3, side, side + side // 4), dtype=torch.uint8)
        differences = largest_differences(model_file, args.output, noise)
        print(
            f"On noise onnxruntime differs from PyTorch by at most {differences['boxes']:.1g} pixels in the box and "
            f"{differences['malignancy']:.1g} in the malignancy."
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
