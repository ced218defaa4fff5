#!/usr/bin/env python
"""Measures how often each ranking of D-Net's boxes chooses the lesion, beside two yardsticks.

Trains D-Net and Detectron2's RetinaNet (one class: lesion) on the same images for the same iterations and prints the
share of images whose chosen box overlaps the ROI by IoU >= 0.5: for every ranking, for RetinaNet's objectness score,
and for the best of all regressed boxes, which no ranking can beat.
"""

import argparse
import sys

import pandas as pd
import torch
from torchvision.ops import box_iou
from tqdm import tqdm

from detectron2.data import DatasetCatalog, build_detection_train_loader
from detectron2.engine import SimpleTrainer
from detectron2.engine import hooks as d2_hooks
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from detectron2.utils.env import seed_all_rng

import tsdd_d2  # noqa: F401 (registers our parts)
from tsdd_d2.data.draws import DrawSampler, TrainingDraws
from tsdd_d2.data.files import write_json
from tsdd_d2.data.mapper import BBUIMapper
from tsdd_d2.engine import Stage1Trainer
from tsdd_d2.engine.setup import check_config, check_data, load_config
from tsdd_d2.errors import reports_errors
from tsdd_d2.modeling.network import rois_in_tensor
from tsdd_d2.modeling.ranking import RANKING_REGISTRY
from tsdd_d2.refinement.round_loader import round_loader

EPILOG = """
Examples:
    $ python tools/compare_rankings.py --output output/rankings.json
    $ python tools/compare_rankings.py --dataset busbra_fold1_test SOLVER.MAX_ITER 400
"""


class OneClass(torch.nn.Module):
    """A detector that is shown every lesion as class 0, whatever its diagnosis."""

    def __init__(self, detector, bfloat16: bool):
        super().__init__()
        self.detector = detector
        self.bfloat16 = bfloat16

    def forward(self, batch):
        for x in batch:
            x["instances"].gt_classes.zero_()
        with torch.autocast(self.detector.device.type, torch.bfloat16, enabled=self.bfloat16):
            return self.detector(batch)


class Progress(d2_hooks.HookBase):
    """A progress bar with ETA."""

    def __init__(self, description: str):
        self.description = description

    def before_train(self):
        self.bar = tqdm(total=self.trainer.max_iter, desc=self.description, unit="step")

    def after_step(self):
        self.bar.update()

    def after_train(self):
        self.bar.close()


def train_detector(cfg, architecture: str):
    """Trains a detector alone on the ROIs of DATASETS.TRAIN, with the draws and the optimiser of the first stage."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE = architecture
    cfg.MODEL.RETINANET.NUM_CLASSES = 1
    seed_all_rng(cfg.SEED)
    detector = build_model(cfg)
    optimizer = Stage1Trainer.build_optimizer(cfg, detector)
    dataset_dicts = [x for x in DatasetCatalog.get(cfg.DATASETS.TRAIN[0]) if x["annotations"]]
    num_draws = cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH
    loader = build_detection_train_loader(
        TrainingDraws(dataset_dicts, cfg.SEED, num_draws, cfg.SOLVER.IMS_PER_BATCH),
        mapper=BBUIMapper(cfg, is_train=True),
        sampler=DrawSampler(0, num_draws),
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=False,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
    trainer = SimpleTrainer(OneClass(detector, cfg.SOLVER.AMP.ENABLED), loader, optimizer)
    trainer.register_hooks(
        [d2_hooks.LRScheduler(scheduler=build_lr_scheduler(cfg, optimizer)), Progress(f"Training {architecture}")]
    )
    trainer.train(0, cfg.SOLVER.MAX_ITER)
    return detector.eval()


def best_iou(boxes: torch.Tensor, rois: torch.Tensor) -> float:
    """The largest IoU of (R, 4) boxes with (M, 4) ROIs."""
    return float(box_iou(boxes, rois).max()) if len(boxes) else 0.0


@torch.no_grad()
def overlaps_of_dnet(dnet, batches) -> dict:
    """Ranking (and "best regressed box") -> IoU with the ROI for each image."""
    overlaps = {}
    for batch in tqdm(batches, desc="Evaluating D-Net", unit="batch"):
        images = dnet.preprocess_image(batch)
        predictions = dnet.predict(dnet.extract_features(images))
        boxes = dnet.decode(predictions)
        for name, ranking in RANKING_REGISTRY:
            dnet.rank = ranking
            chosen = dnet.propose(predictions, images.image_sizes, 1)
            overlaps.setdefault(name, []).extend(
                best_iou(c.pred_boxes.tensor, roi) for c, roi in zip(chosen, rois_in_tensor(batch, images))
            )
        overlaps.setdefault("best regressed box", []).extend(
            best_iou(b, roi) for b, roi in zip(boxes, rois_in_tensor(batch, images))
        )
    return overlaps


@torch.no_grad()
def overlaps_of_retinanet(retinanet, batches) -> list:
    """IoU of RetinaNet's highest-scored box with the ROI for each image."""
    overlaps = []
    for batch in tqdm(batches, desc="Evaluating RetinaNet", unit="batch"):
        for x, output in zip(batch, retinanet(batch)):
            instances = output["instances"]
            top = instances.pred_boxes.tensor[instances.scores.argsort(descending=True)[:1]]
            overlaps.append(best_iou(top.cpu(), x["rois"]))
    return overlaps


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", default="configs/compare_rankings_cpu.yaml")
    parser.add_argument("--dataset", help="images to choose on (default: the first of DATASETS.VAL)")
    parser.add_argument("--output", metavar="FILE", help="write the figures to a JSON file")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides of the configuration")
    args = parser.parse_args(argv)
    cfg = load_config(args.config_file, args.opts)
    check_config(cfg)
    check_data(cfg)
    dataset = args.dataset or cfg.DATASETS.VAL[0]
    images = [x for x in DatasetCatalog.get(dataset) if x["annotations"]]
    batches = list(round_loader(cfg, images))
    overlaps = overlaps_of_dnet(train_detector(cfg, "DNet"), batches)
    overlaps["RetinaNet's objectness"] = overlaps_of_retinanet(train_detector(cfg, "RetinaNet"), batches)
    table = pd.DataFrame(
        {
            name: {"IoU >= 0.5": (pd.Series(x) >= 0.5).mean(), "mean IoU": pd.Series(x).mean()}
            for name, x in overlaps.items()
        }
    ).T.sort_values("IoU >= 0.5")
    table.index.name = f"{dataset}, {cfg.SOLVER.MAX_ITER} iterations"
    print(table.to_markdown(floatfmt=".3f"))
    if args.output:
        write_json(args.output, {"dataset": dataset, "iterations": cfg.SOLVER.MAX_ITER, "images": len(images), **table.T.to_dict()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
