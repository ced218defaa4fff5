#!/usr/bin/env python
"""Does the class label move a coarse box to where it should be? Rules of refinement on coarse boxes of which the exact ones
are known, each beside the same rule with shuffled labels.

It trains a first stage on the coarse boxes of half of the training patients, scores candidates for each image, and compares the
rules of tsdd_d2/experiments/coarse.py: on the other half, as cross-fitting would, and on the images that it has seen. Free
parameters are chosen on validation images, whose exact boxes are looked at for nothing else; test images only report.
"""

import argparse
import os
import sys
from functools import partial
from typing import Dict, List, Tuple

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

import tsdd_d2  # noqa: F401 (registers our parts)
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
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.engine.trainer import Trainer
from tsdd_d2.errors import InputError, reports_errors
from tsdd_d2.evaluation.statistics import diagnosis_metrics, patient_bootstrap
from tsdd_d2.evaluation.tables import markdown_table
from tsdd_d2.experiments.coarse import (
    COARSE,
    FOUND,
    MEAN,
    RULES,
    SAME,
    Candidates,
    candidates_of,
    centres_and_sides,
    choose_parameter,
    elementwise_iou,
    is_near,
    likely_scale,
    mean_at_coarse_size,
    rank_correlations,
    refined,
    scale_to_coarse,
    taken,
    transformed,
    without_habits,
)
from tsdd_d2.experiments.figures import COLOURS, OUR_COLOUR, WIDTH, save_figure
from tsdd_d2.inference.input_images import read_pixels
from tsdd_d2.method import EVERYTHING
from tsdd_d2.modeling.network import boxes_in_original, rois_in_tensor
from tsdd_d2.modeling.weights import load_cnet, load_detector_backbone
from tsdd_d2.visualization import Cell, ComparisonRow, comparison_figure

# The small profile, shorter: each network sees its images ten times.
OPTIONS = [
    "MODEL.CNET.DNET_BOX_PROBABILITY", 0.0, "SOLVER.BASE_LR", 5e-4, "REFINEMENT.ENABLED", False, "SOLVER.MAX_ITER", 300,
]  # fmt: skip
# The half of the training patients that the networks learn from, the other one, whose boxes are refined, and the rest.
SPLITS = ("seen", "train", "val", "test")


def train(cfg, images: List[Dict], read_pixels, description: str) -> nn.Module:
    """A network of the configuration, trained on images without what training must not see; in eval mode."""
    torch.manual_seed(cfg.SEED)
    model = build_model(cfg)
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
def cnet_features(model: nn.Module, batches) -> np.ndarray:
    """(N, C, F) float16, C-Net's features of the ``rois`` of each image."""
    features = []
    for batch in batches:
        images = (model.dnet if hasattr(model, "dnet") else model).preprocess_image(batch)
        found = model.cnet.features(images.tensor, rois_in_tensor(batch, images))
        features.append(found.view(len(batch), -1, found.shape[1]).numpy().astype(np.float16))
    return np.concatenate(features)


def malignancy(model: nn.Module, features: np.ndarray) -> np.ndarray:
    """(N, C) C-Net's probability of malignant for features (N, C, F)."""
    with torch.no_grad():
        logits = model.cnet.classifier(torch.from_numpy(features).float())
    return logits.softmax(dim=-1)[..., 1].numpy()


def batches_of(images: List[Dict], boxes, mapper, description: str, size: int = 4):
    """Mapped images with the boxes (N, C, 4) as their ``rois``."""
    for start in tqdm(range(0, len(images), size), desc=description, mininterval=30):
        some = images[start : start + size]
        yield [
            {**mapper(x), "rois": torch.as_tensor(b, dtype=torch.float32)} for x, b in zip(some, boxes[start : start + size])
        ]


def collect(cfg, data: str, fold: int, folder: str) -> Dict[str, np.ndarray]:
    """Classes, boxes and scores of all images; what takes long is kept in the folder."""
    images = [x for split in SPLITS[1:] for x in load_split(f"{data}_fold{fold}_{split}")]
    half_of = halves_of_training_patients(f"{data}_fold{fold}_train", cfg.SEED)
    in_file = np.array([split for split in SPLITS[1:] for _ in load_split(f"{data}_fold{fold}_{split}")])
    splits = np.array(["seen" if half_of.get(x["patient_id"]) == 2 else split for x, split in zip(images, in_file)])
    patients, classes = (np.array([x[key] for x in images]) for key in ("patient_id", "category_id"))
    shuffled = shuffle_over_patients(classes, patients, splits, np.random.RandomState(cfg.SEED))
    coarse = np.stack([rois_xyxy(x)[0] for x in images])
    sizes = np.array([[x["height"], x["width"]] for x in images])

    def kept(name, make):
        """An array that is made once."""
        path = os.path.join(folder, f"{name}.npy")
        if not os.path.exists(path):
            values = make()
            with replacing(path, "wb") as file:
                np.save(file, values)
        return np.load(path)

    pixels = DecodedImages(images, 2**31)
    mapper = BBUIMapper(cfg, is_train=False, read_pixels=pixels)
    model = trained_network(cfg, [x for x, split in zip(images, splits) if split == "seen"], pixels, folder)
    found = kept("found", lambda: found_boxes(model, batches_of(images, coarse[:, None], mapper, "D-Net's boxes")))
    boxes = candidates_of(coarse, found, sizes)
    features = kept("features", lambda: cnet_features(model, batches_of(images, boxes, mapper, "candidates")))
    # of the control the head alone is trained, on the shuffled classes
    head = linear_head(features[splits == "seen", COARSE[SAME]], shuffled[splits == "seen"])
    return {
        "split": splits,
        "patient": patients,
        "file_name": np.array([os.path.basename(x["file_name"]) for x in images]),
        "malignant": classes,
        "shuffled": shuffled,
        "true": np.array([to_xyxy(x["true_bbox"]) for x in images]),
        "boxes": boxes,
        "of_class": malignancy(model, features),
        "control": head.predict_proba(features.reshape(-1, features.shape[2]).astype(np.float32))[:, 1].reshape(
            boxes.shape[:2]
        ),
    }


def halves_of_training_patients(name: str, seed: int) -> Dict[str, int]:
    """Patient -> 1 or 2, stratified by class."""
    ensure_registered(name)
    return assign_folds(patient_classes(read_json(MetadataCatalog.get(name).json_file)), 2, seed)


def trained_network(cfg, images: List[Dict], pixels: DecodedImages, folder: str) -> nn.Module:
    """The first stage on these images, kept in the folder."""
    path = os.path.join(folder, "network.pth")
    if not os.path.exists(path):
        state_dict = train(cfg, images, pixels, "training").state_dict()
        with replacing(path, "wb") as file:
            torch.save(state_dict, file)
    model = build_model(cfg).eval()
    model.load_state_dict(torch.load(path, weights_only=True))
    return model


def linear_head(features: np.ndarray, classes: np.ndarray):
    """Logistic regression, as strong as keeps the probabilities of a head that is trained with the network."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=1000)).fit(
        features.astype(np.float32), classes
    )


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


# ---------------------------------------------------------------- what the scores say


def candidates_by(scores: Dict[str, np.ndarray], scorer: str) -> Candidates:
    """The candidates with the scores of "of_class"; of "control", with the shuffled classes; or of "predicted", of_class with the
    likelier class of each box in the place of the image's own."""
    if scorer == "predicted":
        x = candidates_by(scores, "of_class")
        return x._replace(logits=np.abs(x.logits))
    probabilities = scores[scorer].astype(float).clip(1e-6, 1 - 1e-6)
    is_malignant = (scores["shuffled"] if scorer == "control" else scores["malignant"])[:, None] == 1
    logits = np.log(probabilities / (1 - probabilities))
    return Candidates(scores["boxes"].astype(float), np.where(is_malignant, logits, -logits), scores["split"] == "train")


def rule_rows(scores: Dict[str, np.ndarray]) -> Tuple[List[Dict], Dict[str, np.ndarray]]:
    """A row of figures for each rule, and the boxes of each by its title."""
    split, true, patients = scores["split"], scores["true"], scores["patient"]
    classes = candidates_by(scores, "of_class")
    baseline = elementwise_iou(refined(BASELINE, classes, choose_parameter(BASELINE, classes, true, split == "val")), true)
    manual = elementwise_iou(classes.manual, true)
    rows, boxes = [], {}
    for rule in RULES:
        parameter = choose_parameter(rule, classes, true, split == "val")
        boxes[rule.title] = refined(rule, classes, parameter)
        iou = elementwise_iou(boxes[rule.title], true)
        row = {"rule": rule.title, "parameter": parameter if len(rule.parameters) > 1 else None}
        row |= {f"IoU {x}": float(iou[split == x].mean()) for x in SPLITS}
        for x in ("train", "test"):
            row |= difference(x, iou - manual, patients, split == x, "to coarse")
            row |= difference(x, iou - baseline, patients, split == x, "to best without class")
        for control, name in (("control", "shuffled"), ("predicted", "predicted class")) if rule.of_class else ():
            x = candidates_by(scores, control)
            of_control = refined(rule, x, choose_parameter(rule, x, true, split == "val"))
            gain = iou - elementwise_iou(of_control, true)
            row |= difference("train", gain, patients, split == "train", f"to {name}")
            row |= difference("test", gain, patients, split == "test", f"to {name}")
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
    rows = []
    for scorer, title in (("of_class", "C-Net"), ("control", "head trained on shuffled classes")):
        x = candidates_by(scores, scorer)
        for split in SPLITS:
            where = scores["split"] == split
            taus = rank_correlations(x.boxes[where], x.logits[where], scores["true"][where])
            means = {name: float(x.log_probabilities[where][:, i].mean()) for name, i in LIKELIHOODS.items()}
            labels = (scores["malignant"] if scorer == "of_class" else scores["shuffled"])[where]
            aucs = {name: float(roc_auc_score(labels, scores[scorer][where][:, i])) for name, i in AUCS.items()}
            rows.append({"scores of": title, "images": split, **taus, **means, **aucs})
    return rows


def reader_rows(scores: Dict[str, np.ndarray]) -> List[Dict]:
    """Two readers of different habits, who divide the patients by turns."""
    _, patients = np.unique(scores["patient"], return_inverse=True)
    control = without_habits(candidates_by(scores, "control"), patients % 2)["by evidence"]
    of_readers = without_habits(candidates_by(scores, "of_class"), patients % 2)
    boxes = {**of_readers, "by evidence, shuffled": control}
    return [
        {
            "boxes": name,
            **{f"IoU {x}": float(elementwise_iou(b, scores["true"])[scores["split"] == x].mean()) for x in SPLITS},
        }
        for name, b in boxes.items()
    ]


def pa_rows(scores: Dict[str, np.ndarray]) -> List[Dict]:
    """D-Net's boxes of images as if these had no coarse one, and what scales that are learned on training images make of them."""
    x, control = (candidates_by(scores, scorer) for scorer in ("of_class", "control"))
    x, control = (y._replace(fit=y.fit & is_near(y)) for y in (x, control))
    scales = {
        FOUND_BOX: 1.0,
        "as large as the coarse ones": scale_to_coarse(x),
        "scaled by the size habit": likely_scale(x),
        "scaled by the size habit, shuffled": likely_scale(control),
    }
    rows = []
    for name, scale in scales.items():
        iou = elementwise_iou(transformed(x.found, scale), scores["true"])
        rows.append(
            {"boxes": name, "scale": scale, **{f"IoU {s}": float(iou[scores["split"] == s].mean()) for s in SPLITS[1:]}}
        )
    return rows


# Mean log probability of the class on these boxes.
LIKELIHOODS = {"log p, coarse": COARSE[SAME], "log p, mean": MEAN, "log p, D-Net": FOUND[SAME]}
AUCS = {"AUC, coarse": COARSE[SAME], "AUC, D-Net": FOUND[SAME]}
FOUND_BOX = "D-Net's box"
# The best rule without class, on validation images.
BASELINE = next(x for x in RULES if x.select is mean_at_coarse_size)


def scale_figure(scores: Dict[str, np.ndarray]) -> Figure:
    """Probability of the true class over the size of a candidate in that of the true box, on test images."""
    figure = Figure(figsize=(WIDTH, WIDTH * 0.75), layout="constrained")
    axes = figure.add_subplot()
    test = scores["split"] == "test"
    edges = np.geomspace(0.5, 2.2, 10)
    for scorer, label, colour in (("of_class", "C-Net", OUR_COLOUR), ("control", "shuffled classes", COLOURS[-1])):
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
    x = candidates_by(scores, "of_class")
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


def probe_rows(scores: Dict[str, np.ndarray], features: np.ndarray) -> List[Dict]:
    """What a new head of C-Net learns from each kind of box of the other half, diagnosing D-Net's boxes."""
    split, classes, patients = scores["split"], scores["malignant"], scores["patient"]
    x = candidates_by(scores, "of_class")
    train, val, test = (split == y for y in SPLITS[1:])
    same = np.zeros(len(split), int)
    higher = x.logits[:, FOUND[SAME]] > x.logits[:, COARSE[SAME]]
    kinds = {
        "coarse box": same + COARSE[SAME],
        FOUND_BOX: same + FOUND[SAME],
        "mean of both boxes": same + MEAN,
        "better score of both": np.where(higher, FOUND[SAME], COARSE[SAME]),
    }
    rows, reference = [], None
    diagnosed = features[:, FOUND[SAME]].astype(np.float32)
    for title, places in kinds.items():
        head = linear_head(taken(features, places)[train], classes[train])
        p = head.predict_proba(diagnosed)[:, 1]
        reference = p if reference is None else reference
        gain = patient_bootstrap(patients[test], partial(gain_in_auc, classes[test], p[test], reference[test]))["AUC"]
        aucs = {f"AUC {name}": float(roc_auc_score(classes[y], p[y])) for name, y in (("val", val), ("test", test))}
        gains = {
            f"AUC to coarse, test{suffix}": gain[k] for suffix, k in (("", "value"), (" low", "low"), (" high", "high"))
        }
        rows.append({"trained on": title, **aucs, **gains})
    return rows


def gain_in_auc(labels: np.ndarray, a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> Dict[str, np.ndarray]:
    """``{"AUC": (...)}``, that of probabilities ``a`` less that of ``b``, all (N,), for (..., N) weights."""
    auc_a, auc_b = (diagnosis_metrics(labels, x, weights=weights)["AUC"] for x in (a, b))
    return {"AUC": auc_a - auc_b}


def table(rows: List[Dict]) -> str:
    """In Markdown, with an interval behind its figure."""
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

Networks learned from half of the training patients ("seen"); the rules are judged on the boxes of the other half ("train"). The
parameter is chosen on the validation images. Differences are in IoU, on "train": to the coarse box, to the best rule without
class, and to the same rule with classes that were shuffled over the patients, on which C-Net's head was trained anew, or with
C-Net's likelier class in the place of the image's own. Size is that of the box's side over the true one, a geometric mean. Where
D-Net's box overlaps the coarse one by less than an IoU of 0.3 every rule leaves the coarse one: {far:.1%} of the boxes of "train".

{rules}

## Images without a coarse box

D-Net's boxes, also where they show something else, and one scale for all of them: that at which they are as large as the coarse
ones on "train", or that of the highest likelihood of the classes there.

{pa}

## Habits of readers

Each of two readers draws all boxes by a factor of 1.26 too large, or 0.79 too small, and each habit is estimated from all of the
reader's boxes: by the likelihood of the classes, or by the size of D-Net's boxes. (The networks learned from boxes without a
habit.)

{readers}

## How C-Net's score ranks candidates

Kendall's rank correlation of the score of the true class with the IoU of all candidates; with the fit of the size, of D-Net's box
in seven scales; with the fit of the centre, of D-Net's box and four shifts. Beside it the mean log probability of the class.

{ranking}

![Probability over size](coarse_scale.png)

![Lesions](coarse_lesions.png)

## What the boxes are worth for the diagnosis

A new head on C-Net's features (logistic regression), trained on each kind of box of "train", diagnosing D-Net's boxes.

{probes}
"""


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="busbra_coarse", help="made by datasets/coarse.py (default: busbra_coarse)")
    parser.add_argument("--fold", type=int, default=1)
    parser.add_argument("--cache", required=True, metavar="DIR", help="folder of networks and scores, which are made once")
    parser.add_argument("--results", default="results", metavar="DIR", help="folder of the tables (default: results)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides of the configuration")
    args = parser.parse_args(argv)
    cfg = load_config("configs/tsdd_stage1_cpu.yaml", [*OPTIONS, *args.opts])
    scores_file = os.path.join(args.cache, "scores.npz")
    if not os.path.exists(scores_file):
        collected = collect(cfg, args.data, args.fold, args.cache)
        with replacing(scores_file, "wb") as file:
            np.savez_compressed(file, **collected)
    scores = dict(np.load(scores_file))
    rules, boxes = rule_rows(scores)
    of_class = candidates_by(scores, "of_class")
    images = [x for split in SPLITS[1:] for x in load_split(f"{args.data}_fold{args.fold}_{split}")]
    best = max(rules, key=lambda x: x["IoU val"])["rule"]
    page = PAGE.format(
        data=args.data,
        fold=args.fold,
        far=float(1 - is_near(of_class)[of_class.fit].mean()),
        rules=table([{key: x for key, x in row.items() if ", test" not in key} for row in rules]),
        readers=table(reader_rows(scores)),
        pa=table(pa_rows(scores)),
        ranking=table(ranking_rows(scores)),
        probes=table(probe_rows(scores, np.load(os.path.join(args.cache, "features.npy")))),
    )
    write_text(os.path.join(args.results, "coarse.md"), page)
    csv = pd.DataFrame(rules).to_csv(index=False, lineterminator="\n", float_format="%.4f")
    write_text(os.path.join(args.results, "coarse.csv"), csv)
    save_figure(scale_figure(scores), os.path.join(args.results, "coarse_scale"))
    lesions = lesions_figure(scores, boxes[best], best, os.path.dirname(images[0]["file_name"]))
    save_figure(lesions, os.path.join(args.results, "coarse_lesions"), dpi=80)
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
