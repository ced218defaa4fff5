"""Rules that move a coarse box, tried on images of which the exact box is known (tools/coarse_rules.py)."""

from typing import Callable, Dict, NamedTuple, Sequence, Tuple

import numpy as np
import torch
from scipy.stats import kendalltau

from ..modeling import boxes as box_arithmetic

# Factors on both sides of the coarse box and of D-Net's, and shifts of D-Net's as a share of its sides.
SCALES = tuple(2 ** (i / 3) for i in range(-3, 4))
SHIFTS = ((-0.15, 0.0), (0.15, 0.0), (0.0, -0.15), (0.0, 0.15))
# Places in the candidates of an image.
COARSE = np.arange(0, 7)  # the coarse box in all scales
FOUND = np.arange(7, 14)  # D-Net's box in all scales
FOUND_SHIFTED = np.arange(14, 18)
MEAN = 18  # of the coarse box and D-Net's
SAME = SCALES.index(1.0)
# D-Net's box must overlap the coarse one this much.
MIN_IOU_WITH_MANUAL = 0.3


def candidates_of(coarse: np.ndarray, found: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """
    Args:
        coarse: (N, 4) absolute XYXY; found: (N, 4) D-Net's best box.
        sizes: (N, 2) height and width, to which the boxes are clipped.
    Returns:
        (N, 19, 4), in the order of the constants above.
    """
    parts = [
        *(transformed(coarse, s) for s in SCALES),
        *(transformed(found, s) for s in SCALES),
        *(transformed(found, 1.0, x) for x in SHIFTS),
        weighted_mean(coarse, found, 0.5),
    ]
    limits = np.tile(sizes[:, None, ::-1], (1, 1, 2))
    return np.clip(np.stack(parts, axis=1), 0, limits).astype(np.float32)


def transformed(boxes: np.ndarray, scale: float, shift: Tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """(N, 4) XYXY scaled about their centres and shifted by a share of their sides."""
    centres, sides = centres_and_sides(boxes)
    return from_centres(centres + sides * np.array(shift), sides * scale)


def weighted_mean(a: np.ndarray, b: np.ndarray, weight_of_b) -> np.ndarray:
    """(N, 4): see :func:`~tsdd_d2.modeling.boxes.mean_boxes`."""
    return box_arithmetic.mean_boxes(torch.as_tensor(a), torch.as_tensor(b), torch.as_tensor(weight_of_b)).numpy()


def centres_and_sides(boxes: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2, np.maximum(boxes[..., 2:] - boxes[..., :2], 1e-3)


def from_centres(centres: np.ndarray, sides: np.ndarray) -> np.ndarray:
    return np.concatenate([centres - sides / 2, centres + sides / 2], axis=-1)


class Candidates(NamedTuple):
    """What a rule decides on.

    Attributes:
        boxes: (N, C, 4) of :func:`candidates_of`.
        logits: (N, C) C-Net's log odds of the image's class.
        fit: (N,) bool, the training images, which habits and corrections are learned from.
    """

    boxes: np.ndarray
    logits: np.ndarray
    fit: np.ndarray

    @property
    def log_probabilities(self) -> np.ndarray:
        return -np.logaddexp(0, -self.logits)

    @property
    def manual(self) -> np.ndarray:
        return self.boxes[:, COARSE[SAME]]

    @property
    def found(self) -> np.ndarray:
        return self.boxes[:, FOUND[SAME]]


class Rule(NamedTuple):
    """
    Attributes:
        select: ``(candidates, parameter) -> (N, 4)`` the new boxes.
        parameters: to choose one from on validation images.
        of_class: whether the scores, and with them the class, have a part in it.
    """

    title: str
    select: Callable[[Candidates, float], np.ndarray]
    parameters: Sequence[float] = (0.0,)
    of_class: bool = True


def taken(boxes: np.ndarray, places: np.ndarray) -> np.ndarray:
    return boxes[np.arange(len(boxes)), places]


def is_near(x: Candidates) -> np.ndarray:
    """(N,) bool: D-Net's box shows the lesion of the coarse one."""
    return elementwise_iou(x.manual, x.found) >= MIN_IOU_WITH_MANUAL


def refined(rule: Rule, x: Candidates, parameter: float) -> np.ndarray:
    """(N, 4) the boxes after a rule, which leaves an image as it is where D-Net's box shows something else."""
    near = is_near(x)
    boxes = rule.select(x._replace(fit=x.fit & near), parameter)
    return np.where(near[:, None], boxes, x.manual)


def best_of(places: Sequence[int]) -> Callable[[Candidates, float], np.ndarray]:
    """The candidate of these places with the highest score; of equal ones the first."""
    places = np.asarray(places)
    return lambda x, _: taken(x.boxes, places[x.logits[:, places].argmax(axis=1)])


def with_margin(x: Candidates, margin: float) -> np.ndarray:
    """D-Net's box, unless the log odds of the coarse one are higher by more than the margin."""
    stays = x.logits[:, COARSE[SAME]] - x.logits[:, FOUND[SAME]] > margin
    return np.where(stays[:, None], x.manual, x.found)


def averaged_over_jitter(x: Candidates, _: float) -> np.ndarray:
    """The scale about D-Net's centre with the highest mean log probability of itself and its neighbours."""
    scores = np.pad(x.log_probabilities[:, FOUND], ((0, 0), (1, 1)), mode="edge")
    return taken(x.boxes, FOUND[(scores[:, :-2] + scores[:, 1:-1] + scores[:, 2:]).argmax(axis=1)])


def against_surroundings(x: Candidates, _: float) -> np.ndarray:
    """The scale whose log odds exceed those of the box 1.6 times as large most."""
    scores = x.logits[:, FOUND]
    return taken(x.boxes, FOUND[(scores[:, :-2] - scores[:, 2:]).argmax(axis=1)])


def size_habit(places: np.ndarray) -> Callable[[Candidates, float], np.ndarray]:
    """One scale for all images, that of the highest likelihood of the classes of all training images."""
    return lambda x, _: x.boxes[:, places[x.log_probabilities[x.fit][:, places].sum(axis=0).argmax()]]


def likely_scale(x: Candidates) -> float:
    """The scale about D-Net's centre of the highest likelihood of the classes of all training images, between the steps: the
    top of the parabola through the best step and its neighbours."""
    likelihood = x.log_probabilities[x.fit][:, FOUND].sum(axis=0)
    best = int(likelihood.argmax())
    step = 0.0
    if 0 < best < len(SCALES) - 1:
        below, top, above = likelihood[best - 1 : best + 2]
        step = 0.5 * (below - above) / min(below - 2 * top + above, -1e-9)
    return 2 ** ((best + step - SAME) / 3)


def habit_of_mean(x: Candidates, weight: float) -> np.ndarray:
    """The mean of both boxes times :func:`likely_scale`."""
    return transformed(weighted_mean(x.manual, x.found, weight), likely_scale(x))


def scale_to_coarse(x: Candidates) -> float:
    """The scale at which D-Net's boxes are as large as the coarse ones, in the geometric mean over the training images."""
    (_, sides), (_, manual_sides) = centres_and_sides(x.found[x.fit]), centres_and_sides(x.manual[x.fit])
    return float(np.exp(np.log(manual_sides / sides).mean()))


def mean_at_coarse_size(x: Candidates, weight: float) -> np.ndarray:
    """The mean of both boxes, after D-Net's were scaled by :func:`scale_to_coarse`."""
    return weighted_mean(x.manual, transformed(x.found, scale_to_coarse(x)), weight)


def weighted_score(x: Candidates, weight: float) -> np.ndarray:
    """The scale about D-Net's centre with the highest sum of D-Net's agreement, a normal distribution of the log scale,
    and the weighted log probability of the class."""
    return taken(x.boxes, FOUND[(SCALE_PRIOR + weight * x.log_probabilities[:, FOUND]).argmax(axis=1)])


def expected_scale(x: Candidates, weight: float) -> np.ndarray:
    """As :func:`weighted_score`, with the mean of the log scale in place of its mode."""
    scores = SCALE_PRIOR + weight * x.log_probabilities[:, FOUND]
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    log_scales = (weights * np.log(SCALES)).sum(axis=1) / weights.sum(axis=1)
    centres, sides = centres_and_sides(x.found)
    return from_centres(centres, sides * np.exp(log_scales)[:, None])


# Of D-Net's box: the standard deviation of the logarithm of its sides is about a quarter.
SCALE_PRIOR = -0.5 * (np.log(SCALES) / 0.25) ** 2


def mean_by_score(x: Candidates, weight: float) -> np.ndarray:
    """The mean of both boxes, each weighted by its odds to the power of the weight."""
    difference = x.logits[:, FOUND[SAME]] - x.logits[:, COARSE[SAME]]
    return weighted_mean(x.manual, x.found, (1 / (1 + np.exp(-weight * difference)))[:, None])


def mean_by_evidence(x: Candidates, _: float) -> np.ndarray:
    """One choice for all images of coarse box, mean and D-Net's box: the one of the highest likelihood."""
    return size_habit(np.array([COARSE[SAME], MEAN, FOUND[SAME]]))(x, 0.0)


def expected_box(x: Candidates, weight: float) -> np.ndarray:
    """The mean of all candidates about both boxes, weighted by how near they are to both and by their score."""
    places = np.arange(MEAN + 1)
    centres, sides = centres_and_sides(x.boxes[:, places].astype(float))
    found_centre, found_sides = centres_and_sides(x.found[:, None].astype(float))
    places_of_all = np.concatenate([(centres - found_centre) / found_sides, np.log(sides / found_sides)], axis=-1)
    manual = places_of_all[:, SAME][:, None]
    # shares of the side: of either box the centre is off by a tenth, the size by a quarter
    spread = np.array([0.1, 0.1, 0.25, 0.25])
    near = -0.5 * ((places_of_all / spread) ** 2 + ((places_of_all - manual) / spread) ** 2).sum(axis=-1)
    scores = near + weight * x.log_probabilities[:, places]
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    mean = (weights[:, :, None] * places_of_all).sum(axis=1) / weights.sum(axis=1)[:, None]
    return from_centres(found_centre[:, 0] + mean[:, :2] * found_sides[:, 0], found_sides[:, 0] * np.exp(mean[:, 2:]))


def learned_correction(x: Candidates, weight: float) -> np.ndarray:
    """Corrects D-Net's box by a ridge regression of the coarse boxes of training images on the scores about it, and takes
    the mean with the coarse box: what the scores say of size and place, averaged over the noise of these boxes."""
    scores = x.logits[:, np.concatenate([FOUND, FOUND_SHIFTED])].clip(-6, 6)
    scores = (scores - scores[x.fit].mean(axis=0)) / np.maximum(scores[x.fit].std(axis=0), 1e-3)
    (centres, sides), (manual_centres, manual_sides) = centres_and_sides(x.found), centres_and_sides(x.manual)
    target = np.concatenate([(manual_centres - centres) / sides, np.log(manual_sides / sides)], axis=1)
    mean, fitted = target[x.fit].mean(axis=0), scores[x.fit]
    penalty = 0.05 * len(fitted) * np.eye(scores.shape[1])
    correction = mean + scores @ np.linalg.solve(fitted.T @ fitted + penalty, fitted.T @ (target[x.fit] - mean))
    corrected = from_centres(centres + correction[:, :2] * sides, sides * np.exp(correction[:, 2:]))
    return weighted_mean(x.manual, corrected, weight)


MEANS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # the weight of D-Net's box
WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
RULES = (
    Rule("coarse box (no refinement)", lambda x, _: x.manual, of_class=False),
    Rule("D-Net's box", lambda x, _: x.found, of_class=False),
    Rule("mean of both boxes", lambda x, w: weighted_mean(x.manual, x.found, w), MEANS, of_class=False),
    Rule("mean of both boxes, D-Net's as large as the coarse ones", mean_at_coarse_size, MEANS, of_class=False),
    Rule("better score of coarse and D-Net's box", best_of([COARSE[SAME], FOUND[SAME]])),
    Rule("margin", with_margin, (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)),
    Rule("best score of all candidates", best_of(range(MEAN + 1))),
    Rule("best scale about D-Net's centre", best_of(FOUND)),
    Rule("best scale about the coarse centre", best_of(COARSE)),
    Rule("best scale, averaged over jitter", averaged_over_jitter),
    Rule("best scale, against its surroundings", against_surroundings),
    Rule("size habit about D-Net's centre", size_habit(FOUND)),
    Rule("size habit about the coarse centre", size_habit(COARSE)),
    Rule("mean of both boxes, scaled by the size habit", habit_of_mean, MEANS),
    Rule("agreement and weighted score", weighted_score, WEIGHTS),
    Rule("expected scale", expected_scale, WEIGHTS),
    Rule("mean of both boxes, weighted by score", mean_by_score, WEIGHTS),
    Rule("one mean for all, by evidence", mean_by_evidence),
    Rule("expected box", expected_box, WEIGHTS),
    Rule("mean of both boxes, D-Net's corrected by the scores", learned_correction, MEANS),
)


# Steps of SCALES by which each of two readers draws all boxes too large or too small: factors of 1.26 and 0.79.
HABITS = (1, -1)


def without_habits(x: Candidates, reader: np.ndarray) -> Dict[str, np.ndarray]:
    """
    Boxes of two readers of :data:`HABITS`, and what is left of these when each reader's habit is estimated from all
    training images and taken back.

    Args:
        reader: (N,) 0 or 1.
    Returns:
        (N, 4) boxes: "drawn"; "by evidence", the scale of the highest likelihood of the classes; "by D-Net", that at which
        the reader's boxes are as large as D-Net's in the geometric mean.
    """
    steps = np.arange(-2, 3)
    boxes = {name: np.empty_like(x.manual) for name in ("drawn", "by evidence", "by D-Net")}
    for number, habit in enumerate(HABITS):
        own = reader == number
        fit = own & x.fit & is_near(x)
        places = COARSE[SAME] + habit + steps
        (_, sides), (_, found_sides) = centres_and_sides(x.boxes[fit][:, places]), centres_and_sides(x.found[fit][:, None])
        ratios = np.log(sides / found_sides).mean(axis=(0, 2))
        boxes["drawn"][own] = x.boxes[own, COARSE[SAME] + habit]
        boxes["by evidence"][own] = x.boxes[own, places[x.log_probabilities[fit][:, places].sum(axis=0).argmax()]]
        boxes["by D-Net"][own] = x.boxes[own, places[np.abs(ratios).argmin()]]
    return boxes


def elementwise_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, 4) and (N, 4) absolute XYXY -> (N,)."""
    return box_arithmetic.elementwise_iou(torch.as_tensor(a), torch.as_tensor(b)).numpy()


def choose_parameter(rule: Rule, candidates: Candidates, true: np.ndarray, chosen_on: np.ndarray) -> float:
    """The parameter with the highest mean IoU on the images of the mask; of equal ones the first."""
    means = [elementwise_iou(refined(rule, candidates, p), true)[chosen_on].mean() for p in rule.parameters]
    return rule.parameters[int(np.argmax(means))]


def rank_correlations(boxes: np.ndarray, scores: np.ndarray, true: np.ndarray) -> Dict[str, float]:
    """
    Kendall's tau-b between score and fit of the candidates of an image, as the mean over the images.

    Returns:
        "IoU": of all candidates; "size": of the scales about D-Net's centre, with how near their size is to the true one;
        "centre": of D-Net's box and its shifts, with how near their centre is.
    """
    every = np.arange(MEAN + 1)
    shifts = np.append(FOUND_SHIFTED, FOUND[SAME])
    ious = elementwise_iou(boxes[:, every], true[:, None])
    centres, sides = centres_and_sides(boxes)
    true_centre, true_sides = centres_and_sides(true[:, None])
    size = -np.abs(np.log(sides / true_sides).mean(axis=-1))
    centre = -np.linalg.norm((centres - true_centre) / true_sides, axis=-1)
    pairs = {"IoU": (every, ious), "size": (FOUND, size[:, FOUND]), "centre": (shifts, centre[:, shifts])}
    return {
        name: float(np.nanmean([kendalltau(s, f).statistic for s, f in zip(scores[:, places], fit)]))
        for name, (places, fit) in pairs.items()
    }
