import pytest
import torch

from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

LOSSES = ("dnet", "quality", "fnet", "cls1", "cls2")


@pytest.fixture
def stage2_cfg(tiny_cfg):
    tiny_cfg.MODEL.META_ARCHITECTURE = "TSDDStage2"
    return tiny_cfg


def build(cfg):
    torch.manual_seed(0)
    return build_model(cfg)


def image(size=(64, 72), output=(128, 144)):
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
    return {"image": pixels, "height": output[0], "width": output[1]}


def training_batch(visible=(True, True)):
    batch = []
    for i, has_roi in enumerate(visible):
        instances = Instances((64, 72))
        instances.gt_boxes = Boxes(torch.tensor([[10.0, 10.0, 40.0, 40.0]])[: int(has_roi)])
        instances.gt_classes = torch.tensor([1])[: int(has_roi)]
        batch.append({**image(), "instances": instances, "partially_annotated": i == 1})
    return batch


def names(parts):
    return {f"loss_{part}_{group}" for part in parts for group in ("fa", "pa")}


def test_eq_5_has_every_term_by_its_name(stage2_cfg):
    model = build(stage2_cfg).train()
    losses = model(training_batch())
    assert set(losses) == names(LOSSES)
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_eq_5_by_hand(stage2_cfg, monkeypatch):
    """Fixed logits for a fa image, a benign and a malignant pa image; beta 0.5. softplus(x) = log(1 + e^x) is the
    cross-entropy of a class that is x behind the other."""
    stage2_cfg.MODEL.CNET.BETA, stage2_cfg.MODEL.CNET.LABEL_SMOOTHING = 0.5, 0.0
    model = build(stage2_cfg).train()

    class Fixed(torch.nn.Module):
        def __init__(self, ahead):
            super().__init__()
            self.logits = torch.tensor([[0.0, x] for x in ahead])

        def forward(self, *features):
            return self.logits

    # how far malignant is ahead of benign, for the three images
    monkeypatch.setitem(model._modules, "fnet", Fixed([0.0, 1.0, 2.0]))
    monkeypatch.setitem(
        model._modules, "auxiliary", torch.nn.ModuleDict({"cls1": Fixed([3.0, 0.0, 0.0]), "cls2": Fixed([0.0, 1.0, 1.0])})
    )
    batch = training_batch(visible=(True, True)) + training_batch()[1:]
    batch[1]["instances"].gt_classes = torch.tensor([0])
    losses = model(batch)
    softplus = {0: 0.693147, 1: 1.313262, -1: 0.313262, -2: 0.126928, -3: 0.048587}
    by_hand = {
        "loss_fnet_fa": softplus[0],
        "loss_fnet_pa": 0.5 * (softplus[1] + softplus[-2]) / 2,
        "loss_cls1_fa": softplus[-3],
        "loss_cls1_pa": 0.5 * (softplus[0] + softplus[0]) / 2,
        "loss_cls2_fa": softplus[0],
        "loss_cls2_pa": 0.5 * (softplus[1] + softplus[-1]) / 2,
    }
    assert {name: losses[name].item() for name in by_hand} == pytest.approx(by_hand, abs=1e-5)


def test_without_self_distillation_two_terms_are_gone(stage2_cfg):
    stage2_cfg.MODEL.FNET.SELF_DISTILLATION = False
    assert set(build(stage2_cfg).train()(training_batch())) == names(LOSSES[:3])


def test_an_image_without_visible_lesion_teaches_no_class(stage2_cfg):
    losses = build(stage2_cfg).train()(training_batch(visible=(True, False)))
    assert losses["loss_fnet_fa"] > 0 and losses["loss_fnet_pa"] == 0
    # D-Net's background belongs to the group of the image all the same
    assert losses["loss_quality_fa"] > 0 and losses["loss_quality_pa"] > 0
    sum(losses.values()).backward()
    nothing = build(stage2_cfg).train()(training_batch(visible=(False, False)))
    assert nothing["loss_fnet_fa"] == 0 and nothing["loss_cls2_pa"] == 0


@pytest.mark.parametrize("pooling", ["global", "roi"])
def test_auxiliary_classifiers_have_no_part_in_the_diagnosis(stage2_cfg, pooling):
    stage2_cfg.MODEL.FNET.DNET_POOLING = pooling
    model = build(stage2_cfg).eval()
    (before,) = model([image()])
    with torch.no_grad():
        for p in model.auxiliary.parameters():
            p.fill_(7.0)
    called = []
    for classifier in model.auxiliary.values():
        classifier.register_forward_hook(lambda *_: called.append(1))
    (after,) = model([image()])
    assert called == []
    torch.testing.assert_close(before["instances"].malignancy, after["instances"].malignancy)
    assert before["instances"].image_size == (128, 144) and len(before["instances"]) == 1


def test_diagnosis_trains_the_features_and_not_the_box(stage2_cfg):
    model = build(stage2_cfg).train()
    losses = model(training_batch())
    (losses["loss_fnet_fa"] + losses["loss_cls2_fa"]).backward()
    assert model.dnet.head.bbox_pred.weight.grad is None
    assert model.dnet.backbone.body.fpn_lateral3.weight.grad.abs().sum() > 0
