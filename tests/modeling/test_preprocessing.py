import pytest
import torch

from tsdd_d2.modeling.preprocessing import PreprocessesImages


class Network(PreprocessesImages, torch.nn.Module):
    size_divisibility = 0

    def __init__(self):
        super().__init__()
        self.register_pixel_statistics([100.0], [50.0])


@pytest.mark.parametrize("divisor, sides", [(0, (40, 70)), (1, (40, 70)), (16, (48, 80))])
def test_training_and_export_see_one_image_tensor(divisor, sides, monkeypatch):
    monkeypatch.setattr(Network, "size_divisibility", divisor)
    model, image = Network(), torch.randint(0, 256, (1, 40, 70), dtype=torch.uint8)
    expected = torch.zeros(1, 1, *sides)
    expected[0, :, :40, :70] = (image - 100.0) / 50
    for images in (model.preprocess_image([{"image": image}]), model.preprocess_tensor(image[None])):
        assert torch.equal(images.tensor, expected) and images.image_sizes == [(40, 70)]
    assert not model.state_dict()
