import pytest
import torch
from torch.nn import functional as F

from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes, Instances
from tsdd_d2.modeling import RANKING_REGISTRY
from tsdd_d2.modeling.dnet import BoxSubnet, DensePredictions, InputPooling


@pytest.fixture
def dnet(tiny_cfg):
    tiny_cfg.MODEL.META_ARCHITECTURE = "DNet"
    torch.manual_seed(0)
    return build_model(tiny_cfg)


def instances_of(boxes, size=(64, 72)):
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
    instances.gt_classes = torch.zeros(len(instances.gt_boxes), dtype=torch.long)
    return instances


def test_no_classification_subnet(dnet):
    names = [name for name, _ in dnet.named_modules()]
    assert not [name for name in names if "cls" in name or "class" in name]
    assert "head.bbox_subnet" in names
    # 3 aspect ratios x 1 scale: 4 deltas and 1 quality for each anchor, and nothing else leaves the head
    deltas, quality = dnet.head([torch.zeros(1, 32, 4, 4)])
    assert deltas[0].shape == (1, 12, 4, 4) and quality[0].shape == (1, 3, 4, 4)


def test_consensus_needs_no_quality_channel(tiny_cfg):
    tiny_cfg.MODEL.META_ARCHITECTURE, tiny_cfg.MODEL.DNET.RANKING = "DNet", "consensus"
    assert build_model(tiny_cfg).head.quality is None


def test_eq_1_and_2_by_hand(dnet):
    """One positive anchor in a fa image, two in a pa image; deltas predicted as zero."""
    dnet.alpha, dnet.smooth_l1_beta = 0.5, 1.0
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 40.0, 40.0], [21.0, 20.0, 41.0, 40.0]])
    predictions = DensePredictions(anchors, torch.zeros(2, 3, 4), None)
    gt = [instances_of([[0.0, 0.0, 10.0, 8.0]]), instances_of([[22.0, 20.0, 42.0, 40.0]])]
    losses = dnet.losses(predictions, gt, torch.tensor([False, True]))
    # fa: dy = -1/10, dh = log 0.8; smooth L1 with beta 1 is half the square
    dh = torch.tensor(0.8).log().item()
    assert losses["loss_dnet_fa"].item() == pytest.approx(0.5 * (0.1**2 + dh**2), rel=1e-5)
    # pa: dx = 2/20 and 1/20, averaged over its own two positive anchors, times alpha
    assert losses["loss_dnet_pa"].item() == pytest.approx(0.5 * (0.5 * (0.1**2 + 0.05**2)) / 2, rel=1e-5)


def test_giou_of_the_decoded_box_by_hand(dnet):
    """The box is the anchor, 10 x 10, the ROI its upper half: IoU 1/2, and their hull is the box itself."""
    dnet.box_loss = "giou"
    predictions = DensePredictions(torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.zeros(1, 1, 4), None)
    losses = dnet.losses(predictions, [instances_of([[0.0, 0.0, 10.0, 5.0]])], torch.tensor([False]))
    assert losses["loss_dnet_fa"].item() == pytest.approx(2 * (1 - 0.5), rel=1e-5)


def test_alone_it_trains_on_both_groups(dnet):
    batch = [
        {"image": torch.zeros(3, 64, 72, dtype=torch.uint8), "instances": instances_of([[10.0, 10.0, 40.0, 40.0]])}
        for _ in range(2)
    ]
    batch[1]["partially_annotated"] = True
    losses = dnet.train()(batch)
    assert set(losses) == {"loss_dnet_fa", "loss_dnet_pa", "loss_quality_fa", "loss_quality_pa"}
    assert losses["loss_dnet_pa"].item() == pytest.approx(dnet.alpha * losses["loss_dnet_fa"].item(), rel=1e-5)


def test_a_group_that_is_absent_costs_nothing_but_keeps_its_entry(dnet):
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    predictions = DensePredictions(anchors, torch.zeros(1, 1, 4), torch.zeros(1, 1))
    losses = dnet.losses(predictions, [instances_of([[0.0, 0.0, 10.0, 8.0]])], torch.tensor([False]))
    assert losses["loss_dnet_pa"] == 0 and losses["loss_quality_pa"] == 0


def test_quality_target_is_the_iou_of_the_anchors_own_box(dnet):
    """Anchor 0 regresses to half of the ROI, anchor 1 is background."""
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [40.0, 40.0, 50.0, 50.0]])
    target = torch.tensor([[0.0, 0.0, 10.0, 5.0]])
    deltas = torch.zeros(1, 2, 4)
    deltas[0, 0] = Box2BoxTransform((1.0, 1.0, 1.0, 1.0)).get_deltas(anchors[:1], target)[0]
    logits = torch.tensor([[0.3, -1.0]])
    losses = dnet.losses(
        DensePredictions(anchors, deltas, logits), [instances_of([[0.0, 0.0, 10.0, 10.0]])], torch.tensor([False])
    )
    targets = torch.tensor([[0.5, 0.0]])
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    expected = (expected * (targets - logits.sigmoid()) ** 2).sum()
    assert losses["loss_quality_fa"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_proposals_are_ranked_clipped_and_distinct(dnet):
    anchors = torch.tensor(
        [[10.0, 10.0, 30.0, 30.0], [11.0, 10.0, 31.0, 30.0], [40.0, 20.0, 74.0, 60.0], [0.0, 0.0, 9.0, 9.0]]
    )
    dnet.rank = RANKING_REGISTRY.get("quality")
    logits = torch.tensor([[2.0, 3.0, 1.0, -4.0]])
    predictions = DensePredictions(anchors, torch.zeros(1, 4, 4), logits)
    (proposals,) = dnet.propose(predictions, [(64, 72)], max_per_image=3)
    # the first overlaps the second, which ranks higher
    assert proposals.pred_boxes.tensor.tolist() == [[11, 10, 31, 30], [40, 20, 72, 60], [0, 0, 9, 9]]
    torch.testing.assert_close(proposals.scores, torch.tensor([3.0, 1.0, -4.0]).sigmoid())
    (best,) = dnet.propose(predictions, [(64, 72)], max_per_image=1)
    assert best.pred_boxes.tensor.tolist() == [[11, 10, 31, 30]]


def test_pooled_input_keeps_the_coordinates_of_the_image_tensor():
    class Body(torch.nn.Module):
        size_divisibility = 8

        def forward(self, x):
            return {"p3": x}

        def output_shape(self):
            return {"p3": ShapeSpec(channels=3, stride=8)}

    pooled = InputPooling(Body(), 2)
    image = torch.arange(16.0).view(1, 1, 4, 4)
    assert pooled(image)["p3"].flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert pooled.output_shape()["p3"].stride == 16 and pooled.size_divisibility == 16


def test_alone_it_obeys_detectron2s_contract(dnet):
    batch = [{"image": torch.zeros(3, 64, 72, dtype=torch.uint8), "height": 128, "width": 144}]
    (output,) = dnet.eval()(batch)
    assert len(output["instances"]) == 1 and output["instances"].image_size == (128, 144)
    batch[0]["instances"] = instances_of([[10.0, 10.0, 40.0, 40.0]])
    losses = dnet.train()(batch)
    assert set(losses) == {"loss_dnet_fa", "loss_dnet_pa", "loss_quality_fa", "loss_quality_pa"}


def test_box_subnet_shares_its_weights_between_levels():
    head = BoxSubnet(in_channels=8, num_anchors=2, num_convs=1, with_quality=False)
    x = torch.rand(1, 8, 5, 5)
    deltas, quality = head([x, x])
    torch.testing.assert_close(deltas[0], deltas[1])
    assert quality == []
