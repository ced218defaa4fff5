#!/usr/bin/env python
"""Compares the speed of our parts with a peer in the same run; the last number printed is the ratio."""

import argparse
import contextlib
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Optional

import torch
import torchvision
from sklearn.metrics import roc_auc_score
from torchvision.ops import roi_align
from tqdm import tqdm

import tsdd_d2  # noqa: F401 (registers our parts)
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from tsdd_d2 import Predictor, load_model, save_model
from tsdd_d2.data import ensure_registered
from tsdd_d2.data.files import read_json
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.engine.final_evaluation import evaluated_sets
from tsdd_d2.engine.trainer import decoded_training_images
from tsdd_d2.errors import InputError, reports_errors
from tsdd_d2.inference.export import to_onnx
from tsdd_d2.inference.input_images import read_images
from tsdd_d2.memory import keep_freed_memory
from tsdd_d2.method import METHODS
from tsdd_d2.modeling.network import rois_in_tensor
from tsdd_d2.refinement import build_selection_rule, refine_rois, score_all_candidates
from tsdd_d2.refinement.round_loader import round_loader

EPILOG = """
Examples:

One round of candidate selection over the two bare forward passes on the same tensors:
    $ python tools/benchmark.py --task round --config-file configs/tsdd_stage1_cpu.yaml

The share of a second-stage training step that is not forward and backward of the two networks:
    $ python tools/benchmark.py --task stage2-step --config-file configs/tsdd_stage2_cpu.yaml

From image files to results on one core, in PyTorch, as ONNX files, by the compared YOLOs and, where ultralytics is installed,
by its YOLO11n; with a trained model its AUC on the test (or else validation) images too:
    $ python tools/benchmark.py --task predict
    $ python tools/benchmark.py --task predict --model model.pth --peer

The second stage's network over Detectron2's RetinaNet with a ResNet-18 on its box, one image and a batch at a time:
    $ python tools/benchmark.py --task assembly

Training from ImageNet weights until it is as good as from random initialisation, on BUS-BRA, over the latter:
    $ python tools/benchmark.py --task time-to-quality

Detectron2's RetinaNet training step over D-Net's, same backbone, input and batch, the paper's configuration:
    $ python tools/benchmark.py --task dnet-step
"""

# Boxes of an image that the peer in benchmark_assembly is to find.
DETECTIONS = 10
# Of benchmark_predict.
CPU_PROFILE, SCRATCH_PROFILE = "configs/tsdd_stage2_cpu.yaml", "configs/tsdd_stage2_scratch.yaml"
CALIBRATION_IMAGES, PEER_SIZE = 100, 320
COMPARED = ("yolov4", "yolov7")


def alternate(first, second, repeats: int, description: str):
    """Times two callables in turn, after one warm-up each; returns their seconds and the ratios pair by pair."""
    first(), second()
    times = [], []
    for _ in tqdm(range(repeats), desc=description, unit="pair"):
        for call, seconds in zip((first, second), times):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
    return times[0], times[1], [a / b for a, b in zip(*times)]


def report(first_name, first, second_name, second, ratios):
    print(f"{first_name}: median {statistics.median(first):.3f} s")
    print(f"{second_name}: median {statistics.median(second):.3f} s")
    print(f"ratio {first_name} / {second_name}, median of {len(ratios)} pairs: {statistics.median(ratios):.3f}")


def benchmark_round(args) -> None:
    """A whole round (loading, both networks, ranking, crops, selection) over the bare forwards of both networks.

    Twice: the first round of a run, which decodes the images, and any later one, which finds them in memory.
    """
    cfg = load_config(args.config_file or "configs/tsdd_stage1_cpu.yaml", random_weights(args.opts))
    name = cfg.DATASETS.TRAIN[0]
    ensure_registered(name)
    model = build_model(cfg).eval()
    dataset_dicts = DatasetCatalog.get(name)[: args.images or 320]
    ids = {x["image_id"] for x in dataset_dicts}
    bbui = read_json(MetadataCatalog.get(name).json_file)
    bbui["images"] = [x for x in bbui["images"] if x["id"] in ids]
    bbui["annotations"] = [x for x in bbui["annotations"] if x["image_id"] in ids]
    k, rule = cfg.REFINEMENT.CANDIDATES_PER_ROUND, build_selection_rule(cfg)

    # the tensors that the bare forwards see are those of the round: same batches, same padding, same crops
    batches = []
    with torch.no_grad():
        for batch in round_loader(cfg, dataset_dicts):
            images = model.dnet.preprocess_image(batch)
            proposals = model.propose(images, model.dnet.extract_features(images), k)
            boxes = [torch.cat([x.pred_boxes.tensor, roi]) for x, roi in zip(proposals, rois_in_tensor(batch, images))]
            batches.append((images, torch.cat([model.cnet.crop(images.tensor, boxes, view) for view in model.cnet.views])))

    def one_round(read_pixels):
        scored = score_all_candidates(model, round_loader(cfg, dataset_dicts, read_pixels), k)
        refine_rois(bbui, scored, rule, round_number=1, num_candidates=k)

    @torch.no_grad()
    def bare_forwards():
        for images, crops in batches:
            model.dnet.head(model.dnet.extract_features(images))
            model.cnet.classifier(model.cnet.resnet(crops))

    decoded = decoded_training_images(cfg)
    rounds = {
        "first round": lambda: one_round(decoded_training_images(cfg)),
        "round": lambda: one_round(decoded),
    }
    for title, whole_round in rounds.items():
        timings = alternate(whole_round, bare_forwards, args.repeats, f"{title}, {len(ids)} images")
        report(title, timings[0], "bare forwards", timings[1], timings[2])


def benchmark_dnet_step(args) -> None:
    """Detectron2's RetinaNet over D-Net: forward, losses, backward and optimiser step on the same random batch."""
    cfg = load_config(args.config_file or "configs/tsdd_stage1.yaml", random_weights(args.opts))
    steps = []
    for architecture in ("RetinaNet", "DNet"):
        model_cfg = cfg.clone()
        model_cfg.defrost()
        model_cfg.MODEL.META_ARCHITECTURE = architecture
        model_cfg.MODEL.RETINANET.NUM_CLASSES = 2
        model = build_model(model_cfg).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
        batch = random_batch(cfg, cfg.SOLVER.IMS_PER_BATCH)

        def step(model=model, optimizer=optimizer, batch=batch):
            losses = sum(model(batch).values())
            optimizer.zero_grad()
            losses.backward()
            optimizer.step()

        steps.append(step)
    with EventStorage():
        timings = alternate(*steps, args.repeats, "training steps")
    report("RetinaNet step", timings[0], "D-Net step", timings[1], timings[2])


def benchmark_stage2_step(args) -> None:
    """What a training step of the second stage costs beside D-Net's and C-Net's forward and backward."""
    cfg = load_config(args.config_file or "configs/tsdd_stage2.yaml", random_weights(args.opts))
    model = build_model(cfg).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, fused=True)
    batch = random_batch(cfg, cfg.SOLVER.IMS_PER_BATCH)
    # the tensors that the bare networks see are those of the step
    images = model.dnet.preprocess_image(batch)
    crops = model.cnet.crop(images.tensor, [x["instances"].gt_boxes.tensor for x in batch])
    autocast = torch.autocast(model.device.type, torch.bfloat16, enabled=model.bfloat16)

    def whole_step():
        losses = sum(model(batch).values())
        optimizer.zero_grad()
        losses.backward()
        optimizer.step()

    def bare_networks():
        with autocast:
            deltas, quality_logits = model.dnet.head(model.dnet.extract_features(images))
            outputs = [*deltas, *quality_logits, model.cnet.resnet(crops)]
        optimizer.zero_grad()
        sum(x.float().sum() for x in outputs).backward()

    with EventStorage():
        timings = alternate(whole_step, bare_networks, args.repeats, "training steps")
    print(f"step: median {statistics.median(timings[0]):.3f} s")
    print(f"bare networks: median {statistics.median(timings[1]):.3f} s")
    shares = [1 - b / a for a, b in zip(timings[0], timings[1])]
    print(f"share of the step outside the networks, median of {len(shares)} pairs: {statistics.median(shares):.3f}")


def benchmark_assembly(args) -> None:
    """The second stage's network over what a user would assemble: Detectron2's RetinaNet, then ResNet-18 on its box."""
    cfg = load_config(args.config_file or "configs/tsdd_stage2.yaml", random_weights(args.opts))
    model = build_model(cfg).eval()
    retinanet_cfg = cfg.clone()
    retinanet_cfg.defrost()
    retinanet_cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    retinanet_cfg.MODEL.RETINANET.NUM_CLASSES = 1
    retinanet_cfg.TEST.DETECTIONS_PER_IMAGE = DETECTIONS
    retinanet = build_model(retinanet_cfg).eval()
    classifier = torchvision.models.resnet18(num_classes=2).eval()

    @torch.no_grad()
    def detect(images):
        features = retinanet.backbone(images.tensor)
        features = [features[name] for name in retinanet.head_in_features]
        return retinanet.forward_inference(images, features, retinanet.head(features))

    @torch.no_grad()
    def assembly(batch):
        images = retinanet.preprocess_image(batch)
        boxes = [x.pred_boxes.tensor[:1] for x in detect(images)]
        crops = roi_align(images.tensor, boxes, output_size=cfg.MODEL.CNET.INPUT_SIZE, sampling_ratio=1, aligned=True)
        return classifier(crops).softmax(dim=1)

    for batch_size in sorted({args.batch_size, 1}, reverse=True):
        batch = random_batch(cfg, batch_size)
        # With random weights all boxes have about the same score, and none or thousands would be above a fixed threshold:
        # this one lets as few through to NMS as a trained detector does.
        retinanet.test_score_thresh = 0.0
        retinanet.test_score_thresh = min(x.scores[-1].item() for x in detect(retinanet.preprocess_image(batch)))
        timings = alternate(lambda: model(batch), lambda: assembly(batch), args.repeats, f"{batch_size} image(s)")
        report(f"TSDDNet, {batch_size} image(s)", timings[0], "RetinaNet and ResNet-18", timings[1], timings[2])


def benchmark_predict(args) -> None:
    """From image files to results on one core: CPU time, so that it does not matter what else runs.

    PyTorch with the profile from scratch is the yardstick; speed does not depend on the weights.
    """
    from tsdd_d2.inference.onnx_predictor import OnnxPredictor, quantize  # needs the extra "export"

    on_one_core()
    with tempfile.TemporaryDirectory() as folder:
        model_file = load_model(args.model or random_model(args, folder, args.config_file or CPU_PROFILE), device="cpu")
        test = labelled_images(evaluated_sets(model_file.cfg)[0], args.images or None)
        calibration = [path for path, _ in labelled_images(model_file.cfg.DATASETS.TRAIN[0], CALIBRATION_IMAGES)]
        print("exporting and quantising", flush=True)
        network = to_onnx(model_file)
        quantised = quantize(network, read_images(calibration))
        ours, from_scratch = Predictor(model_file), random_model(args, folder, args.config_file or SCRATCH_PROFILE)
        in_onnx = {"ONNX in float32": OnnxPredictor(network), "ONNX in int8": OnnxPredictor(quantised)}
        compared = {METHODS[x].title: load_model(random_model(args, folder, method=x), device="cpu") for x in COMPARED}
        contestants = {
            "PyTorch, profile from scratch": Predictor(load_model(from_scratch, device="cpu")),
            "PyTorch": ours,
            **{name: from_files(x) for name, x in in_onnx.items()},
            **{name: Predictor(x) for name, x in compared.items()},
            **{f"{name}, ONNX in float32": from_files(OnnxPredictor(to_onnx(x))) for name, x in compared.items()},
            **(peer(folder) if args.peer else {}),
        }
        paths = [path for path, _ in test]
        medians = {
            number: cpu_milliseconds(contestants, (paths * number)[:number], args.repeats)
            for number in sorted({1, args.batch_size})
        }
        if args.model:
            report_auc({"PyTorch": ours, **in_onnx}, test)
    for number, times in medians.items():
        for name, time_ in times.items():
            print(f"{name}, {number} image(s): {time_:.1f} ms of CPU time, {time_ / number:.1f} for each")
    for number, times in medians.items():
        for name, time_ in list(times.items())[1:]:
            print(f"ratio PyTorch, profile from scratch / {name}, {number} image(s): {list(times.values())[0] / time_:.2f}")


def on_one_core() -> None:
    """Keeps this process, and all runtimes that count cores, on one."""
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def from_files(predictor):
    """A predictor of decoded images as one of files."""
    return lambda paths: predictor(read_images(paths))


def random_model(args, folder: str, config_file: str = "", method: Optional[str] = None) -> str:
    """A model file with random weights."""
    cfg = load_config(config_file, random_weights(args.opts), method=method)
    path = os.path.join(folder, f"{method or os.path.basename(config_file)}.pth")
    save_model(path, cfg, build_model(cfg), threshold=0.5, training_set={"name": "none", "sha256": ""})
    return path


def labelled_images(name: str, at_most: Optional[int]):
    """(path, whether it is malignant) of images of a data set, evenly chosen."""
    ensure_registered(name)
    found = [(x["file_name"], bool(x["category_id"])) for x in DatasetCatalog.get(name)]
    return found[:: -(-len(found) // at_most)] if at_most else found


def peer(folder: str):
    """Ultralytics' YOLO11n at 320 pixels in its own ONNX file, with random weights; nothing where it is not installed."""
    if importlib.util.find_spec("ultralytics") is None:
        print("ultralytics is not installed: YOLO11n is left out")
        return {}
    os.environ["YOLO_AUTOINSTALL"] = "false"  # it would install packages of its own choice
    from ultralytics import YOLO

    with contextlib.chdir(folder) if hasattr(contextlib, "chdir") else contextlib.nullcontext():
        exported = os.path.abspath(YOLO("yolo11n.yaml").export(format="onnx", imgsz=PEER_SIZE, device="cpu", simplify=False))
    network = YOLO(exported, task="detect")
    return {"YOLO11n at 320": lambda paths: network.predict(paths, imgsz=PEER_SIZE, device="cpu", verbose=False)}


def cpu_milliseconds(contestants, paths, repeats: int):
    """The median CPU time of each, taken in turn after a warm-up."""
    times = {name: [] for name in contestants}
    for round_ in tqdm(range(repeats + 1), desc=f"{len(paths)} image(s)", unit="round"):
        for name, predict in contestants.items():
            begin = time.process_time()
            predict(paths)
            if round_ > 0:
                times[name].append(time.process_time() - begin)
    return {name: 1e3 * statistics.median(x) for name, x in times.items()}


def report_auc(predictors, test) -> None:
    """The AUC of each, by the same images in the same order."""
    paths, malignant = zip(*test)
    for name, predict in predictors.items():
        images = read_images(tqdm(paths, desc=name, unit="image"))
        predictions = [x for _, x in predict.predict(images)] if isinstance(predict, Predictor) else predict(images)
        auc = roc_auc_score(malignant, [x.malignancy for x in predictions])
        print(f"AUC on {len(test)} images, {name}: {auc:.4f}")


def benchmark_time_to_quality(args) -> None:
    """Both stages from ImageNet weights over both from random initialisation: the seconds until the validation AUC with which
    the latter end, and the peak memory of the training process.
    """
    train = os.path.join(os.path.dirname(os.path.abspath(__file__)), "train_net.py")
    options = ["--data", "busbra", "--fold", "1", "DATASETS.P", "0.2", *args.opts]
    validations, memory = {}, {}
    for profile in ("scratch", "cpu"):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, train, "--profile", profile, *options, "OUTPUT_DIR", folder]
            start, found = time.perf_counter(), []
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
                time.sleep(1)
                aucs = [x for stage in ("tsddnet_stage1", "") for x in validation_aucs(os.path.join(folder, stage))]
                found += [(time.perf_counter() - start, auc) for auc in aucs[len(found) :]]
            _, status, usage = ended
            if status:
                raise InputError(f"{' '.join(command)}: exit status {status}")
        validations[profile], memory[profile] = found, usage.ru_maxrss / 2**20
        print(f"{profile}: {', '.join(f'{auc:.3f} after {seconds:.0f} s' for seconds, auc in found)}")
    quality = validations["scratch"][-1][1]
    seconds = {k: next((s for s, auc in found if auc >= quality), math.nan) for k, found in validations.items()}
    print(f"validation AUC {quality:.3f}: cpu after {seconds['cpu']:.0f} s, scratch after {seconds['scratch']:.0f} s")
    print(
        f"peak memory: cpu {memory['cpu']:.2f} GB, scratch {memory['scratch']:.2f} GB, ratio {memory['cpu'] / memory['scratch']:.3f}"
    )
    print(f"ratio of the seconds, cpu / scratch: {seconds['cpu'] / seconds['scratch']:.3f}")


def validation_aucs(run: str):
    """The validation AUCs in the metrics.json of a run so far, oldest first."""
    path = os.path.join(run, "metrics.json")
    if not os.path.isfile(path):
        return []
    with open(path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file if line.endswith("\n")]
    return [x["diagnosis/AUC"] for x in lines if "diagnosis/AUC" in x]


def random_batch(cfg, batch_size: int):
    """Square images of noise with one ROI of a third of their side, in the mapper's format."""
    side, channels = cfg.INPUT.MIN_SIZE_TEST, len(cfg.MODEL.PIXEL_MEAN)
    generator = torch.Generator().manual_seed(0)
    batch = []
    for i in range(batch_size):
        corner = torch.rand(2, generator=generator) * side * 0.6
        instances = Instances((side, side))
        instances.gt_boxes = Boxes(torch.cat([corner, corner + side / 3])[None])
        instances.gt_classes = torch.tensor([i % 2])
        image = torch.randint(0, 256, (channels, side, side), generator=generator, dtype=torch.uint8)
        batch.append({"image": image, "instances": instances, "height": side, "width": side})
    return batch


def random_weights(opts):
    """Speed does not depend on the weights: none are loaded."""
    return [*opts, "MODEL.WEIGHTS", "", "MODEL.CNET.WEIGHTS", ""]


TASKS = {
    "round": benchmark_round,
    "dnet-step": benchmark_dnet_step,
    "stage2-step": benchmark_stage2_step,
    "predict": benchmark_predict,
    "assembly": benchmark_assembly,
    "time-to-quality": benchmark_time_to_quality,
}


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument("--config-file", default="", help="default: the one the task is about")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of timings (default 5)")
    parser.add_argument("--batch-size", type=int, default=16, help="of predict and assembly (default 16)")
    parser.add_argument("--images", type=int, help="of a round (default 320), or of predict's AUC (default: all)")
    parser.add_argument("--model", metavar="FILE", help="a model file for predict (default: random weights)")
    parser.add_argument("--peer", action="store_true", help="predict: time YOLO11n too, where ultralytics is installed")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides of the configuration")
    args = parser.parse_args(argv)
    keep_freed_memory()  # as tools/train_net.py does
    TASKS[args.task](args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
