"""Pictures of ROIs: each image with its boxes, and one lesion through the rounds."""

from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from detectron2.data import detection_utils
from detectron2.structures import BoxMode
from detectron2.utils.visualizer import ColorMode, Visualizer

from .data import CLASS_NAMES
from .data.input_images import InputImage
from .predictor import Prediction

# RGB in [0, 1]
COLOURS = {
    "manual": (0.2, 0.6, 1.0),
    "true": (0.2, 0.9, 0.3),
    "ROI": (1.0, 0.75, 0.1),
    "candidate": (0.7, 0.7, 0.7),
}


def draw_boxes(
    image: np.ndarray, boxes: Sequence[Tuple[str, Sequence[float], str]], title: str = ""
) -> np.ndarray:
    """Draws labelled boxes on an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (kind, XYXY in pixels, label) for each box, kind a key of :data:`COLOURS`.
        title: written into the upper left corner.
    Returns:
        (H', W', 3) uint8 RGB, enlarged so that text is readable on small images.
    """
    scale = max(1.0, 480 / min(image.shape[:2]))
    visualizer = Visualizer(image, scale=scale, instance_mode=ColorMode.IMAGE)
    for kind, box, label in boxes:
        visualizer.draw_box(box, alpha=1.0, edge_color=COLOURS[kind])
        visualizer.draw_text(
            label,
            (box[0], box[3] if kind == "ROI" else max(box[1] - 12, 0)),
            color=COLOURS[kind],
            horizontal_alignment="left",
            font_size=visualizer._default_font_size * 0.8,
        )
    if title:
        visualizer.draw_text(title, (2, 0), color="w", horizontal_alignment="left")
    return visualizer.output.get_image()


def annotation_boxes(
    image: Dict, annotations: List[Dict]
) -> List[Tuple[str, List[float], str]]:
    """What to draw for one image of a ROI file: the manual or true box, and the current ROI with its score.

    Args:
        image, annotations: entries of a BBUI file; ``roi_score`` is C-Net's probability of the true class.
    """
    boxes = []
    if "true_bbox" in image:
        boxes.append(("true", _xyxy(image["true_bbox"]), "true"))
    for annotation in annotations:
        if "manual_bbox" in annotation:
            boxes.append(("manual", _xyxy(annotation["manual_bbox"]), "manual"))
        source = annotation.get("roi_source", "manual")
        label = source
        if "roi_score" in annotation:
            label += f" p={annotation['roi_score']:.2f}"
        boxes.append(("ROI", _xyxy(annotation["bbox"]), label))
    return boxes


def draw_image(
    path: str, image: Dict, annotations: List[Dict], title: Optional[str] = None
) -> np.ndarray:
    """The picture of one image of a ROI file: boxes, class and probabilities; (H, W, 3) uint8 RGB."""
    pixels = detection_utils.read_image(path, format="RGB")
    if title is None:
        title = CLASS_NAMES[image["category_id"] - 1]
    return draw_boxes(pixels, annotation_boxes(image, annotations), title)


def draw_prediction(image: InputImage, prediction: Prediction) -> np.ndarray:
    """The picture of one diagnosed image: the box, the other candidates, the class and the probability of malignant.

    Returns:
        (H', W', 3) uint8 RGB, the whole image, enlarged as by :func:`draw_boxes`.
    """
    kinds = ["ROI"] + ["candidate"] * len(prediction.candidates)
    # the first one last, on top of the others
    boxes = [(kind, x.box, f"p={x.malignancy:.2f}") for kind, x in zip(kinds, prediction.candidates)][::-1]
    title = f"{prediction.predicted_class}, p(malignant)={prediction.malignancy:.2f}"
    return draw_boxes(image.pixels, boxes, title if boxes else f"{title}, no lesion found")


def _xyxy(box) -> List[float]:
    return BoxMode.convert(list(box), BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
