"""What the semi-supervised methods share: batches of labelled and unlabelled images, a teacher, and pseudo-box bookkeeping.

Labelled images are the fully annotated ones. The others are unlabelled: of their truth nothing but the class reaches a loss,
and that only where the method may see it (``sees``); then pseudo-boxes of the other class are dropped.
"""

import contextlib
import logging
from typing import Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from detectron2.data import DatasetCatalog
from detectron2.data import transforms as T
from detectron2.engine import HookBase
from detectron2.structures import Boxes, Instances, pairwise_iou
from detectron2.utils import comm

from ..data.categories import CLASS_NAMES
from ..data.draws import Stream
from ..data.roi import is_fully_annotated, rois_xyxy
from ..data.views import ViewsMapper, carry_boxes, in_view
from ..engine.hooks import WeightAveraging
from ..engine.trainer import Trainer
from ..errors import InputError

logger = logging.getLogger(__name__)

LABELLED, UNLABELLED = "labelled", "unlabelled"
WEAK, STRONG = "weak", "strong"
# A pseudo-box is right where it overlaps a true one of its class at least so much.
RIGHT_IOU = 0.5
ORIGINAL = torch.eye(3, dtype=torch.float64)


class TeacherTrainer(Trainer):
    """The trainer of a student whose running average, the teacher, labels the unlabelled images.

    In the burn-in, and where no image is unlabelled, all of a batch is labelled.
    """

    loads_rounds = True  # one round before the end of the burn-in, one after it

    # unlabelled images in a batch for each labelled one
    unlabelled_ratio = 1
    # whether the teacher, or the student, is evaluated
    teacher_predicts = True

    def __init__(self, cfg):
        self.pseudo_boxes = PseudoBoxLog(cfg)
        super().__init__(cfg)

    @classmethod
    def batch_unit(cls, cfg) -> int:
        return 1 + cls.unlabelled_ratio

    @classmethod
    def initialise(cls, cfg, network: nn.Module) -> None:
        if cfg.TEACHER.BURN_IN >= cfg.SOLVER.MAX_ITER:
            raise InputError(
                f"TEACHER.BURN_IN {cfg.TEACHER.BURN_IN} leaves nothing of SOLVER.MAX_ITER {cfg.SOLVER.MAX_ITER} to the teacher."
            )
        super().initialise(cfg, network)

    @classmethod
    def build_teacher(cls, cfg, network: nn.Module) -> WeightAveraging:
        return WeightAveraging(network, cfg.SOLVER.EMA_DECAY, burn_in=cfg.TEACHER.BURN_IN, predicts=cls.teacher_predicts)

    def method_hooks(self) -> List[HookBase]:
        return [EndOfBurnIn(self.cfg.TEACHER.BURN_IN, self.load_images), self.pseudo_boxes]

    def before_train(self):
        self.load_images()
        super().before_train()

    def load_images(self) -> None:
        """Rebuilds the train loader for the rest of the burn-in, or of the training."""
        end = min(self.cfg.TEACHER.BURN_IN, self.max_iter)
        first, last = (0, end) if self.iter < end else (end, self.max_iter)
        # a seed for each of both parts
        self.train_on(self.initial_images(), first, last, 2 * self.cfg.SEED + (first > 0))

    def known_classes(self, images: List[Dict]) -> List[Optional[int]]:
        """Of unlabelled images, None where the method may not see them."""
        return [x["category_id"] if self.method.sees.pa_classes else None for x in images]

    def labelled_views(self) -> ViewsMapper:
        """The views of a labelled image, and of an unlabelled one."""
        raise NotImplementedError

    def unlabelled_views(self) -> ViewsMapper:
        raise NotImplementedError

    def streams(self, images: List[Dict]) -> List[Stream]:
        size = self.cfg.SOLVER.IMS_PER_BATCH
        labelled, unlabelled = split(images)
        if not unlabelled:
            logger.warning("%s: every image has a ROI, so that there is nothing to label.", self.method.name)
        if self.is_burn_in or not unlabelled:
            return [Stream(labelled, size, self.labelled_views(), name=LABELLED)]
        self.pseudo_boxes.begin(unlabelled)
        share = size // (1 + self.unlabelled_ratio)
        return [
            Stream(labelled, share, self.labelled_views(), name=LABELLED),
            Stream(unlabelled, size - share, self.unlabelled_views(), name=UNLABELLED),
        ]

    def views(self, one_geometry: bool = False, whole: Sequence[str] = (), **views: Sequence[T.Augmentation]) -> ViewsMapper:
        return ViewsMapper(self.cfg, views, self.read_pixels, one_geometry, whole)

    @property
    def is_burn_in(self) -> bool:
        return self.iter < self.cfg.TEACHER.BURN_IN

    @torch.no_grad()
    def teacher_boxes(self, images: List[Dict], threshold: float) -> List[Instances]:
        """The boxes that the teacher finds with more than a score, and notes of them in the log.

        Args:
            images: the views that the teacher sees.
        Returns:
            of each, ``pred_boxes`` in the view, ``scores``, ``pred_classes``.
        """
        teacher = self.teacher.eval()
        found = [x["instances"] for x in teacher.detect([{"image": x["image"]} for x in images])]
        chosen = [confident(x, threshold, c) for x, c in zip(found, self.known_classes(images))]
        for image, candidates, boxes in zip(images, found, chosen):
            self.pseudo_boxes.add(image, boxes, candidates.scores)
        return chosen


class EndOfBurnIn(HookBase):
    """Loads other images from an iteration on."""

    def __init__(self, iteration: int, load_images: Callable[[], None]):
        self.iteration = iteration
        self.load_images = load_images

    def before_step(self) -> None:
        if self.trainer.iter == self.iteration > 0 and self.trainer.iter > self.trainer.start_iter:
            self.load_images()


@contextlib.contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """
    Batch normalisation goes on with the mean and variance of each batch, but its running statistics stay those of the labelled
    images: with those of strongly augmented ones the teacher, and whoever predicts, would see other images than in training.
    (The authors of all three methods keep the statistics of ImageNet.)
    """
    momenta = {x: x.momentum for x in network.modules() if isinstance(x, nn.modules.batchnorm._BatchNorm)}
    for x in momenta:
        x.momentum = 0.0
    try:
        yield
    finally:
        for x, momentum in momenta.items():
            x.momentum = momentum


def split(images: Sequence[Dict]) -> Tuple[List[Dict], List[Dict]]:
    """Labelled and unlabelled dataset dicts; of the latter the annotations, which are empty, are gone."""
    labelled = [x for x in images if is_fully_annotated(x.get("annotations", ()))]
    unlabelled = [x for x in images if not is_fully_annotated(x.get("annotations", ()))]
    return labelled, [{k: v for k, v in x.items() if k != "annotations"} for x in unlabelled]


def of(batch: List[Dict], stream: str, view: Optional[str] = None) -> List[Dict]:
    """The mapped images of a stream, all or those of one view, in their order."""
    return [x for x in batch if x["stream"] == stream and view in (None, x.get("view"))]


def confident(found: Instances, threshold: float, category: Optional[int] = None) -> Instances:
    """Detections with a score above a threshold, of one class if the image's is given."""
    chosen = found.scores > threshold
    if category is not None:
        chosen = chosen & (found.pred_classes == category)
    return found[chosen]


def carried(found: Instances, source: Dict, target: Dict) -> Instances:
    """
    Detections in one view of an image as what another view is to be trained on; fields of detections come along.

    Args:
        source, target: the mapped images.
    Returns:
        of those in view ``gt_boxes`` and, by a name that begins with ``gt_``, all other fields: ``gt_classes``, ``gt_scores``, ...
    """
    size = tuple(target["image"].shape[1:])
    boxes, seen = in_view(carry_boxes(found.pred_boxes.tensor, source["transform"], target["transform"]), size)
    targets = Instances(size, gt_boxes=boxes)
    for name, value in found[seen].get_fields().items():
        if name != "pred_boxes":
            targets.set(f"gt_{name.removeprefix('pred_')}", value)
    return targets


class Truth(NamedTuple):
    """Of an unlabelled image: ``boxes`` (M, 4), XYXY in the original image, of the ROIs that are withheld; its class."""

    boxes: Tensor
    category: int


class PseudoBoxLog(HookBase):
    """Counts pseudo-boxes, and where the truth is withheld how many are right, and writes both every ``PERIOD`` steps:

    * ``pseudo_boxes/<class>``: of an image, in the mean;
    * ``pseudo_boxes/images``: share of the images that have one;
    * ``pseudo_boxes/class_precision``: share of them whose class is that of the image;
    * ``pseudo_boxes/box_precision``: of those in images with a withheld ROI, share of those that overlap it by an IoU of
      :data:`RIGHT_IOU`; ``pseudo_boxes/precision``: and have the right class;
    * ``pseudo_boxes/best_score``: the highest score in an image, in the mean;
    * ``pseudo_boxes/steady``, ``steady_precision``: share of the candidates that train the box loss of Soft Teacher, and as
      ``box_precision`` of these.

    It alone reads the truth of unlabelled images, from the data set itself, and hands it to nobody.
    """

    PERIOD = 20
    PATIENCE = 200
    COUNTERS = ("_counts", "_images", "_with_boxes", "_values", "_empty_steps")

    def __init__(self, cfg):
        self.cfg = cfg
        self.truth: Mapping[int, Truth] = {}
        self._empty_steps = 0
        self._reset()

    def _reset(self) -> None:
        self._counts = [0] * len(CLASS_NAMES)
        self._images = self._with_boxes = 0
        # of each pseudo-box, or image, since the last time
        self._values: Dict[str, List[float]] = {}

    def state_dict(self) -> Dict:
        """What a run that goes on has not written yet."""
        return {name: getattr(self, name) for name in self.COUNTERS}

    def load_state_dict(self, state: Dict) -> None:
        for name in self.COUNTERS:
            setattr(self, name, state[name])

    def begin(self, unlabelled: Sequence[Dict]) -> None:
        """Looks up the truth of the images that pseudo-boxes will be added for."""
        ids = {x["image_id"] for x in unlabelled}
        self.truth = {
            x["image_id"]: Truth(torch.from_numpy(rois_xyxy(x)), x["category_id"])
            for x in DatasetCatalog.get(self.cfg.DATASETS.TRAIN[0])
            if x["image_id"] in ids
        }

    def add(self, image: Dict, chosen: Instances, scores: Tensor) -> None:
        """
        Args:
            image: the mapped view that the boxes are in.
            chosen: the pseudo-boxes.
            scores: of all boxes that they were chosen from.
        """
        truth = self.truth[image["image_id"]]
        self._images += 1
        self._with_boxes += len(chosen) > 0
        for i in chosen.pred_classes.tolist():
            self._counts[i] += 1
        self._note("best_score", scores.max().view(1) if len(scores) else scores)
        right_class = (chosen.pred_classes == truth.category).cpu()
        self._note("class_precision", right_class)
        if len(truth.boxes):
            right_box = self._on_the_truth(image, chosen)
            self._note("box_precision", right_box)
            self._note("precision", right_box & right_class)

    def add_steady(self, image: Dict, candidates: Instances, steady: Tensor) -> None:
        """
        Args:
            candidates: of ``image``, R; steady: (R,) which of them train the box loss.
        """
        self._note("steady", steady)
        if len(self.truth[image["image_id"]].boxes):
            self._note("steady_precision", self._on_the_truth(image, candidates[steady]))

    def _on_the_truth(self, image: Dict, found: Instances) -> Tensor:
        """(R,) whether a box overlaps one that is withheld."""
        boxes = carry_boxes(found.pred_boxes.tensor.cpu(), image["transform"], ORIGINAL)
        truth = self.truth[image["image_id"]].boxes
        return pairwise_iou(Boxes(boxes), Boxes(truth)).amax(dim=1) >= RIGHT_IOU

    def _note(self, name: str, values: Tensor) -> None:
        self._values.setdefault(name, []).extend(values.tolist())

    def after_step(self) -> None:
        if self._images == 0:
            return
        if (self.trainer.iter + 1) % self.PERIOD == 0 or self.trainer.iter + 1 == self.trainer.max_iter:
            self._warn()
            for name, value in self.summary().items():
                self.trainer.storage.put_scalar(f"pseudo_boxes/{name}", value, smoothing_hint=False)
            self._reset()

    def summary(self) -> Dict[str, float]:
        """The values since the last time; a precision only where there is something to compare."""
        values = {name: count / self._images for name, count in zip(CLASS_NAMES, self._counts)}
        values["images"] = self._with_boxes / self._images
        return {**values, **{name: sum(x) / len(x) for name, x in self._values.items() if x}}

    def _warn(self) -> None:
        self._empty_steps = 0 if self._with_boxes else self._empty_steps + self.PERIOD
        if self._empty_steps >= self.PATIENCE and comm.is_main_process():
            best = max(self._values["best_score"], default=0.0)
            logger.warning(
                "No pseudo-box in %d steps, so that the unlabelled images teach that nothing is there: the teacher's highest "
                "score in the last %d steps was %.2f, and TEACHER.THRESHOLD is %s. %s",
                self._empty_steps, self.PERIOD, best, self.cfg.TEACHER.THRESHOLD,
                "Its boxes above this are of the wrong class."
                if best > self.cfg.TEACHER.THRESHOLD
                else "Train longer before it labels (TEACHER.BURN_IN), or lower the threshold.",
            )  # fmt: skip
            self._empty_steps = 0
