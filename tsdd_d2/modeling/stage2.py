"""The network of the second training stage: D-Net, C-Net and F-Net in one (paper III.C, Fig. 5)."""

from typing import Dict, List

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import ImageList

from .cnet import NUM_CLASSES, probabilities_of_boxes
from .fnet import DNET_POOLING_REGISTRY, FNet, num_pooled_features
from .groups import fa_and_pa_terms, partially_annotated_images
from .network import TSDDNetwork, build_classifier, build_localiser


@META_ARCH_REGISTRY.register()
class TSDDStage2(TSDDNetwork):
    """D-Net's top-1 box is cropped for C-Net, F-Net diagnoses from the features of both.

    The two auxiliary classifiers of the self-distillation, ``auxiliary.cls1`` on D-Net's features and
    ``auxiliary.cls2`` on C-Net's, are used in training alone.
    """

    diagnoses_with_dnet = True

    @configurable
    def __init__(
        self,
        *,
        fnet: FNet,
        dnet_pooling: str,
        dnet_strides: List[int],
        auxiliary: nn.ModuleDict,
        beta: float,
        label_smoothing: float = 0.0,
        **networks,
    ):
        """
        Args:
            dnet_pooling: a name in :data:`~tsdd_d2.modeling.fnet.DNET_POOLING_REGISTRY`.
            dnet_strides: of D-Net's feature levels, in pixels of the image tensor.
            auxiliary: classifiers ``cls1`` and ``cls2``; empty without self-distillation.
            beta, label_smoothing: see :class:`~tsdd_d2.modeling.cnet.CNet`.
            networks: see :class:`TSDDNetwork`. C-Net gives up its classifier here.
        """
        super().__init__(**networks)
        self.cnet.classifier = None
        self.fnet = fnet
        self.pool = DNET_POOLING_REGISTRY.get(dnet_pooling)
        self.dnet_strides = dnet_strides
        self.auxiliary = auxiliary
        self.beta = beta
        self.label_smoothing = label_smoothing

    @classmethod
    def from_config(cls, cfg):
        dnet = build_localiser(cfg)
        cnet = build_classifier(cfg)
        levels = dnet.feature_shapes()
        num_dnet_features = num_pooled_features(levels)
        auxiliary = {
            "cls1": nn.Linear(num_dnet_features, NUM_CLASSES),
            "cls2": nn.Linear(cnet.num_features, NUM_CLASSES),
        }
        return {
            "dnet": dnet,
            "cnet": cnet,
            "fnet": FNet(in_features=num_dnet_features + cnet.num_features, hidden=cfg.MODEL.FNET.HIDDEN),
            "dnet_pooling": cfg.MODEL.FNET.DNET_POOLING,
            "dnet_strides": [level.stride for level in levels],
            "auxiliary": nn.ModuleDict(auxiliary if cfg.MODEL.FNET.SELF_DISTILLATION else {}),
            "beta": cfg.MODEL.CNET.BETA,
            "label_smoothing": cfg.MODEL.CNET.LABEL_SMOOTHING,
            "bfloat16": cfg.SOLVER.AMP.ENABLED,
        }

    def training_losses(self, batched_inputs: List[Dict]) -> Dict[str, Tensor]:
        """The terms of Eq. (5), each as its fa and its pa half."""
        images = self.dnet.preprocess_image(batched_inputs)
        gt_instances = [x["instances"].to(self.device) for x in batched_inputs]
        is_pa = partially_annotated_images(batched_inputs, self.device)
        features = self.dnet.extract_features(images)
        predictions = self.dnet.predict(features)
        # L_D-Net of Eq. (5)
        losses = self.dnet.losses(predictions, gt_instances, is_pa)

        # the crop is of D-Net's top-1 box, in training too
        boxes = [x.pred_boxes.tensor for x in self.dnet.propose(predictions, images.image_sizes, 1)]
        dnet_features = self.pool(features, self.dnet_strides, boxes, images.image_sizes)
        cnet_features = self.cnet.features(images.tensor, boxes)
        logits = {"fnet": self.fnet(dnet_features, cnet_features).float()}
        for name, classifier in self.auxiliary.items():
            logits[name] = classifier(dnet_features if name == "cls1" else cnet_features).float()

        # an image whose lesion the augmentation moved out of view has no class either
        visible = torch.tensor([len(x) > 0 for x in gt_instances], device=self.device)
        target = torch.cat([x.gt_classes[:1] for x in gt_instances])
        is_pa = is_pa[visible]
        for name, x in logits.items():
            # L_F-Net, L_cls1 and L_cls2 of Eq. (5): the cross-entropy of Eq. (4), its halves weighted as in Eq. (3)
            loss = F.cross_entropy(x[visible], target, label_smoothing=self.label_smoothing, reduction="none")
            losses.update(fa_and_pa_terms(f"loss_{name}", loss, is_pa, self.beta))
        return losses

    def class_probabilities(self, images: ImageList, features: List[Tensor], boxes: List[Tensor]) -> List[Tensor]:
        """F-Net's diagnosis of arbitrary boxes, see :meth:`TSDDNetwork.class_probabilities`."""

        def class_logits(boxes: List[Tensor]) -> Tensor:
            pooled = self.pool(features, self.dnet_strides, boxes, images.image_sizes)
            return self.fnet(pooled, self.cnet.features(images.tensor, boxes)).float()

        return probabilities_of_boxes(class_logits, boxes)
