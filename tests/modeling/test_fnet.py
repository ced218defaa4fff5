import torch

from tsdd_d2.modeling.fnet import FNet, pool_globally, pool_rois


def levels():
    """Two levels of two images, one channel each: columns 0 to 7 at stride 4, 0 to 3 at stride 8."""
    return [torch.arange(8.0).expand(2, 1, 8, 8), torch.arange(4.0).expand(2, 1, 4, 4)], [4, 8]


def test_roi_pooling_is_the_mean_over_the_box():
    features, strides = levels()
    # x from 8 to 24: columns 2 to 5 at stride 4 (mean 3.5), columns 1 and 2 at stride 8 (mean 1.5)
    boxes = [torch.tensor([[8.0, 8.0, 24.0, 24.0]]), torch.zeros(0, 4)]
    pooled = pool_rois(features, strides, boxes, [(32, 32)] * 2)
    torch.testing.assert_close(pooled, torch.tensor([[3.5, 1.5]]))


def test_global_pooling_leaves_the_padding_out():
    features, strides = levels()
    boxes = [torch.zeros(2, 4), torch.zeros(1, 4)]
    # the second image is 16 pixels wide: columns 0 to 3 (mean 1.5) and 0 to 1 (mean 0.5)
    pooled = pool_globally(features, strides, boxes, [(32, 32), (32, 16)])
    torch.testing.assert_close(pooled, torch.tensor([[3.5, 1.5], [3.5, 1.5], [1.5, 0.5]]))


def test_fnet_is_two_layers_on_both_networks_features():
    fnet = FNet(in_features=3, hidden=2)
    with torch.no_grad():
        fnet.fc1.weight.copy_(torch.tensor([[1.0, 0, 0], [0, -1.0, -1.0]]))
        fnet.fc1.bias.zero_()
        fnet.fc2.weight.copy_(torch.tensor([[1.0, 0], [0, 2.0]]))
        fnet.fc2.bias.copy_(torch.tensor([0.5, 0]))
    logits = fnet(torch.tensor([[2.0]]), torch.tensor([[1.0, -3.0]]))
    # hidden: 2 and -(1 - 3) = 2; logits: 2 + 0.5 and 4
    assert logits.tolist() == [[2.5, 4.0]]
