#!/usr/bin/env bash
# timm.utils.freeze (timm 1.0.31) makes a network slower that has nothing left to train: each normalisation that was one
# pass over the features (batch_norm) becomes two, a multiplication and an addition, with a copy of the features between them.
# Of EfficientNet-Lite0 all 48 are so; on a CPU the frozen network takes about 1.3 times as long as the same one in eval() (printed, not asserted).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 timm==1.0.31
"$folder/venv/bin/python" -W ignore - <<'END'
import copy
import time

import timm
import torch
from timm.utils import freeze
from torch.profiler import ProfilerActivity, profile

torch.set_num_threads(1)
network = timm.create_model("efficientnet_lite0", features_only=True).eval().to(memory_format=torch.channels_last)
frozen = copy.deepcopy(network)
freeze(frozen)
images = torch.rand(16, 3, 224, 288).to(memory_format=torch.channels_last)


def passes(network):
    """How often each operation runs on features of all channels."""
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], record_shapes=True) as record:
        network(images)
    counts = dict.fromkeys(("aten::native_batch_norm", "aten::mul", "aten::add"), 0)
    for event in record.events():
        shape = event.input_shapes[0] if event.input_shapes else []
        if event.name in counts and len(shape) == 4 and shape[0] == len(images):
            counts[event.name] += 1
    return counts


def seconds(network):
    times = []
    for _ in range(7):
        start = time.process_time()
        with torch.no_grad():
            network(images)
        times.append(time.process_time() - start)
    return min(times)


with torch.no_grad():
    assert all(torch.allclose(x, y, atol=1e-4) for x, y in zip(network(images), frozen(images)))
before, after = passes(network), passes(frozen)
print("in eval():", before)
print("frozen:   ", after)
print(f"frozen takes {seconds(frozen) / seconds(network):.2f} times as long")
norms = before["aten::native_batch_norm"]
assert norms == 48 and after["aten::native_batch_norm"] == 0
assert after["aten::mul"] - before["aten::mul"] == after["aten::add"] - before["aten::add"] == norms
END
