import pytest

from tsdd_d2.refinement import refine_rois, select_rois
from tsdd_d2.review import Replacement, changed_rois

from ..refinement.test_rounds import bbui, image, roi, scored


def rounds_of(data, *results):
    rounds = [data]
    for number, scores in enumerate(results, start=1):
        rounds.append(refine_rois(rounds[-1], scores, select_rois, round_number=number, num_candidates=1)[0])
    return rounds


def test_drift_and_the_scores_of_the_rounds_that_replaced_a_roi():
    data = bbui([image(1, 2)], [roi(1, 1, 2, [0, 0, 20, 20])])
    better, better_still, worse = (
        {1: scored([box], [new], [old])}
        for box, new, old in (([2, 0, 22, 20], 0.7, 0.4), ([0, 10, 20, 20], 0.9, 0.6), ([5, 5, 9, 9], 0.1, 0.2))
    )
    (changed,) = changed_rois(rounds_of(data, better, worse, better_still, worse))
    assert [x.round for x in changed.replacements] == [1, 3]
    assert changed.replacements[0][1:] == pytest.approx((0.4, 0.7))
    # round 4 kept the ROI, and its network's 0.2 is not compared with anything
    assert changed.replacements[1][1:] == pytest.approx((0.6, 0.9)) and changed.gain == pytest.approx(0.3)
    assert changed.manual_box == [0, 0, 20, 20] and changed.drift == pytest.approx(0.5)


def test_a_pseudo_roi_has_no_drift_and_at_first_no_gain():
    data = bbui([image(1, 2), image(2, 1)], [roi(1, 1, 2, [0, 0, 20, 20])])
    first = {1: scored([[0, 0, 9, 9]], [0.1], [0.5]), 2: scored([[1, 1, 9, 9]], [0.4])}
    rounds = rounds_of(data, first)
    (new,) = changed_rois(rounds)  # the manual ROI is not among them
    assert new.image["id"] == 2 and (new.drift, new.manual_box, new.gain) == (None, None, None)
    assert new.replacements == (Replacement(1, None, pytest.approx(0.6)),)
    second = {1: first[1], 2: scored([[2, 2, 9, 9]], [0.2], [0.3])}
    (moved,) = changed_rois(rounds_of(data, first, second))
    assert moved.gain == pytest.approx(0.1)


def test_rounds_of_an_earlier_run_are_not_this_runs():
    came = roi(1, 1, 2, [0, 0, 10, 20], roi_source="refined", manual_bbox=[0, 0, 20, 20], roi_round=1, roi_score=0.9)
    (changed,) = changed_rois(rounds_of(bbui([image(1, 2)], [came]), {1: scored([[0, 0, 9, 9]], [0.1], [0.5])}))
    assert changed.drift == pytest.approx(0.5) and changed.replacements == () and changed.gain is None
