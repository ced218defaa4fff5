from functools import partial

import pytest
import torch

from tsdd_d2.errors import InputError
from tsdd_d2.refinement.selection import (
    ROISlots,
    Selection,
    averaged_rois,
    build_selection_rule,
    check_rule,
    decide,
    pseudo_label_rois,
    select_rois,
)

NAN = float("nan")
NONE = -float("inf")


def rows(n, **changes):
    """n ROIs at [0, 0, 10, 10] with score 0.5 and two candidates scored 0.4; changes by keyword."""
    slots = ROISlots(
        current_boxes=torch.tensor([[0.0, 0.0, 10.0, 10.0]]).repeat(n, 1),
        current_scores=torch.full((n,), 0.5),
        candidate_boxes=torch.tensor([[[0.0, 0.0, 10.0, 8.0], [2.0, 0.0, 12.0, 10.0]]]).repeat(n, 1, 1),
        candidate_scores=torch.full((n, 2), 0.4),
        locked=torch.zeros(n, dtype=torch.bool),
        manual_boxes=torch.full((n, 4), NAN),
    )
    return slots._replace(**{k: torch.as_tensor(v) for k, v in changes.items()})


@pytest.mark.parametrize("locked, score", [(False, 0.1), (True, 0.9), (False, NONE), (False, NAN)])
def test_whatever_a_rule_says_locked_rois_and_places_without_a_candidate_stay(locked, score):
    slots = rows(1, locked=[locked])
    new = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    selection = decide(lambda _: Selection(new, torch.tensor([score]), torch.tensor([True])), slots)
    replaced = (locked, score) == (False, 0.1)
    assert selection.replaced.tolist() == [replaced]
    assert torch.equal(selection.boxes, new if replaced else slots.current_boxes)
    assert selection.scores.tolist() == pytest.approx([score if replaced else 0.5])


@pytest.mark.parametrize(
    "fields", [{"scores": [0.9]}, {"boxes": [1.0, 2.0]}, {"replaced": [1, 1]}, {"replaced": [True]}, None]
)
def test_what_a_rule_returns_is_checked(fields):
    def rule(slots):
        selection = select_rois(slots)
        return tuple(selection) if fields is None else selection._replace(**{k: torch.tensor(v) for k, v in fields.items()})

    check_rule(select_rois)
    with pytest.raises(InputError, match=r"REFINEMENT\.RULE"):
        check_rule(rule)


def test_a_higher_score_replaces_a_lower_one():
    selection = decide(select_rois, rows(3, candidate_scores=[[0.6, 0.7], [0.6, 0.1], [0.4, 0.3]]))
    assert selection.replaced.tolist() == [True, True, False]
    assert selection.boxes.tolist() == [[2, 0, 12, 10], [0, 0, 10, 8], [0, 0, 10, 10]]
    assert selection.scores.tolist() == pytest.approx([0.7, 0.6, 0.5])


def test_an_equal_score_does_not():
    assert not select_rois(rows(1, candidate_scores=[[0.5, 0.5]])).replaced.any()


def test_an_image_without_roi_takes_the_best_candidate():
    selection = select_rois(rows(1, current_scores=[NONE], candidate_scores=[[0.01, 0.02]]))
    assert selection.replaced.tolist() == [True] and selection.boxes[0].tolist() == [2, 0, 12, 10]


def test_without_any_candidate_nothing_happens():
    selection = select_rois(rows(1, current_scores=[NONE], candidate_scores=[[NONE, NONE]]))
    assert selection.replaced.tolist() == [False]


def test_drift_from_the_manual_roi_is_bounded():
    """IoU with the manual box: 0.8 for the first candidate, 80 / 120 for the second."""
    slots = rows(2, candidate_scores=[[0.6, 0.9]] * 2, manual_boxes=[[0.0, 0.0, 10.0, 10.0], [NAN] * 4])
    selection = select_rois(slots, min_iou_with_manual=0.7)
    assert selection.boxes.tolist() == [[0, 0, 10, 8], [2, 0, 12, 10]]  # a pa image has no such bound
    assert not select_rois(slots, min_iou_with_manual=0.85).replaced[0]


def test_the_rule_is_the_same_image_by_image():
    generator = torch.Generator().manual_seed(0)
    n, k = 50, 3
    slots = rows(
        n,
        current_scores=torch.rand(n, generator=generator),
        candidate_scores=torch.rand(n, k, generator=generator),
        candidate_boxes=torch.rand(n, k, 4, generator=generator).cumsum(dim=2) * 10,
    )
    selection = decide(select_rois, slots)
    for i in range(n):
        scores = slots.candidate_scores[i].tolist()
        best = scores.index(max(scores))
        wins = scores[best] > slots.current_scores[i].item()
        expected = slots.candidate_boxes[i, best] if wins else slots.current_boxes[i]
        assert torch.equal(selection.boxes[i], expected) and selection.replaced[i].item() == wins


def test_pseudo_labels_follow_dnet_and_leave_manual_rois():
    selection = pseudo_label_rois(rows(2, manual_boxes=[[0.0, 0.0, 10.0, 10.0], [NAN] * 4]))
    assert selection.replaced.tolist() == [False, True]
    assert selection.boxes[1].tolist() == [0, 0, 10, 8]  # the first candidate, whatever its class score


def test_the_mean_of_the_manual_roi_and_dnets_first_box():
    """Manual 10 x 10 about (5, 5); D-Net 5 x 20 about (5, 4), as large, and in the third image of another lesion."""
    first = [2.5, -6.0, 7.5, 14.0]
    slots = rows(
        4,
        manual_boxes=[[0.0, 0.0, 10.0, 10.0], [NAN] * 4, *[[0.0, 0.0, 10.0, 10.0]] * 2],
        current_boxes=[[50.0, 50.0, 60.0, 60.0]] * 4,  # of an earlier round, which counts for nothing
        candidate_boxes=[[first, first], [first, first], [[30.0, 30.0, 70.0, 70.0]] * 2, [first, first]],
        candidate_scores=[[0.4, 0.9], [0.4, 0.9], [0.4, 0.9], [NONE, 0.9]],
    )
    selection = decide(partial(averaged_rois, weight_of_dnet=0.5), slots)
    assert selection.replaced.tolist() == [True, True, False, False]
    # half way between: centre (5, 4.5), sides of the square roots of 10 x 5 and of 10 x 20
    width, height = 50**0.5, 200**0.5
    assert selection.boxes[0].tolist() == pytest.approx(
        [5 - width / 2, 4.5 - height / 2, 5 + width / 2, 4.5 + height / 2], abs=1e-5
    )
    assert selection.boxes[1].tolist() == pytest.approx(first, abs=1e-5)  # nobody drew one: D-Net's
    assert selection.boxes[2:].tolist() == [[50, 50, 60, 60]] * 2
    assert selection.scores.tolist() == pytest.approx([0.4, 0.4, 0.5, 0.5])


def test_a_box_of_something_else_leaves_the_manual_roi():
    """Beside 10 x 10 from the corner: 10 x 10 that shares 5 x 10 of 150, and 4 x 10 of 160."""
    slots = rows(
        2, manual_boxes=[[0.0, 0.0, 10.0, 10.0]] * 2, candidate_boxes=[[[x, 0.0, x + 10, 10.0]] * 2 for x in (5.0, 6.0)]
    )
    assert averaged_rois(slots, 0.5).replaced.tolist() == [True, False]


def test_a_box_that_agrees_gives_the_manual_roi_back():
    """Of 10 x 10 from the corner: 10 x 10 that shares 9 x 10 of 110, and 8 x 10 of 120."""
    drawn = [0.0, 0.0, 10.0, 10.0]
    slots = rows(
        3,
        manual_boxes=[drawn] * 3,
        current_boxes=[drawn, [0.5, 0.0, 10.5, 10.0], drawn],
        candidate_boxes=[[[x, 0.0, x + 10, 10.0]] * 2 for x in (1.0, 1.0, 2.0)],
    )
    selection = averaged_rois(slots, 0.5)
    assert selection.replaced.tolist() == [False, True, True]
    assert selection.boxes[1].tolist() == drawn and selection.boxes[2].tolist() == [1, 0, 11, 10]


def test_dnets_boxes_become_as_large_as_the_manual_rois():
    """20 x 20 where 12 x 12 was drawn, and 10 x 10 where nothing was: both are 0.6 times as wide about their centres."""
    slots = rows(
        2,
        manual_boxes=[[4.0, 4.0, 16.0, 16.0], [NAN] * 4],
        candidate_boxes=[[[0.0, 0.0, 20.0, 20.0]] * 2, [[0.0, 0.0, 10.0, 10.0]] * 2],
    )
    expected = [4, 4, 16, 16, 2, 2, 8, 8]
    assert averaged_rois(slots, 1.0).boxes.flatten().tolist() == pytest.approx(expected, abs=1e-5)


def test_a_configuration_names_the_weight_of_the_mean(tiny_cfg):
    tiny_cfg.REFINEMENT.RULE, tiny_cfg.REFINEMENT.WEIGHT_OF_DNET = "averaged", 1.0
    box = [1.0, 1.0, 11.0, 11.0]
    slots = rows(1, manual_boxes=[[0.0, 0.0, 10.0, 10.0]], candidate_boxes=[[box, box]])
    assert build_selection_rule(tiny_cfg)(slots).boxes[0].tolist() == pytest.approx(box)


def test_a_configuration_names_its_rule_and_its_bound(tiny_cfg):
    """IoU with the manual box, which is the current one: 0.8 for the first candidate."""
    slots = rows(1, candidate_scores=[[0.6, NONE]], manual_boxes=[[0.0, 0.0, 10.0, 10.0]])
    for bound, replaced in ((0.75, True), (0.85, False)):
        tiny_cfg.REFINEMENT.MIN_IOU_WITH_MANUAL = bound
        assert build_selection_rule(tiny_cfg)(slots).replaced.item() == replaced
    tiny_cfg.REFINEMENT.RULE = "pseudo_label"
    assert build_selection_rule(tiny_cfg) is pseudo_label_rois
