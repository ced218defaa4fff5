#!/usr/bin/env python
"""Compares the speed of our parts with a peer in the same run; the last number printed is the ratio."""

import argparse
import importlib.util
import os
import statistics
import sys
import tempfile
import time

import torch
import torchvision
from torchvision.ops import roi_align
from tqdm import tqdm

import tsdd_d2  # noqa: F401 (registers our parts)
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from tsdd_d2 import load_model, save_model
from tsdd_d2.data import ensure_registered
from tsdd_d2.data.files import read_json
from tsdd_d2.engine.memory import keep_freed_memory
from tsdd_d2.engine.setup import load_config
from tsdd_d2.errors import reports_errors
from tsdd_d2.inference.export import export_model
from tsdd_d2.modeling.network import rois_in_tensor
from tsdd_d2.refinement import build_selection_rule, refine_rois, score_all_candidates
from tsdd_d2.refinement.round_loader import round_loader, round_mapper

EPILOG = """
Examples:

One round of candidate selection over the two bare forward passes on the same tensors:
    $ python tools/benchmark.py --task round --config-file configs/tsdd_stage1_cpu.yaml

The share of a second-stage training step that is not forward and backward of the two networks:
    $ python tools/benchmark.py --task stage2-step --config-file configs/tsdd_stage2_cpu.yaml

The second stage's network over Detectron2's RetinaNet with a ResNet-18 on its box, one image and a batch at a time:
    $ python tools/benchmark.py --task predict

PyTorch over the ONNX file of the same network in onnxruntime and in OpenVINO, one image and a batch at a time:
    $ python tools/benchmark.py --task export

Detectron2's RetinaNet training step over D-Net's, same backbone, input and batch, the paper's configuration:
    $ python tools/benchmark.py --task dnet-step
"""

# Boxes of an image that the peer in benchmark_predict is to find.
DETECTIONS = 10


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

    Twice: the first round of a run, which decodes and resizes the images, and any later one, which finds them in memory.
    """
    cfg = load_config(args.config_file or "configs/tsdd_stage1_cpu.yaml", random_weights(args.opts))
    name = cfg.DATASETS.TRAIN[0]
    ensure_registered(name)
    model = build_model(cfg).eval()
    dataset_dicts = DatasetCatalog.get(name)[: args.images]
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
            batches.append((images, model.cnet.crop(images.tensor, boxes)))

    def one_round(mapper):
        scored = score_all_candidates(model, round_loader(cfg, dataset_dicts, mapper), k)
        refine_rois(bbui, scored, rule, round_number=1, num_candidates=k)

    @torch.no_grad()
    def bare_forwards():
        for images, crops in batches:
            model.dnet.head(model.dnet.extract_features(images))
            model.cnet.classifier(model.cnet.resnet(crops))

    mapper = round_mapper(cfg, dataset_dicts)
    rounds = {
        "first round": lambda: one_round(round_mapper(cfg, dataset_dicts)),
        "round": lambda: one_round(mapper),
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
        batch = random_batch(cfg.SOLVER.IMS_PER_BATCH, cfg.INPUT.MIN_SIZE_TEST)

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
    batch = random_batch(cfg.SOLVER.IMS_PER_BATCH, cfg.INPUT.MIN_SIZE_TEST)
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


def benchmark_predict(args) -> None:
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
        batch = random_batch(batch_size, cfg.INPUT.MIN_SIZE_TEST)
        # With random weights all boxes have about the same score, and none or thousands would be above a fixed threshold:
        # this one lets as few through to NMS as a trained detector does.
        retinanet.test_score_thresh = 0.0
        retinanet.test_score_thresh = min(x.scores[-1].item() for x in detect(retinanet.preprocess_image(batch)))
        timings = alternate(lambda: model(batch), lambda: assembly(batch), args.repeats, f"{batch_size} image(s)")
        report(f"TSDDNet, {batch_size} image(s)", timings[0], "RetinaNet and ResNet-18", timings[1], timings[2])


def benchmark_export(args) -> None:
    """The second stage's network in PyTorch over its ONNX file in other runtimes, with as many threads."""
    cfg = load_config(args.config_file or "configs/tsdd_stage2_cpu.yaml", random_weights(args.opts))
    for batch_size in sorted({args.batch_size, 1}, reverse=True):
        batch = random_batch(batch_size, cfg.INPUT.MIN_SIZE_TEST)
        images = torch.stack([x["image"] for x in batch]).numpy()
        with tempfile.TemporaryDirectory() as folder:
            saved, exported = os.path.join(folder, "model.pth"), os.path.join(folder, "model.onnx")
            training_set = {"name": "none", "sha256": ""}
            save_model(saved, cfg, build_model(cfg), threshold=0.5, training_set=training_set)
            model_file = load_model(saved, device="cpu")
            print(f"exporting for {batch_size} image(s)", flush=True)
            export_model(model_file, exported, batch_size)
            runtimes = {**onnxruntime_session(exported), **openvino_requests(exported)}
        for name, run in runtimes.items():
            timings = alternate(
                lambda: model_file.model(batch), lambda run=run: run(images), args.repeats, f"{batch_size} image(s)"
            )
            report(f"PyTorch, {batch_size} image(s)", timings[0], name, timings[1], timings[2])


def onnxruntime_session(path: str):
    """``{name: function of the images}``, or nothing and a line that says so."""
    if importlib.util.find_spec("onnxruntime") is None:
        print("onnxruntime is not installed: skipped")
        return {}
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return {"onnxruntime": lambda images: session.run(None, {"images": images})}


def openvino_requests(path: str):
    """As :func:`onnxruntime_session`; in float32, where OpenVINO's own choice may be less exact."""
    if importlib.util.find_spec("openvino") is None:
        print("openvino is not installed: skipped")
        return {}
    import openvino

    options = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(path, "CPU", options).create_infer_request()
    return {"OpenVINO": lambda images: request.infer({"images": images})}


def random_batch(batch_size: int, side: int):
    """Square images of noise with one ROI of a third of their side, in the mapper's format."""
    generator = torch.Generator().manual_seed(0)
    batch = []
    for i in range(batch_size):
        corner = torch.rand(2, generator=generator) * side * 0.6
        instances = Instances((side, side))
        instances.gt_boxes = Boxes(torch.cat([corner, corner + side / 3])[None])
        instances.gt_classes = torch.tensor([i % 2])
        image = torch.randint(0, 256, (3, side, side), generator=generator, dtype=torch.uint8)
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
    "export": benchmark_export,
}


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument("--config-file", default="", help="default: the one the task is about")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of timings (default 5)")
    parser.add_argument("--batch-size", type=int, default=16, help="of predict and export (default 16)")
    parser.add_argument("--images", type=int, default=320, help="images in a round (default 320)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides of the configuration")
    args = parser.parse_args(argv)
    keep_freed_memory()  # as tools/train_net.py does
    TASKS[args.task](args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
