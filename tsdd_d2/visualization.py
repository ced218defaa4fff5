"""Pictures of ROIs: each image with its boxes, and grids that compare models or rounds on the same images."""

import textwrap
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from detectron2.utils.visualizer import ColorMode, Visualizer

from .data import CLASS_NAMES
from .data.roi import to_xyxy
from .inference.input_images import InputImage, read_pixels
from .inference.predictor import Prediction

# RGB in [0, 1]
COLOURS = {
    "manual": (0.2, 0.6, 1.0),
    "true": (0.2, 0.9, 0.3),
    "ROI": (1.0, 0.75, 0.1),
    "candidate": (0.7, 0.7, 0.7),
}
# In a grid, where no label says what a box is. Dashes tell the boxes apart where colours do not.
DASHED = {"manual": (0, (4, 3)), "true": (0, (1, 2))}
LONGEST_SIDE = 1920  # pixels of a picture
RIGHT_OR_WRONG = {None: ("", "#303030"), True: ("✓ ", "#11642f"), False: ("✗ ", "#a3200f")}


class Cell(NamedTuple):
    """What one model or round says about an image.

    Attributes:
        boxes: (kind, XYXY in pixels) for each box, kind a key of :data:`COLOURS`.
        text: written on the image.
        right: whether the diagnosis is right; None if there is nothing to be right about.
    """

    boxes: Sequence[Tuple[str, Sequence[float]]]
    text: str = ""
    right: Optional[bool] = None


class ComparisonRow(NamedTuple):
    """
    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        title: of the image.
        cells: one for each column.
    """

    pixels: np.ndarray
    title: str
    cells: Sequence[Cell]


def draw_boxes(image: np.ndarray, boxes: Sequence[Tuple[str, Sequence[float], str]], title: str = "") -> np.ndarray:
    """Draws labelled boxes on an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (kind, XYXY in pixels, label) for each box, kind a key of :data:`COLOURS`.
        title: written into the upper left corner.
    Returns:
        (H', W', 3) uint8 RGB: small images are enlarged so that text is readable, and no side is above
        :data:`LONGEST_SIDE`.
    """
    # a strip would become as long as no picture is, and one of 4,000 pixels takes gigabytes to draw
    scale = min(max(1.0, 480 / min(image.shape[:2])), LONGEST_SIDE / max(image.shape[:2]))
    visualizer = Visualizer(image, scale=scale, instance_mode=ColorMode.IMAGE)
    font_size = visualizer._default_font_size * 0.8
    line = 1.5 * font_size * visualizer.output.fig.dpi / 72  # the height of a label, in pixels of the image
    for kind, box, label in boxes:
        visualizer.draw_box(box, alpha=1.0, edge_color=COLOURS[kind])
        # that of a ROI below its box, the others above, and all within the image
        y = max(min(box[3], image.shape[0] - line) if kind == "ROI" else box[1] - line, 0)
        x, side = (box[0], "left") if box[0] < image.shape[1] / 2 else (box[2], "right")
        visualizer.draw_text(label, (x, y), color=COLOURS[kind], horizontal_alignment=side, font_size=font_size)
    if title:
        visualizer.draw_text(title, (2, 0), color="w", horizontal_alignment="left")
    return visualizer.output.get_image()


def annotation_boxes(image: Dict, annotations: List[Dict]) -> List[Tuple[str, List[float], str]]:
    """What to draw for one image of a ROI file: the manual or true box, and the current ROI with its score.

    Args:
        image, annotations: entries of a BBUI file; ``roi_score`` is C-Net's probability of the true class.
    """
    boxes = []
    if "true_bbox" in image:
        boxes.append(("true", to_xyxy(image["true_bbox"]), "true"))
    for annotation in annotations:
        if "manual_bbox" in annotation:
            boxes.append(("manual", to_xyxy(annotation["manual_bbox"]), "manual"))
        source = annotation.get("roi_source", "manual")
        label = source
        if "roi_score" in annotation:
            label += f" p={annotation['roi_score']:.2f}"
        boxes.append(("ROI", to_xyxy(annotation["bbox"]), label))
    return boxes


def draw_image(path: str, image: Dict, annotations: List[Dict]) -> np.ndarray:
    """The picture of one image of a ROI file: boxes, class and probabilities; (H, W, 3) uint8 RGB.

    Raises:
        InputError: the image cannot be read.
    """
    return draw_boxes(read_pixels(path), annotation_boxes(image, annotations), CLASS_NAMES[image["category_id"] - 1])


def comparison_figure(columns: Sequence[str], rows: Sequence[ComparisonRow], roi: str = "predicted box") -> Figure:
    """A grid in the manner of the paper's Fig. 6 and 8: one row per image, one column per model or round.

    Args:
        columns: their titles.
        roi: what the legend calls a box of kind "ROI".
    """
    cell_width = 1.9  # inches
    aspects = [min(1.4, max(0.6, row.pixels.shape[0] / row.pixels.shape[1])) for row in rows]
    heights = [cell_width * aspect + 0.25 for aspect in aspects]
    figure = Figure(figsize=(cell_width * len(columns), sum(heights) + 0.6), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    grid = figure.subplots(len(rows), len(columns), squeeze=False, height_ratios=heights)
    for axis, title in zip(grid[0], columns):
        axis.set_title(f"{textwrap.fill(title, 18)}\n", fontsize=10, fontweight="bold", parse_math=False)
    for axes, row in zip(grid, rows):
        title = axes[0].text(0, 1.01, row.title, transform=axes[0].transAxes, fontsize=8, va="bottom", parse_math=False)
        title.set_in_layout(False)  # it may reach over the next columns
        for axis, cell in zip(axes, row.cells, strict=True):
            axis.imshow(row.pixels)
            axis.set_axis_off()
            _draw_cell(axis, cell)
    kinds = dict.fromkeys(kind for row in rows for cell in row.cells for kind, _ in cell.boxes)
    handles = [Line2D([], [], color=COLOURS[kind], linestyle=DASHED.get(kind, "-"), linewidth=2) for kind in kinds]
    names = [roi if kind == "ROI" else f"{kind} box" for kind in kinds]
    figure.legend(handles, names, loc="outside lower left", ncols=len(kinds) or 1, frameon=False, fontsize=9)
    return figure


def _draw_cell(axis, cell: Cell) -> None:
    for kind, (x0, y0, x1, y1) in cell.boxes:
        line = {"edgecolor": COLOURS[kind], "linestyle": DASHED.get(kind, "-"), "linewidth": 1.6}
        axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, **line))
    if cell.text:
        mark, colour = RIGHT_OR_WRONG[cell.right]
        frame = {"facecolor": colour, "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
        place = {"transform": axis.transAxes, "va": "bottom", "bbox": frame}
        axis.text(0.02, 0.03, mark + cell.text, fontsize=7.5, color="white", **place).set_in_layout(False)


def draw_prediction(image: InputImage, prediction: Prediction) -> np.ndarray:
    """The picture of one diagnosed image: the box, the other candidates, the class and the probability of malignant.

    Returns:
        (H', W', 3) uint8 RGB, the whole image in the size that :func:`draw_boxes` gives it.
    """
    kinds = ["ROI"] + ["candidate"] * len(prediction.candidates)
    # the first one last, on top of the others
    boxes = [(kind, x.box, f"p={x.malignancy:.2f}") for kind, x in zip(kinds, prediction.candidates)][::-1]
    title = f"{prediction.predicted_class}, p(malignant)={prediction.malignancy:.2f}"
    return draw_boxes(image.pixels, boxes, title if boxes else f"{title}, no lesion found")
