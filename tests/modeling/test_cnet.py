import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import roi_align

from detectron2.structures import Boxes, Instances
from tsdd_d2.modeling.cnet import CNet, bilinear_crop


@pytest.fixture
def cnet():
    torch.manual_seed(0)
    return CNet(depth=18, input_size=32, context=1.0, norm="BN", beta=0.5)


def rois(boxes, classes):
    instances = Instances((40, 40))
    instances.gt_boxes = Boxes(torch.tensor(boxes))
    instances.gt_classes = torch.tensor(classes)
    return instances


def test_crop_resamples_the_roi():
    """A horizontal ramp stays a ramp: ROIAlign of a linear image samples it exactly at the bin centres."""
    cnet = CNet(depth=18, input_size=4, context=1.0, norm="BN", beta=1.0)
    ramp = torch.arange(40.0).expand(1, 3, 40, 40)
    crop = cnet.crop(ramp, [torch.tensor([[8.0, 8.0, 24.0, 24.0]])])
    # bins of 4 pixels from 8 on, centres 10, 14, 18, 22; pixel i covers [i, i + 1), its centre is i + 0.5
    assert crop[0, 0, 0].tolist() == pytest.approx([9.5, 13.5, 17.5, 21.5])


def test_the_crop_has_no_gradient_to_the_box(cnet):
    box = torch.tensor([[4.0, 4.0, 20.0, 20.0]], requires_grad=True)
    assert not cnet.crop(torch.rand(1, 3, 40, 40), [box]).requires_grad


def test_a_square_crop_keeps_the_shape():
    """The ROI is half as wide as it is high: in the middle half of the crop, the sides show what lies beside it."""
    image = torch.zeros(1, 3, 40, 40)
    image[:, :, 8:24, 12:20] = 1.0
    cnet = CNet(depth=18, input_size=4, context=1.0, square_crop=True, norm="BN", beta=1.0)
    crop = cnet.crop(image, [torch.tensor([[12.0, 8.0, 20.0, 24.0]])])
    assert crop[0, 0].tolist() == [[0.0, 1.0, 1.0, 0.0]] * 4


def test_class_probabilities_of_arbitrary_boxes(cnet):
    images = torch.rand(3, 3, 40, 40)
    boxes = [torch.tensor([[0.0, 0, 20, 20], [5, 5, 30, 35]]), torch.zeros(0, 4), torch.tensor([[0.0, 0, 20, 20]])]
    probabilities = cnet.eval().class_probabilities(images, boxes)
    assert [x.shape for x in probabilities] == [(2, 2), (0, 2), (1, 2)]
    torch.testing.assert_close(probabilities[0].sum(dim=1), torch.ones(2))
    # one call for the batch gives what a call for each image gives
    alone = cnet.class_probabilities(images[2:], boxes[2:])[0]
    torch.testing.assert_close(probabilities[2], alone, atol=1e-5, rtol=1e-5)


def test_a_network_of_several_scales_sees_them_without_being_asked(cnet):
    seen = CNet(depth=18, input_size=32, context=1.0, scales=(1.0, 1.5), norm="BN", beta=0.5)
    seen.load_state_dict(cnet.state_dict())
    images, box = torch.rand(1, 3, 40, 40), torch.tensor([[8.0, 10.0, 20.0, 30.0]])
    wider = torch.tensor([[5.0, 5.0, 23.0, 35.0]])  # 1.5 times about (14, 20)
    mean = sum(cnet.eval().class_logits(images, [b]) for b in (box, wider)) / 2
    torch.testing.assert_close(seen.eval().class_logits(images, [box]), mean, atol=1e-5, rtol=1e-5)


def test_a_network_that_mirrors_tells_no_left_from_right(cnet):
    seen = CNet(depth=18, input_size=32, context=1.0, mirror=True, norm="BN", beta=0.5)
    seen.load_state_dict(cnet.state_dict())
    images, box = torch.rand(1, 3, 40, 40), torch.tensor([[8.0, 10.0, 20.0, 30.0]])
    mirrored = images.flip(3), [torch.tensor([[20.0, 10.0, 32.0, 30.0]])]
    torch.testing.assert_close(seen.eval().class_logits(images, [box]), seen.class_logits(*mirrored), atol=1e-5, rtol=1e-5)
    both = (cnet.eval().class_logits(images, [box]) + cnet.class_logits(*mirrored)) / 2
    torch.testing.assert_close(seen.class_logits(images, [box]), both, atol=1e-5, rtol=1e-5)


def test_many_boxes_are_scored_in_several_calls(cnet, monkeypatch):
    monkeypatch.setattr("tsdd_d2.modeling.cnet.MAX_BOXES", 4)
    boxes = [torch.rand(n, 4) * 15 + torch.tensor([0.0, 0, 20, 20]) for n in (3, 0, 6, 1)]
    images, calls = torch.rand(4, 3, 40, 40), []
    cnet.eval().resnet.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    probabilities = cnet.class_probabilities(images, boxes)
    assert calls == [4, 4, 2]
    expected = cnet.class_logits(images, boxes).softmax(dim=1).split([3, 0, 6, 1])
    for found, whole in zip(probabilities, expected):
        torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-5)


def test_no_boxes_at_all(cnet):
    assert cnet.class_probabilities(torch.rand(1, 3, 40, 40), [torch.zeros(0, 4)])[0].shape == (0, 2)


def test_eq_3_and_4_by_hand(cnet):
    """Three ROIs with known logits: one fa, two pa."""
    logits = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    cnet.class_logits = lambda images, boxes: logits
    box = [[0.0, 0.0, 9.0, 9.0]]
    targets = [rois(box, [1]), rois(box, [0]), rois(box, [0])]
    losses = cnet.losses(None, [x.gt_boxes.tensor for x in targets], targets, torch.tensor([False, True, True]))
    assert losses["loss_cnet_fa"].item() == pytest.approx(0.693147, rel=1e-5)  # -log 1/2
    # -log(e^2/(e^2+1)) = 0.126928, -log(1/(1+e)) = 1.313262; their mean, times beta
    assert losses["loss_cnet_pa"].item() == pytest.approx(0.5 * (0.126928 + 1.313262) / 2, rel=1e-5)


def test_bilinear_crop_is_roi_align():
    images = torch.rand(3, 3, 40, 50)
    over_the_border = [-6.0, 2.0, 53.0, 45.0]
    boxes = [
        torch.tensor([[5.0, 6.0, 30.0, 31.5], [8.2, 3.3, 20.7, 35.1]]),
        torch.zeros(0, 4),
        torch.tensor([over_the_border]),
    ]
    expected = roi_align(images, boxes, output_size=8, sampling_ratio=1, aligned=True)
    torch.testing.assert_close(bilinear_crop(images, boxes, 8), expected, atol=1e-5, rtol=1e-4)


def test_nothing_is_sampled_where_no_box_is(monkeypatch):
    sampled, sample = [], F.grid_sample
    monkeypatch.setattr(
        F, "grid_sample", lambda images, *args, **kw: sampled.append(len(images)) or sample(images, *args, **kw)
    )
    boxes = [torch.zeros(0, 4), torch.tensor([[1.0, 1.0, 5.0, 5.0]] * 2), torch.zeros(0, 4)]
    assert bilinear_crop(torch.rand(3, 1, 9, 9), boxes, 2).shape == (2, 1, 2, 2) and sampled == [1]
