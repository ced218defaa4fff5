#!/usr/bin/env bash
# PyTorch 2.14.1 on a CPU with bfloat16 instructions (seen on x86-64 with AVX-512): where a 3x3 convolution sees a map of a single
# pixel, only the middle weights touch it, and the gradient of the eight others is 0. In bfloat16 these eight are not written, so
# that they hold what was there before: other numbers in each run, and NaN now and then. Nothing is said. With maps of 2x2 pixels
# and more, and in float32, they are right. RetinaNet's P7 is such a map where the image has 64 pixels: its weights learn noise,
# and some trainings end with a loss that is NaN. 20 gradients, each after other numbers were in memory:
#   bfloat16, 1x1:  wrong in most of them
#   float32, 1x1, and bfloat16, 2x2:  wrong in none
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'END'
import torch

CHANNELS, TRIALS = 256, 20


def gradient(side, precision):
    """Of the weights of a 3x3 convolution of stride 2, as RetinaNet's P7, after other numbers were in memory."""
    torch.manual_seed(0)
    before = [torch.full((CHANNELS, CHANNELS, 3, 3), 7.0) for _ in range(3)]
    weights = torch.randn(CHANNELS, CHANNELS, 3, 3, requires_grad=True)
    image = torch.randn(2, CHANNELS, side, side)
    del before
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        torch.nn.functional.conv2d(image, weights, stride=2, padding=1).float().sum().backward()
    return weights.grad, image


def is_wrong(side, precision):
    """By hand: the output has one pixel, whose gradient is 1, so that a weight's gradient is the sum over the images of the pixel
    that it meets, and 0 where it meets none."""
    found, image = gradient(side, precision)
    expected = torch.zeros(CHANNELS, 3, 3)
    expected[:, 1 : 1 + side, 1 : 1 + side] = image.sum(dim=0)
    return not torch.allclose(found, expected.expand_as(found), atol=0.05, rtol=0.02)


wrong = {x: sum(is_wrong(*x) for _ in range(TRIALS)) for x in ((1, "bfloat16"), (1, "float32"), (2, "bfloat16"))}
for (side, precision), number in wrong.items():
    print(f"{precision}, {side}x{side}: wrong in {number} of {TRIALS}")
assert wrong[1, "bfloat16"] > TRIALS // 2 and wrong[1, "float32"] == wrong[2, "bfloat16"] == 0
END
