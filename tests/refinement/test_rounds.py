import math

import pytest
import torch

from tsdd_d2.errors import InputError
from tsdd_d2.modeling.contract import ScoredBoxes
from tsdd_d2.refinement import (
    SELECTION_RULE_REGISTRY,
    ROIBank,
    RoundSchedule,
    refine_rois,
    score_all_candidates,
    select_rois,
)
from tsdd_d2.refinement.selection import Selection


def scored(candidates, candidate_malignancy, roi_malignancy=()):
    def probabilities(malignancy):
        malignancy = torch.tensor(malignancy, dtype=torch.float32).reshape(-1)
        return torch.stack([1 - malignancy, malignancy], dim=1)

    boxes = torch.tensor(candidates, dtype=torch.float32).reshape(-1, 4)
    return ScoredBoxes(boxes, probabilities(candidate_malignancy), probabilities(roi_malignancy))


def image(image_id, category_id, **fields):
    return {
        "id": image_id,
        "file_name": f"{image_id}.png",
        "width": 100,
        "height": 80,
        "patient_id": str(image_id),
        "category_id": category_id,
        **fields,
    }


def roi(annotation_id, image_id, category_id, bbox, **fields):
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": bbox,
        "area": bbox[2] * bbox[3],
        "iscrowd": 0,
        **fields,
    }


def bbui(images, annotations):
    categories = [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}]
    return {"categories": categories, "images": images, "annotations": annotations}


def refine(data, results, round_number=1):
    return refine_rois(data, results, select_rois, round_number=round_number, num_candidates=1)


def test_the_score_is_the_probability_of_the_true_class():
    data = bbui([image(1, 1), image(2, 2)], [roi(1, 1, 1, [10, 10, 20, 20]), roi(2, 2, 2, [10, 10, 20, 20])])
    results = {i: scored([[12, 10, 32, 30]], [0.3], [0.5]) for i in (1, 2)}
    refined, statistics = refine(data, results)
    benign, malignant = refined["annotations"]
    assert benign["bbox"] == [12, 10, 20, 20] and benign["roi_score"] == pytest.approx(0.7)
    assert malignant["bbox"] == [10, 10, 20, 20] and malignant["roi_score"] == pytest.approx(0.5)
    assert (statistics.replaced_fa, statistics.replaced_pa) == (1, 0)
    assert statistics.score_before == pytest.approx(0.5) and statistics.score_after == pytest.approx(0.6)
    # overlap 18 x 20 of 2 x 400 - 360 = 440 for one, all for the other
    assert statistics.iou_with_manual == pytest.approx((360 / 440 + 1) / 2)


@pytest.mark.parametrize("box", [[float("nan")] * 4, [30.0, 10.0, 20.0, 30.0], [101.0, 10.0, 120.0, 30.0]])
def test_a_rule_that_gives_a_box_without_area_is_told_with_the_image(box):
    def rule(slots):
        return select_rois(slots)._replace(boxes=torch.tensor([box]))

    data = bbui([image(7, 1)], [roi(1, 7, 1, [10, 10, 20, 20])])
    with pytest.raises(InputError, match=r"REFINEMENT\.RULE.* image 7 "):
        refine_rois(data, {7: scored([[12, 10, 32, 30]], [0.3], [0.5])}, rule, round_number=1, num_candidates=1)


def test_the_manual_box_stays_in_the_file_through_the_rounds():
    data = bbui([image(1, 2)], [roi(1, 1, 2, [10, 10, 20, 20])])
    once, _ = refine(data, {1: scored([[12, 10, 32, 30]], [0.9], [0.5])})
    assert once["annotations"][0]["roi_source"] == "refined" and once["annotations"][0]["roi_round"] == 1
    twice, _ = refine(once, {1: scored([[13, 10, 33, 30]], [0.9], [0.5])}, round_number=2)
    assert twice["annotations"][0]["manual_bbox"] == [10, 10, 20, 20]
    assert twice["annotations"][0]["bbox"] == [13, 10, 20, 20] and twice["annotations"][0]["roi_round"] == 2
    assert data["annotations"][0] == roi(1, 1, 2, [10, 10, 20, 20])  # the file of the last round is not touched


def test_a_replaced_roi_leaves_its_score_of_that_round():
    data = bbui([image(1, 2), image(2, 2)], [roi(1, 1, 2, [10, 10, 20, 20])])
    once, _ = refine(data, {1: scored([[12, 10, 32, 30]], [0.9], [0.4]), 2: scored([[1, 1, 9, 9]], [0.2])})
    replaced, new = once["annotations"]
    assert replaced["roi_score_before"] == pytest.approx(0.4) and "roi_score_before" not in new
    results = {1: scored([[13, 10, 33, 30]], [0.1], [0.7]), 2: scored([[2, 2, 9, 9]], [0.6], [0.3])}
    kept, replaced = refine(once, results, round_number=2)[0]["annotations"]
    assert (kept["roi_round"], kept["roi_score_before"]) == (1, pytest.approx(0.4))
    assert (replaced["roi_round"], replaced["roi_score_before"]) == (2, pytest.approx(0.3))


def test_a_manual_roi_that_a_rule_gives_back_is_no_refined_one():
    drawn = roi(1, 1, 1, [10, 10, 20, 20], roi_source="manual", roi_score=0.5)
    results = {1: scored([[12, 10, 32, 30]], [0.3], [0.5])}
    refined, _ = refine(bbui([image(1, 1)], [drawn]), results)
    assert refined["annotations"][0]["roi_source"] == "refined"

    def give_back(slots):
        return Selection(slots.manual_boxes, slots.candidate_scores[:, 0], torch.tensor([True]))

    again, statistics = refine_rois(refined, results, give_back, round_number=2, num_candidates=1)
    assert again["annotations"] == [{**drawn, "roi_score": 0.7}] and statistics.replaced_fa == 1


def test_the_outline_goes_with_its_box():
    outline = [[10, 10, 30, 10, 30, 30]]
    data = bbui(
        [image(1, 2), image(2, 2)],
        [roi(number, number, 2, [10, 10, 20, 20], segmentation=outline) for number in (1, 2)],
    )
    better, worse = (scored([[12, 10, 32, 30]], [malignancy], [0.5]) for malignancy in (0.9, 0.1))
    replaced, kept = refine(data, {1: better, 2: worse})[0]["annotations"]
    assert "segmentation" not in replaced and kept["segmentation"] == outline


def test_a_pa_image_gets_a_pseudo_roi_and_stays_pa():
    data = bbui([image(1, 2), image(2, 2)], [roi(7, 1, 2, [10, 10, 20, 20])])
    results = {1: scored([[1, 1, 5, 5]], [0.1], [0.5]), 2: scored([[30, 20, 60, 50]], [0.01])}
    once, statistics = refine(data, results)
    new = once["annotations"][1]
    assert new == {
        **roi(8, 2, 2, [30.0, 20.0, 30.0, 30.0]),
        "roi_source": "pseudo",
        "roi_round": 1,
        "roi_score": pytest.approx(0.01),
    }
    assert (statistics.replaced_fa, statistics.replaced_pa) == (0, 1)
    assert statistics.score_before == pytest.approx(0.5)  # over the ROIs that existed before
    results = {1: results[1], 2: scored([[31, 20, 61, 50]], [0.9], [0.3])}
    twice, statistics = refine(once, results, round_number=2)
    assert twice["annotations"][1]["roi_source"] == "pseudo" and "manual_bbox" not in twice["annotations"][1]
    assert statistics.replaced_pa == 1


@pytest.mark.parametrize("name, build", list(SELECTION_RULE_REGISTRY))
def test_without_a_candidate_an_image_goes_on_as_it_was(name, build, tiny_cfg):
    data = bbui([image(1, 2), image(2, 2)], [roi(1, 1, 2, [10, 10, 20, 20])])
    results = {1: scored([], [], [0.5]), 2: scored([], [])}
    refined, statistics = refine_rois(data, results, build(tiny_cfg), round_number=1, num_candidates=2)
    assert refined["annotations"] == [{**data["annotations"][0], "roi_score": pytest.approx(0.5)}]
    assert (statistics.replaced_fa, statistics.replaced_pa) == (0, 0)


def test_a_box_of_a_rule_ends_at_the_image(tiny_cfg):
    """D-Net's box of the second image grows as the manual ROI of the first is larger, by a quarter."""
    data = bbui([image(1, 2), image(2, 2)], [roi(1, 1, 2, [10, 10, 20, 20])])
    results = {1: scored([[12, 12, 28, 28]], [0.5], [0.5]), 2: scored([[0, 4, 16, 20]], [0.5])}
    rule = SELECTION_RULE_REGISTRY.get("averaged")(tiny_cfg)
    refined, _ = refine_rois(data, results, rule, round_number=1, num_candidates=1)
    assert refined["annotations"][1]["bbox"] == [0, 2, 18, 20]


def test_a_candidate_competes_with_the_roi_it_overlaps_most():
    data = bbui([image(1, 2)], [roi(1, 1, 2, [0, 0, 20, 20]), roi(2, 1, 2, [60, 40, 20, 20])])
    refined, _ = refine(data, {1: scored([[61, 40, 81, 60]], [0.9], [0.1, 0.2])})
    assert [a["bbox"] for a in refined["annotations"]] == [[0, 0, 20, 20], [61, 40, 20, 20]]


def test_of_several_rois_none_is_moved_to_a_candidate_beside_all():
    data = bbui([image(1, 2)], [roi(1, 1, 2, [0, 0, 20, 20]), roi(2, 1, 2, [60, 40, 20, 20])])
    refined, _ = refine(data, {1: scored([[30, 0, 50, 20]], [0.9], [0.1, 0.2])})
    assert [a["bbox"] for a in refined["annotations"]] == [[0, 0, 20, 20], [60, 40, 20, 20]]


def test_a_locked_roi_stays_locked():
    data = bbui([image(1, 2)], [roi(1, 1, 2, [0, 0, 20, 20], locked=True)])
    refined, _ = refine(data, {1: scored([[1, 0, 21, 20]], [0.9], [0.1])})
    assert refined["annotations"][0]["bbox"] == [0, 0, 20, 20] and refined["annotations"][0]["locked"]


def test_overlap_with_the_true_box_where_it_is_known():
    images = [image(1, 2, true_bbox=[0, 0, 20, 20]), image(2, 1, true_bbox=[0, 0, 20, 10])]
    data = bbui(images, [roi(1, 1, 2, [0, 0, 20, 20])])
    results = {1: scored([[0, 0, 20, 10]], [0.9], [0.1]), 2: scored([[0, 0, 20, 20]], [0.9])}
    _, statistics = refine(data, results)
    assert statistics.iou_with_true_fa == pytest.approx(0.5) and statistics.iou_with_true_pa == pytest.approx(0.5)
    _, statistics = refine(bbui([image(1, 2)], [roi(1, 1, 2, [0, 0, 20, 20])]), results)
    assert math.isnan(statistics.iou_with_true_fa)


def test_bank_reads_what_it_wrote_and_counts_without_gaps(tmp_path):
    bank = ROIBank(str(tmp_path / "rois"))
    data = bbui([image(1, 2)], [{**roi(1, 1, 2, [0, 0, 20, 20]), "roi_source": "manual"}])
    for number in (0, 1, 3):
        bank.write(number, data)
    assert bank.read(1) == data and bank.rounds() == [0, 1]
    with pytest.raises(FileNotFoundError):
        bank.read(2)


def test_schedule_divides_what_is_left_after_the_warm_up():
    schedule = RoundSchedule(warmup_iter=100, max_iter=400, rounds=3)
    assert [schedule.start(r) for r in range(5)] == [0, 100, 200, 300, 400]
    # before the step of iteration 200 round 1 is over; round 2 is due
    assert [schedule.completed(i) for i in (0, 100, 101, 200, 201, 400)] == [0, 0, 1, 1, 2, 3]


@pytest.mark.parametrize("description", ["Round 1/2", ""])
def test_a_pass_without_description_has_no_bar_of_its_own(description, capsys):
    class Network(torch.nn.Module):
        def score_candidates(self, batch, num_candidates):
            return [scored([[1, 1, 5, 5]], [0.5]) for _ in batch]

    boxes = score_all_candidates(Network(), [[{"image_id": 7}], [{"image_id": 8}]], 1, description)
    assert list(boxes) == [7, 8]
    error = capsys.readouterr().err
    assert description in error if description else error == ""
