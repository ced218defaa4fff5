import pytest
import torch

from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from tsdd_d2.modeling.cnet import MAX_BOXES
from tsdd_d2.modeling.stage1 import mix_in_dnet_boxes


@pytest.fixture
def model(tiny_cfg):
    torch.manual_seed(0)
    return build_model(tiny_cfg)


def inputs(size=(64, 72), output=(128, 144)):
    generator = torch.Generator().manual_seed(1)
    return {
        "image": torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8),
        "height": output[0],
        "width": output[1],
    }


def test_training_returns_every_loss_by_its_name(model):
    batch = []
    for partially_annotated in (False, True):
        instances = Instances((64, 72))
        instances.gt_boxes = Boxes(torch.tensor([[10.0, 10.0, 40.0, 40.0]]))
        instances.gt_classes = torch.tensor([1])
        batch.append({**inputs(), "instances": instances, "partially_annotated": partially_annotated})
    losses = model.train()(batch)
    assert set(losses) == {f"loss_{part}_{group}" for part in ("dnet", "quality", "cnet") for group in ("fa", "pa")}
    sum(losses.values()).backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None]
    assert unused == []  # DistributedDataParallel stops on a parameter without gradient


def test_the_group_is_the_images_also_without_a_roi_in_view(model):
    instances = Instances((64, 72), gt_boxes=Boxes(torch.zeros(0, 4)), gt_classes=torch.zeros(0, dtype=torch.long))
    for group, other, partially_annotated in (("pa", "fa", True), ("fa", "pa", False)):
        losses = model.train()([{**inputs(), "instances": instances, "partially_annotated": partially_annotated}])
        assert losses[f"loss_quality_{group}"] > 0 and losses[f"loss_quality_{other}"] == 0


def test_inference_returns_boxes_in_the_original_image(model):
    (output,) = model.eval()([inputs()])
    instances = output["instances"]
    assert instances.image_size == (128, 144) and len(instances) == 1
    assert instances.has("scores") and instances.has("pred_classes")
    assert 0 <= instances.malignancy.item() <= 1
    # the same box given as ROI is diagnosed the same
    (oracle,) = model.diagnose_rois([{**inputs(), "rois": instances.pred_boxes.tensor}])
    torch.testing.assert_close(oracle["instances"].malignancy, instances.malignancy, atol=1e-5, rtol=1e-4)


def test_scored_candidates_are_what_inference_finds_and_diagnoses(model):
    model.eval()
    (output,) = model([inputs()])
    roi = torch.tensor([[20.0, 20.0, 90.0, 100.0]])
    (scored,) = model.score_candidates([{**inputs(), "rois": roi}], 3)
    torch.testing.assert_close(scored.candidate_boxes[:1], output["instances"].pred_boxes.tensor)
    torch.testing.assert_close(scored.candidate_probabilities[0, 1], output["instances"].malignancy[0], atol=1e-5, rtol=1e-4)
    (oracle,) = model.diagnose_rois([{**inputs(), "rois": roi}])
    torch.testing.assert_close(scored.roi_probabilities[:, 1], oracle["instances"].malignancy, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("k", [1, 3])
def test_a_box_outside_the_image_is_no_candidate(model, k):
    decode, roi = model.dnet.decode, torch.tensor([[20.0, 20.0, 90.0, 100.0]])
    model.dnet.decode = lambda predictions: decode(predictions) * 0 + torch.tensor([-30.0, -30.0, -10.0, -10.0])
    (scored,) = model.eval().score_candidates([{**inputs(), "rois": roi}], k)
    assert [x.shape for x in scored] == [(0, 4), (0, 2), (1, 2)]
    (oracle,) = model.diagnose_rois([{**inputs(), "rois": roi}])
    torch.testing.assert_close(scored.roi_probabilities[:, 1], oracle["instances"].malignancy, atol=1e-5, rtol=1e-4)


def test_each_network_runs_once_in_a_pass(model):
    calls = []
    model.dnet.backbone.register_forward_hook(lambda *_: calls.append("D-Net"))
    model.cnet.resnet.register_forward_hook(lambda *_: calls.append("C-Net"))
    rois = torch.tensor([[20.0, 20.0, 90.0, 100.0]])
    model.eval().score_candidates([{**inputs(), "rois": rois}, {**inputs(), "rois": rois[:0]}], 4)
    assert calls == ["D-Net", "C-Net"]


def test_memory_does_not_grow_with_the_candidates(model):
    """Neither the largest batch of C-Net nor what is kept of an image beyond its k boxes and their probabilities."""
    sizes = []
    model.cnet.resnet.register_forward_hook(lambda _, crops, __: sizes.append(len(crops[0])))
    model.dnet.nms_thresh = 1.0  # so that k boxes are found
    batch = [{**inputs(), "rois": torch.tensor([[20.0, 20.0, 90.0, 100.0]])}] * 3
    for k in (1, 30):
        for scored in model.eval().score_candidates(batch, k):
            assert len(scored.candidate_boxes) == len(scored.candidate_probabilities) == k
            assert [x.untyped_storage().nbytes() for x in scored] == [k * 4 * 4, k * 2 * 4, 2 * 4]
    assert sizes[0] == 6 and max(sizes) <= MAX_BOXES and sum(sizes[1:]) == 3 * 31


def test_dnets_box_takes_the_place_of_the_roi_that_it_shows():
    rois = [
        torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 40.0, 40.0]]),
        torch.tensor([[0.0, 0.0, 10.0, 10.0]]),
        torch.zeros(0, 4),
    ]
    # IoU 0.5 with the second ROI of the first image, 0.4 with that of the second image
    found = torch.tensor([[20.0, 20.0, 40.0, 30.0], [0.0, 0.0, 10.0, 4.0], [0.0, 0.0, 5.0, 5.0]])
    mixed = mix_in_dnet_boxes(rois, found, probability=1.0)
    assert [x.tolist() for x in mixed] == [[[0, 0, 10, 10], [20, 20, 40, 30]], [[0, 0, 10, 10]], []]
    assert all(torch.equal(a, b) for a, b in zip(mix_in_dnet_boxes(rois, found, probability=0.0), rois))
