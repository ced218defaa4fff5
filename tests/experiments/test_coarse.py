"""Each rule on boxes and scores of which the outcome is known by hand."""

import numpy as np
import pytest

from tsdd_d2.experiments.coarse import (
    COARSE,
    FOUND,
    FOUND_SHIFTED,
    MEAN,
    MIN_IOU_WITH_MANUAL,
    RULES,
    SAME,
    SCALES,
    Candidates,
    candidates_of,
    choose_parameter,
    elementwise_iou,
    rank_correlations,
    refined,
    without_habits,
)

RULE = {x.title: x for x in RULES}
COARSE_BOX, FOUND_BOX = [100, 100, 140, 120], [110, 90, 130, 130]


def candidates(logits=None, n=2):
    """n images with the same boxes; ``logits``: place -> log odds of each image, 0 elsewhere."""
    coarse, found = (np.array([box] * n, float) for box in (COARSE_BOX, FOUND_BOX))
    boxes = candidates_of(coarse, found, np.full((n, 2), 400))
    scores = np.zeros((n, boxes.shape[1]))
    for place, values in (logits or {}).items():
        scores[:, place] = values
    return Candidates(boxes.astype(float), scores, np.ones(n, bool))


def select(title, logits, parameter=0.0):
    return RULE[title].select(candidates(logits), parameter)


def test_the_order_of_the_candidates():
    (boxes,) = candidates(n=1).boxes
    assert boxes[COARSE[SAME]].tolist() == COARSE_BOX and boxes[FOUND[SAME]].tolist() == FOUND_BOX
    assert boxes[COARSE[0]] == pytest.approx([110, 105, 130, 115])  # half of the sides about (120, 110)
    assert boxes[FOUND[-1]] == pytest.approx([100, 70, 140, 150])  # twice
    assert boxes[FOUND_SHIFTED[0]] == pytest.approx([107, 90, 127, 130])  # 0.15 of 20 to the left
    assert boxes[FOUND_SHIFTED[3]] == pytest.approx([110, 96, 130, 136])  # 0.15 of 40 down
    # the same centre, and sides of 40 x 20 and 20 x 40: the geometric mean is the square of 28.28
    assert boxes[MEAN] == pytest.approx([105.858, 95.858, 134.142, 124.142], abs=1e-3)


def test_candidates_end_at_the_image():
    box = np.array([[10, 10, 90, 40]], float)
    boxes = candidates_of(box, box, np.array([[50, 100]]))
    assert boxes[0, FOUND[-1]].tolist() == [0, 0, 100, 50]


def test_the_papers_rule_takes_the_higher_score_and_keeps_the_roi_at_equal_ones():
    boxes = select("better score of coarse and D-Net's box", {FOUND[SAME]: [0.1, 0.0]})
    assert boxes.tolist() == [FOUND_BOX, COARSE_BOX]


def test_a_margin_of_either_sign():
    logits = {COARSE[SAME]: [0.6, -0.6]}
    assert select("margin", logits, 0.5).tolist() == [COARSE_BOX, FOUND_BOX]
    assert select("margin", logits, 1.0).tolist() == [FOUND_BOX, FOUND_BOX]
    assert select("margin", logits, -1.0).tolist() == [COARSE_BOX, COARSE_BOX]


def test_a_peak_among_low_scores_loses_to_a_hill_when_scores_are_averaged():
    logits = {FOUND[1]: 2.0, FOUND[4]: 1.5, FOUND[5]: 1.5, FOUND[6]: 1.5}
    x = candidates(logits)
    assert select("best scale about D-Net's centre", logits) == pytest.approx(x.boxes[:, FOUND[1]])
    assert select("best scale, averaged over jitter", logits) == pytest.approx(x.boxes[:, FOUND[5]])


def test_against_the_surroundings():
    # the score falls by 1 from the third scale to the fifth, and nowhere more
    logits = {FOUND[i]: v for i, v in enumerate([2.0, 2.0, 2.0, 1.5, 1.0, 1.0, 1.0])}
    assert select("best scale, against its surroundings", logits) == pytest.approx(candidates().boxes[:, FOUND[2]])


def test_a_size_habit_is_one_scale_for_all_images_and_learned_on_training_images_alone():
    # the first image prefers the fifth scale, the second the first by more
    x = candidates({FOUND[4]: [1.0, -1.0], FOUND[0]: [-1.0, 3.0]})
    rule = RULE["size habit about D-Net's centre"].select
    assert rule(x, 0.0) == pytest.approx(x.boxes[:, FOUND[0]])
    assert rule(x._replace(fit=np.array([True, False])), 0.0) == pytest.approx(x.boxes[:, FOUND[4]])


@pytest.mark.parametrize("title", ["agreement and weighted score", "expected scale"])
def test_without_weight_the_score_says_nothing(title):
    logits = {FOUND[0]: 5.0, FOUND[SAME]: -5.0}
    assert select(title, logits, 0.0) == pytest.approx(np.array([FOUND_BOX] * 2))
    assert select(title, logits, 8.0)[0, 2] < 127  # smaller than D-Net's, which ends at 130


def test_the_mean_of_both_boxes_and_its_weights():
    x = candidates({FOUND[SAME]: [0.0, 60.0]})
    assert RULE["mean of both boxes"].select(x, 0.5) == pytest.approx(x.boxes[:, MEAN], abs=1e-3)
    assert RULE["mean of both boxes"].select(x, 1.0) == pytest.approx(x.found)
    by_score = RULE["mean of both boxes, weighted by score"].select
    assert by_score(x, 1.0)[0] == pytest.approx(x.boxes[0, MEAN], abs=1e-3)
    assert by_score(x, 1.0)[1] == pytest.approx(FOUND_BOX)


def test_a_correction_is_learned_from_coarse_boxes_of_other_images():
    """Of half of the images D-Net's box is twice too wide and high, and its half scores higher."""
    random = np.random.default_rng(0)
    n = 400
    too_large = np.arange(n) % 2
    found = np.array([[100 - 20 * t, 100 - 20 * t, 140 + 20 * t, 140 + 20 * t] for t in too_large], float)
    coarse = np.array([[100, 100, 140, 140]] * n) + random.normal(0, 4, (n, 4))
    boxes = candidates_of(coarse, found, np.full((n, 2), 400)).astype(float)
    logits = np.zeros(boxes.shape[:2])
    logits[:, FOUND[0]] = too_large
    fit = np.arange(n) < 300
    corrected = RULE["mean of both boxes, D-Net's corrected by the scores"].select(Candidates(boxes, logits, fit), 1.0)
    # all but a twentieth of the correction, to which the penalty shrinks it
    assert np.abs(corrected[~fit] - [100, 100, 140, 140]).max() < 2.5


def test_the_expected_box_is_between_both():
    x = candidates()
    (x0, y0, x1, y1), _ = RULE["expected box"].select(x, 0.0)
    assert 100 < x0 < 110 and 90 < y0 < 100 and (x0 + x1, y0 + y1) == pytest.approx((240, 220))


def test_the_mean_is_scaled_by_a_habit_between_the_steps():
    logits = {FOUND[i]: 0.0 for i in range(7)}
    likely = {FOUND[SAME - 1]: 0.4, FOUND[SAME]: 0.5, FOUND[SAME + 1]: 0.4}
    mean = candidates().boxes[:, MEAN]
    found = RULE["mean of both boxes, scaled by the size habit"].select
    assert found(candidates({**logits, **likely}), 0.5) == pytest.approx(mean, abs=1e-3)
    smaller = found(candidates({**logits, **likely, FOUND[SAME + 1]: 0.2}), 0.5)
    assert (smaller[:, 0] > mean[:, 0] + 0.1).all() and (smaller[:, 2] < mean[:, 2] - 0.1).all()


def test_dnets_boxes_are_made_as_large_as_the_coarse_ones():
    # 20 x 40 and 40 x 20 have the same geometric mean; twice as large they are halved
    rule = RULE["mean of both boxes, D-Net's as large as the coarse ones"].select
    x = candidates()
    assert rule(x, 1.0) == pytest.approx(x.found)
    x.boxes[:, FOUND[SAME]] = x.boxes[:, FOUND[-1]]
    assert rule(x, 1.0) == pytest.approx(np.array([FOUND_BOX] * 2))


def test_an_image_in_which_dnets_box_shows_something_else_stays_as_it_is():
    x = candidates()
    x.boxes[0, FOUND[SAME]] = [300, 300, 340, 340]
    assert elementwise_iou(x.manual, x.found)[0] == 0 < MIN_IOU_WITH_MANUAL < elementwise_iou(x.manual, x.found)[1]
    assert refined(RULE["D-Net's box"], x, 0.0).tolist() == [COARSE_BOX, FOUND_BOX]
    # and nothing is learned from it
    x.logits[:, FOUND[0]], x.logits[:, FOUND[4]] = [9.0, -9.0], [-9.0, 1.0]
    found = refined(RULE["size habit about D-Net's centre"], x, 0.0)
    assert found == pytest.approx(np.stack([COARSE_BOX, x.boxes[1, FOUND[4]]]))


def test_the_parameter_is_the_best_one_on_the_images_of_the_mask():
    rule, x = RULE["mean of both boxes"], candidates()
    true = np.array([FOUND_BOX, COARSE_BOX], float)
    assert choose_parameter(rule, x, true, np.array([True, False])) == 1.0
    assert choose_parameter(rule, x, true, np.array([False, True])) == 0.3


def test_no_rule_fails_on_scores_that_say_all_or_nothing():
    x = candidates({place: [700.0, -700.0] for place in range(0, 19, 2)})
    for rule in RULES:
        for parameter in rule.parameters:
            boxes = rule.select(x, parameter)
            assert boxes.shape == (2, 4) and np.isfinite(boxes).all(), rule.title


def test_rank_correlations_of_scores_that_are_the_fit():
    x, true = candidates(), np.array([FOUND_BOX] * 2, float)
    ious = elementwise_iou(x.boxes, true[:, None])
    found = rank_correlations(x.boxes, ious, true)
    assert found["IoU"] == pytest.approx(1.0) and found["size"] == pytest.approx(1.0)
    assert rank_correlations(x.boxes, -ious, true)["centre"] == pytest.approx(-found["centre"])
    assert elementwise_iou(x.boxes[:, FOUND], true[:, None])[0] == pytest.approx([min(s, 1 / s) ** 2 for s in SCALES])


def test_habits_of_readers_are_taken_back():
    """The coarse boxes are as large as D-Net's; the class speaks for two steps too large."""
    x = candidates({COARSE[SAME + 2]: 5.0}, n=4)
    found = without_habits(x, np.array([0, 1, 0, 1]))
    assert found["drawn"] == pytest.approx(x.boxes[np.arange(4), COARSE[[SAME + 1, SAME - 1] * 2]])
    assert found["by D-Net"] == pytest.approx(x.manual)
    assert found["by evidence"][0] == pytest.approx(x.boxes[0, COARSE[SAME + 2]])
