"""What a method must not see is not in its dataset dicts, so that no loss can reach it by mistake."""

from typing import Dict, List, Sequence

from ..method import Sees
from .roi import is_fully_annotated

# What only an evaluation may know.
TRUTH = ("true_bbox",)


def visible(dataset_dicts: Sequence[Dict], sees: Sees) -> List[Dict]:
    """The images that a method may train on, with what it may see of them.

    Args:
        dataset_dicts: as of :func:`~tsdd_d2.data.bbui.load_bbui_json`; not modified.
    Returns:
        the fully annotated images, and the partially annotated ones where the method may see those. An image whose ROIs are
        withheld has no ``annotations``, rather than an empty list, which would say that it holds no lesion; one whose
        class is withheld has no ``category_id`` either.
    """
    groups = [(x, is_fully_annotated(x["annotations"])) for x in dataset_dicts]
    return [
        {key: value for key, value in x.items() if key not in withheld_keys(sees, is_fa)}
        for x, is_fa in groups
        if is_fa or sees.pa_images
    ]


def withheld_keys(sees: Sees, is_fa: bool) -> Sequence[str]:
    """Keys of the dataset dict of a fully annotated image, or of a partially annotated one, that training must not see."""
    class_is_seen = is_fa or sees.pa_classes
    return (
        *TRUTH,
        # a pseudo ROI comes from the class of its image, and holds it
        *(() if sees.boxes and class_is_seen else ("annotations",)),
        *(() if class_is_seen else ("category_id",)),
    )
