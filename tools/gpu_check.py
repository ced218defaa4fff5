#!/usr/bin/env python
"""Checks on one GPU what the tests cannot check on a CPU, in minutes; one JSON file holds what was found."""

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from typing import Dict, List

import torch
from benchmark import random_batch
from tqdm import tqdm

import tsdd_d2
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from tsdd_d2 import Predictor, load_model
from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.errors import InputError, reports_errors
from tsdd_d2.inference.export import to_onnx
from tsdd_d2.inference.input_images import read_images
from tsdd_d2.inference.model_file import save_model_of_run

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONFIG = os.path.join(ROOT, "configs", "tsdd_stage1.yaml")
# The paper's profile from random initialisation: a machine without a network has no ImageNet weights.
FROM_SCRATCH = [
    "MODEL.WEIGHTS", "", "MODEL.CNET.WEIGHTS", "", "MODEL.BACKBONE.FREEZE_AT", "0", "MODEL.RESNETS.NORM", "BN",
]  # fmt: skip
PRECISIONS = {"float32": "False", "mixed": "True"}  # SOLVER.AMP.ENABLED
# Of the fully annotated images: those of the others come with the rounds.
LOSSES = ("loss_dnet_fa", "loss_quality_fa", "loss_cnet_fa")
# The resumed run's weights may differ from the other's by this share of their norm; GPUs add in another order each time
# wherever PyTorch has no deterministic kernel.
RESUME_TOLERANCE = 1e-3
# Between GPU and CPU, in pixels of the image and as a probability; and the share of images in which both must hold: of two
# boxes with nearly the same score each may take another one.
BOX_TOLERANCE, PROBABILITY_TOLERANCE, AGREEING = 0.1, 1e-3, 0.9
COMPARED_IMAGES = 20
# As tools/train_net.py, with deterministic kernels where there are any.
DETERMINISTIC = """
import runpy, sys, torch
torch.use_deterministic_algorithms(True, warn_only=True)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

EPILOG = """
Examples:
    $ python tools/gpu_check.py --output gpu_check.json
    $ python tools/gpu_check.py --device cpu --iterations 4 --output check.json INPUT.MIN_SIZE_TRAIN '(64,)'

The paper's first stage (ResNet-34 and ResNet-18 at 448 pixels, from random initialisation) on a phantom, with two rounds, in
float32 and in mixed precision: do the losses fall, does a killed run resume to the same weights, are prediction and ONNX
file on the GPU those of the CPU, and what do a step and its memory cost beside Detectron2's RetinaNet with the same backbone?

Without CUDA nothing is done and the exit code is 0. It is 1 where a check failed: see "failed" in the file. The second
example goes the whole way on a CPU, too short to say anything.
"""


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="the JSON file")
    parser.add_argument("--device", default="cuda", help="such as cuda:1, or cpu (default cuda)")
    parser.add_argument("--iterations", type=int, default=300, help="of each training, at least 4 (default 300)")
    parser.add_argument("--patients", type=int, default=60, help="of the phantom (default 60)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides of the configuration")
    args = parser.parse_args(argv)
    if args.iterations < 4:
        parser.error("--iterations must be 4 or more")
    if args.device != "cpu" and not torch.cuda.is_available():
        print("skipped: there is no CUDA device (PyTorch sees none).")
        return 0
    begin = time.time()
    with tempfile.TemporaryDirectory() as folder:
        found = check(args, folder)
    found["seconds"] = round(time.time() - begin)
    write_json(args.output, found)
    print(f"{args.output}: {'failed: ' + ', '.join(found['failed']) if found['failed'] else 'all checks passed'}")
    return 1 if found["failed"] else 0


def check(args, folder: str) -> Dict:
    """All that the JSON file holds but for the time it took; ``failed`` has the names of the checks that failed."""
    phantom = os.path.join(folder, "datasets", "phantom")
    prepare = os.path.join(ROOT, "datasets", "prepare.py")
    run([sys.executable, prepare, "phantom", "--root", phantom, "--patients", str(args.patients)], folder, "phantom images")
    found = {"machine": machine(args.device), "iterations": args.iterations, "training": {}, "failed": []}

    def judge(name: str, passed: bool) -> None:
        if not passed:
            found["failed"].append(name)

    for precision, amp in PRECISIONS.items():
        output = os.path.join(folder, precision)
        seconds = run(training(args, folder, output, amp), folder, f"training in {precision}")
        first, last = losses(output)
        found["training"][precision] = {"seconds": seconds, "first_losses": first, "last_losses": last}
        if len(metrics(output)) > 1:
            judge(f"losses fall in {precision}", sum(last.values()) < sum(first.values()))
    found["resume"] = resume(args, folder)
    judge("resume", found["resume"]["weights_differ_by"] <= RESUME_TOLERANCE)
    found["prediction"] = compare_predictions(args, folder, phantom)
    for name, x in found["prediction"].items():
        judge(name, isinstance(x, str) or x["agreeing"] >= AGREEING)
    found["step"] = steps(args)
    return found


def machine(device: str) -> Dict[str, str]:
    name = platform.processor() or platform.machine() if device == "cpu" else torch.cuda.get_device_name(device)
    return {"device": name, "torch": torch.__version__, "cuda": torch.version.cuda, "tsdd_d2": tsdd_d2.__version__}


def configuration(args, amp: str) -> List[str]:
    """KEY VALUE of both trainings: half of the iterations between two checkpoints, the rounds after a third and two thirds."""
    data = [y for split in ("train", "val", "test") for y in (f"DATASETS.{split.upper()}", f"('phantom_fold1_{split}',)")]
    schedule = [
        "SOLVER.MAX_ITER", args.iterations, "SOLVER.CHECKPOINT_PERIOD", args.iterations // 2,
        "REFINEMENT.WARMUP_ITER", args.iterations // 3, "REFINEMENT.ROUNDS", 2, "TEST.EVAL_PERIOD", 0,
    ]  # fmt: skip
    device = ["MODEL.DEVICE", args.device, "SOLVER.AMP.ENABLED", amp, "DATASETS.P", 0.3, "TEST.BOOTSTRAP", 20]
    return [str(x) for x in [*FROM_SCRATCH, *data, *schedule, *device, *args.opts]]


def training(args, folder: str, output: str, amp: str, *options: str) -> List[str]:
    script = os.path.join(ROOT, "tools", "train_net.py")
    command = [sys.executable, "-c", DETERMINISTIC, script, "--config-file", CONFIG, *options]
    return [*command, *configuration(args, amp), "OUTPUT_DIR", output]


def environment(folder: str) -> Dict[str, str]:
    # the second one: what deterministic matrix products need
    return {**os.environ, "DETECTRON2_DATASETS": os.path.join(folder, "datasets"), "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def run(command: List[str], folder: str, what: str) -> float:
    """Seconds that a command took."""
    print(what, flush=True)
    begin = time.time()
    result = subprocess.run(command, env=environment(folder), capture_output=True, text=True)
    if result.returncode != 0:
        raise InputError(f"{what} failed:\n{(result.stdout + result.stderr)[-3000:]}")
    return round(time.time() - begin, 1)


def metrics(output: str) -> List[Dict]:
    """What the run wrote every 20 iterations: medians of these."""
    with open(os.path.join(output, "metrics.json"), encoding="utf-8") as file:
        return [x for x in map(json.loads, file) if LOSSES[0] in x]


def losses(output: str):
    """The losses at the beginning and at the end of a run."""
    return [{name: round(x[name], 4) for name in LOSSES if name in x} for x in (metrics(output)[0], metrics(output)[-1])]


def resume(args, folder: str) -> Dict:
    """Kills a run after half of its iterations, resumes it, and compares its last weights with those of the whole one."""
    output = os.path.join(folder, "resumed")
    print("training in float32, to be killed", flush=True)
    checkpoint = os.path.join(output, f"model_{args.iterations // 2 - 1:07d}.pth")
    command = training(args, folder, output, PRECISIONS["float32"])
    with subprocess.Popen(command, env=environment(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not os.path.exists(checkpoint) and process.poll() is None:
            time.sleep(0.005)
        process.kill()
    run(training(args, folder, output, PRECISIONS["float32"], "--resume"), folder, "resuming it")
    whole, resumed = (
        torch.load(os.path.join(x, "model_final.pth"), map_location="cpu", weights_only=True)["model"]
        for x in (os.path.join(folder, "float32"), output)
    )
    floats = [key for key, x in whole.items() if x.is_floating_point()]
    difference = max(((whole[x] - resumed[x]).norm() / whole[x].norm().clamp(min=1e-6)).item() for x in floats)
    return {"killed_after": args.iterations // 2, "weights_differ_by": difference, "tolerance": RESUME_TOLERANCE}


def compare_predictions(args, folder: str, phantom: str) -> Dict:
    """The answers on the device, and of the ONNX file that was exported there, beside the CPU's."""
    print("predictions", flush=True)
    torch.backends.cudnn.allow_tf32 = False  # its products have 10 bits
    path = os.path.join(folder, "model.pth")
    save_model_of_run(os.path.join(folder, "float32"), path, "model_final", 0.5)
    test = read_json(os.path.join(phantom, "annotations", "fold1_test.json"))["images"][:COMPARED_IMAGES]
    files = [os.path.join(phantom, x["file_name"]) for x in test]
    on_device = load_model(path, args.device)
    expected = Predictor(load_model(path, "cpu"))(files)
    found = {"prediction on the GPU": agreement(expected, Predictor(on_device)(files))}
    if all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime"))):
        from tsdd_d2.inference.onnx_predictor import OnnxPredictor

        found["export from the GPU"] = agreement(expected, OnnxPredictor(to_onnx(on_device))(read_images(files)))
    else:
        found["export from the GPU"] = "skipped: needs the extra, pip install -e '.[export]'"
    return found


def agreement(expected, found) -> Dict[str, float]:
    boxes = [max(abs(x - y) for x, y in zip(a.box, b.box)) for a, b in zip(expected, found)]
    probabilities = [abs(a.malignancy - b.malignancy) for a, b in zip(expected, found)]
    agreeing = [b <= BOX_TOLERANCE and p <= PROBABILITY_TOLERANCE for b, p in zip(boxes, probabilities)]
    return {
        "images": len(boxes),
        "agreeing": sum(agreeing) / len(boxes),
        "largest_box_difference": max(boxes),
        "largest_probability_difference": max(probabilities),
    }


def steps(args) -> Dict:
    """Median milliseconds of a training step, and the peak of memory, of both networks in both precisions."""
    found = {}
    for precision, amp in PRECISIONS.items():
        for architecture in ("TSDDStage1", "RetinaNet"):
            cfg = load_config(CONFIG, configuration(args, amp))
            cfg.defrost()
            cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.RETINANET.NUM_CLASSES = architecture, 2
            found[f"{architecture} in {precision}"] = step(cfg, args, precision == "mixed")
    return found


def step(cfg, args, mixed: bool) -> Dict[str, float]:
    on_gpu = args.device != "cpu"
    model = build_model(cfg).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    batch = random_batch(cfg, cfg.SOLVER.IMS_PER_BATCH)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(args.device)
    milliseconds = []
    with EventStorage():
        for _ in tqdm(range(min(30, args.iterations)), desc=f"steps of {cfg.MODEL.META_ARCHITECTURE}", disable=None):
            begin = time.perf_counter()
            with torch.autocast(torch.device(args.device).type, torch.bfloat16, enabled=mixed):
                loss = sum(model(batch).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if on_gpu:
                torch.cuda.synchronize(args.device)
            milliseconds.append(1e3 * (time.perf_counter() - begin))
    found = {"milliseconds": round(sorted(milliseconds)[len(milliseconds) // 2], 1)}
    if on_gpu:
        found["megabytes"] = round(torch.cuda.max_memory_allocated(args.device) / 1e6)
    return found


if __name__ == "__main__":
    sys.exit(main())
