"""The rule that turns the boxes of a detector into a diagnosis."""

import pytest
import torch

from detectron2.structures import Boxes, Instances
from tsdd_d2.evaluation.detections import diagnose_detections, malignancy_of_detections


@pytest.mark.parametrize(
    "scores, classes, expected",
    [
        ([0.6, 0.2, 0.5], [1, 0, 1], 0.6 / 0.8),  # the top one of each class counts, not the number
        ([0.1, 0.3], [1, 0], 0.1 / 0.4),  # the scores need not add up to 1
        ([0.01, 0.01], [0, 1], 0.5),
        ([0.2], [1], 1.0),
        ([0.2, 0.1], [0, 0], 0.0),
        ([], [], 0.5),  # nothing was detected
        ([0.0, 0.0], [0, 1], 0.5),
    ],
)
def test_malignancy_is_the_share_of_the_top_malignant_score(scores, classes, expected):
    found = malignancy_of_detections(torch.tensor(scores), torch.tensor(classes, dtype=torch.long))
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_chosen_box_is_the_top_one_of_any_class():
    boxes = torch.tensor([[0.0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]])
    instances = Instances((4, 4), pred_boxes=Boxes(boxes), scores=torch.tensor([0.2, 0.3, 0.1]))
    instances.pred_classes = torch.tensor([1, 0, 1])
    diagnosed = diagnose_detections(instances)
    assert diagnosed.pred_boxes.tensor[:, 2].tolist() == [2, 1, 3] and diagnosed.pred_classes.tolist() == [0, 1, 1]
    assert diagnosed.malignancy.tolist() == pytest.approx([0.2 / 0.5] * 3)
    assert not instances.has("malignancy")


def test_no_detection_stays_none():
    instances = Instances((4, 4), pred_boxes=Boxes(torch.zeros(0, 4)), scores=torch.zeros(0))
    instances.pred_classes = torch.zeros(0, dtype=torch.long)
    assert len(diagnose_detections(instances)) == 0
