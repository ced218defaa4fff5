"""STAC (arXiv:2005.04757): a Faster R-CNN labels the images without ROI once, and a fresh one learns from both kinds.

The student's unlabelled images are strongly augmented, together with their boxes (Sec. 3.3, 3.4), after the flip, zoom and
shift of all methods, which its authors leave out there. Where this moves all boxes out of view, they train on the image as it
was, and we not at all. The teacher is the Faster R-CNN that it is compared with; the student trains as long again.
"""

import os
from dataclasses import replace
from typing import Dict, List, Optional

import torch
from torch import Tensor, nn
from torch.utils.data import SequentialSampler

from detectron2.data import build_detection_test_loader
from detectron2.engine import HookBase
from detectron2.modeling import build_model
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils import comm

from ..data.categories import CONTIGUOUS_IDS
from ..data.draws import Stream
from ..data.files import read_json, write_json
from ..data.mapper import BBUIMapper
from ..data.roi import PSEUDO
from ..data.strong_augmentation import Affine, BoxAffine, Cutout, OneColourOperation, OneOf, Shuffled
from ..data.views import ViewsMapper
from ..data.withheld import visible
from ..engine.checkpoint import TSDDCheckpointer, load_weights
from ..engine.run_folder import FINAL_WEIGHTS, PSEUDO_BOXES, read_run_config
from ..engine.trainer import Trainer
from ..errors import InputError
from ..method import EVERYTHING, FA_BOXES_PA_IMAGES, Method, paper_row, register_method
from .faster_rcnn import FASTER_RCNN, FASTER_RCNN_PROFILES
from .pseudo_boxes import LABELLED, ORIGINAL, STRONG, UNLABELLED, PseudoBoxLog, of, split, statistics_kept

# What the authors' detector reports at all.
LOWEST_SCORE = 0.05

STRONG_AUGMENTATION = (
    Shuffled(OneColourOperation(), OneOf(Affine(0.1, 30.0, 30.0), BoxAffine(0.05, 10.0, 10.0))),
    Cutout((1, 5), 0.2),
)


def fixed_boxes(found: Instances, threshold: float, category: Optional[int] = None) -> Instances:
    """The detections with at least a score, or with that of the best one where it is lower; of one class if it is known."""
    found = found[found.scores >= LOWEST_SCORE]
    if category is not None:
        found = found[found.pred_classes == category]
    if len(found) == 0:
        return found
    return found[found.scores >= min(threshold, float(found.scores.max()))]


class STAC(Trainer):
    """The student. It goes on from the run of the teacher that ``MODEL.WEIGHTS`` names, of which it takes the boxes alone.

    The run keeps them, in the format of COCO's results, and needs the teacher no more.
    """

    def __init__(self, cfg):
        self.pseudo_boxes = PseudoBoxLog(cfg)
        self.boxes: Dict[int, Instances] = {}
        super().__init__(cfg)

    @classmethod
    def batch_unit(cls, cfg) -> int:
        return 2

    @classmethod
    def initialise(cls, cfg, network: nn.Module) -> None:
        """With the weights that the teacher began with."""
        path = os.path.join(cfg.MODEL.WEIGHTS, FINAL_WEIGHTS)
        if not os.path.isfile(path):
            raise InputError(f"MODEL.WEIGHTS {cfg.MODEL.WEIGHTS}: it has no {FINAL_WEIGHTS}.")
        load_weights(network, read_run_config(cfg.MODEL.WEIGHTS))

    def method_hooks(self) -> List[HookBase]:
        return [self.pseudo_boxes]

    def resume_or_load(self, resume=True):
        super().resume_or_load(resume)
        if comm.is_main_process() and not os.path.isfile(self._path):
            unlabelled = self.unlabelled()
            write_json(self._path, label_images(self.cfg, unlabelled) if unlabelled else [])
        comm.synchronize()
        self.boxes = read_boxes(self._path)

    @property
    def _path(self) -> str:
        return os.path.join(self.cfg.OUTPUT_DIR, PSEUDO_BOXES)

    def unlabelled(self) -> List[Dict]:
        """Dataset dicts, with what the method may see."""
        return split(visible(self.initial_images(), self.method.sees))[1]

    def streams(self, images: List[Dict]) -> List[Stream]:
        labelled, unlabelled = split(images)
        unlabelled = [
            {**x, "annotations": annotations(self.boxes[i])} for x in unlabelled if (i := x["image_id"]) in self.boxes
        ]
        size = self.cfg.SOLVER.IMS_PER_BATCH
        if not unlabelled:
            return [Stream(labelled, size, name=LABELLED)]
        self.pseudo_boxes.begin(unlabelled)
        views = ViewsMapper(self.cfg, {STRONG: STRONG_AUGMENTATION}, self.read_pixels)
        return [Stream(labelled, size // 2, name=LABELLED), Stream(unlabelled, size // 2, views, name=UNLABELLED)]

    def losses(self, batch: List[Dict]) -> Dict[str, Tensor]:
        losses = self.trained_network(of(batch, LABELLED))
        unlabelled = of(batch, UNLABELLED)
        for x in unlabelled:
            boxes = self.boxes[x["image_id"]]
            self.pseudo_boxes.add({**x, "transform": ORIGINAL}, boxes, boxes.scores)
        # an image whose boxes the augmentation moved out of view is no image without a lesion
        unlabelled = [x for x in unlabelled if len(x["instances"])]
        if unlabelled:
            with statistics_kept(self.trained_network):
                unsupervised = self.trained_network(unlabelled)
        else:  # the same names, as other processes have them
            unsupervised = {name: 0 * value for name, value in losses.items()}
        return {**losses, **{f"{k}_pseudo": v * self.cfg.TEACHER.UNLABELLED_WEIGHT for k, v in unsupervised.items()}}


def label_images(cfg, images: List[Dict]) -> List[Dict]:
    """
    The pseudo-boxes of the run in ``MODEL.WEIGHTS`` on images.

    Args:
        images: dataset dicts; pseudo-boxes of another class than their ``category_id``, if they have one, are dropped.
    Returns:
        results as COCO's: ``image_id``, ``category_id``, ``bbox`` (XYWH in the original image), ``score``.
    """
    first = read_run_config(cfg.MODEL.WEIGHTS)
    first.MODEL.DEVICE = cfg.MODEL.DEVICE
    teacher = build_model(first).eval()
    TSDDCheckpointer(teacher).load(os.path.join(cfg.MODEL.WEIGHTS, FINAL_WEIGHTS), checkpointables=[])
    loader = build_detection_test_loader(
        images,
        mapper=BBUIMapper(first, is_train=False),
        sampler=SequentialSampler(images),  # Detectron2's own would leave the shares of other processes out
        batch_size=8,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
    ids = {contiguous: i for i, contiguous in CONTIGUOUS_IDS.items()}
    results = []
    for batch in loader:
        for image, output in zip(batch, teacher.detect(batch)):
            found = fixed_boxes(output["instances"].to("cpu"), cfg.TEACHER.THRESHOLD, image.get("category_id"))
            boxes = BoxMode.convert(found.pred_boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
            for box, category, score in zip(boxes.tolist(), found.pred_classes.tolist(), found.scores.tolist()):
                results.append({"image_id": image["image_id"], "category_id": ids[category], "bbox": box, "score": score})
    return results


def read_boxes(path: str) -> Dict[int, Instances]:
    """Image id -> ``pred_boxes`` in the original image, ``pred_classes``, ``scores``, of what :func:`label_images` found."""
    of_image: Dict[int, List[Dict]] = {}
    for x in read_json(path):
        of_image.setdefault(x["image_id"], []).append(x)
    boxes = {}
    for image_id, found in of_image.items():
        tensor = torch.tensor([x["bbox"] for x in found])
        boxes[image_id] = Instances(
            (0, 0),
            pred_boxes=Boxes(BoxMode.convert(tensor, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)),
            pred_classes=torch.tensor([CONTIGUOUS_IDS[x["category_id"]] for x in found]),
            scores=torch.tensor([x["score"] for x in found]),
        )
    return boxes


def annotations(found: Instances) -> List[Dict]:
    """Pseudo-boxes as annotations of a dataset dict."""
    boxes = found.pred_boxes.tensor.tolist()
    return [
        {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": category, "roi_source": PSEUDO, "iscrowd": 0}
        for box, category in zip(boxes, found.pred_classes.tolist())
    ]


STUDENT = register_method(
    Method(
        "stac",
        "STAC",
        "DiagnosingRCNN",
        FA_BOXES_PA_IMAGES,
        overrides={
            **FASTER_RCNN,
            "MODEL.WEIGHTS": "",
            "TEACHER.THRESHOLD": 0.9,
            "TEACHER.UNLABELLED_WEIGHT": 2.0,
        },
        profiles=FASTER_RCNN_PROFILES,
        trainer=STAC,
        starts_from="faster_rcnn",
        paper=(
            paper_row("table1", 0.2, "82.42±1.70 83.33±1.13 81.34±1.07 64.67±1.99"),
            paper_row("table3", 0.2, "72.42±1.70 83.33±1.13 81.34±1.07 64.67±1.99"),
            paper_row("table3", 0.4, "74.85±1.42 83.82±1.36 81.10±1.02 64.92±2.14"),
            paper_row("table3", 0.6, "78.48±1.26 84.43±1.27 82.06±1.08 66.49±2.25"),
            paper_row("table3", 0.8, "82.42±1.70 83.33±1.13 81.34±1.07 64.67±1.99"),
        ),
    )
)
# with the class of the images without ROI, as TSDDNet
register_method(replace(STUDENT, name="stac_weak", title="STAC, classes", sees=EVERYTHING, paper=()))
