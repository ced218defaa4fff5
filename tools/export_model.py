#!/usr/bin/env python
"""Writes a model file as ONNX, from the pixels to the box and the probability, or as a page that runs it in a browser."""

import argparse
import os
import sys

import torch

from tsdd_d2 import load_model
from tsdd_d2.errors import reports_errors
from tsdd_d2.inference.export import OPSET, export_model, largest_differences
from tsdd_d2.inference.input_images import find_image_files, read_images
from tsdd_d2.inference.web_page import write_web_page

# Evenly chosen among those that are named.
CALIBRATION_IMAGES = 100

EPILOG = """
Examples:
    $ pip install -c constraints.txt -e '.[export]'
    $ python tools/export_model.py --model model.pth --output model.onnx
    $ python tools/export_model.py --model model.pth --output model_int8.onnx --int8 'training/*.png'
    $ python tools/export_model.py --html page.html
    $ python tools/export_model.py --model model.pth --batch-size 16 --output model_16.onnx

The file takes `images`, (N, C, H, W) uint8, grey or RGB of any height and width, and gives `boxes` (N, 4), XYXY in pixels of that
input, `scores` (N,) and `malignancy` (N,). Its metadata hold what is needed around it: the format, the size to resize to, class
names, threshold, training set. docs/onnx.md has the 20 lines that run it with onnxruntime, Pillow and numpy.

The page takes an image that is dropped into it and shows box, probability and time, in any browser and without a connection.
It is one file with everything in it; npm fetches the runtime (onnxruntime-web) the first time.
"""


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", metavar="FILE", help="of tools/save_model.py (default: the one of docs/model_card.md)")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--output", metavar="FILE", help="the ONNX file, *.onnx")
    where.add_argument("--html", metavar="FILE", help="the page, *.html")
    parser.add_argument("--batch-size", type=int, default=1, help="N, fixed in the ONNX file (default 1)")
    parser.add_argument(
        "--int8", nargs="+", metavar="PATH", help="in 8 bits, calibrated on training images: files, quoted patterns, folders"
    )
    args = parser.parse_args(argv)
    if (args.html or args.int8) and args.batch_size != 1:
        parser.error("--html and --int8 take one image at a time: --batch-size must be 1")
    files = find_image_files(args.int8) if args.int8 else []
    calibration = read_images(files[:: -(-len(files) // CALIBRATION_IMAGES)]) if files else ()
    model_file = load_model(args.model, device="cpu")
    if args.html:
        write_web_page(args.html, model_file, calibration)
        print(f"The page is {args.html} ({os.path.getsize(args.html) / 1e6:.0f} MB): open it in a browser.")
        return 0
    export_model(model_file, args.output, args.batch_size, calibration)
    print(f"The network is in {args.output} ({os.path.getsize(args.output) / 1e6:.0f} MB, opset {OPSET})")
    if not args.int8:
        side, channels = model_file.preprocessing["min_size"], 1 if model_file.preprocessing["format"] == "L" else 3
        noise = torch.randint(0, 256, (args.batch_size, channels, side, side + side // 4), dtype=torch.uint8)
        differences = largest_differences(model_file, args.output, noise)
        print(
            f"On noise onnxruntime differs from PyTorch by at most {differences['boxes']:.1g} pixels in the box and "
            f"{differences['malignancy']:.1g} in the malignancy."
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
