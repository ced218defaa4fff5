"""The one rule that turns the boxes of a detector with classes into a diagnosis, for every such method."""

import torch
from torch import Tensor

from detectron2.structures import Instances

from ..data.categories import CLASS_NAMES

__all__ = ["MALIGNANCY_WITHOUT_INSTANCE", "diagnose_detections", "malignancy_of_detections"]

# The malignancy of an image in which the model found nothing. Every image of a BBUI data set holds a lesion,
# so finding none is evidence for neither class: 0.5 is what an uninformed model answers. A value of 0 would
# reward a detector for overlooking benign lesions, and turn an overlooked cancer into the most confident
# "benign". At the default threshold of 0.5 the image is called malignant, that is, handed to a human.
MALIGNANCY_WITHOUT_INSTANCE = 0.5

BENIGN, MALIGNANT = map(CLASS_NAMES.index, ("benign", "malignant"))


def malignancy_of_detections(scores: Tensor, classes: Tensor) -> float:
    """
    The probability of malignant for one image: s_m / (s_m + s_b), where s_m and s_b are the scores of the top
    detections of both classes, 0 for a class without detection.

    Args:
        scores: (R,), in [0, 1].
        classes: (R,), 0 benign or 1 malignant.

    Returns:
        float: in [0, 1]; :data:`MALIGNANCY_WITHOUT_INSTANCE` if no detection has a score above 0.
    """
    top = [float(scores[classes == c].max()) if (classes == c).any() else 0.0 for c in (BENIGN, MALIGNANT)]
    if sum(top) == 0:
        return MALIGNANCY_WITHOUT_INSTANCE
    return top[MALIGNANT] / sum(top)


def diagnose_detections(instances: Instances) -> Instances:
    """
    The detections of one image as a model with a diagnosis returns them: the chosen box first, which is the one with
    the highest score, whatever its class, and the others after it by their scores.

    Args:
        instances: R detections with ``scores`` in [0, 1] and ``pred_classes`` (0 benign, 1 malignant). The detector
            must keep low scores (a score threshold of 0, more than one box for each image), or the top detection of
            the less likely class is missing and the malignancy is 0 or 1.

    Returns:
        the same R detections, best first, with a field ``malignancy`` (R,), :func:`malignancy_of_detections` on each.
    """
    malignancy = malignancy_of_detections(instances.scores, instances.pred_classes)
    instances = instances[torch.argsort(instances.scores, descending=True, stable=True)]
    instances.malignancy = torch.full_like(instances.scores, malignancy)
    return instances
