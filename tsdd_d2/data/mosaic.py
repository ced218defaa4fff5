"""Mosaic (arXiv:2004.10934) and mixup (arXiv:1710.09412): one training image of several, with exact boxes."""

from typing import Callable, Dict, List, NamedTuple, Tuple

import cv2
import numpy as np
import torch
from torch import Tensor

from detectron2.structures import Boxes, Instances

# Of a box, at least this share must be in view, and this many pixels in each direction.
MIN_VISIBLE, MIN_SIDE = 0.1, 2
# Grey of what no image covers.
FILL = 114
TILES = 4


class MosaicStyle(NamedTuple):
    """How four images make one, of the size of the first: a window of all four, whose inner corners meet at one point.

    Attributes:
        probability: of a mosaic; else the first image stays as it is.
        centre: range of the point at which the four meet, as a share of the sides.
        scale: range of the factor by which the whole is scaled about the middle.
        shift: the whole is moved by at most this share of the sides.
        mixup: probability of a second mosaic over the first.
    """

    probability: float = 1.0
    centre: Tuple[float, float] = (0.0, 1.0)
    scale: Tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    mixup: float = 0.0

    @property
    def composed_of(self) -> int:
        """Images behind one training image, at most."""
        return TILES * (2 if self.mixup > 0 else 1)


class MosaicMapper:
    """Maps a dataset dict and those that it is composed with to one training image.

    The dict has ``composed_with``, a list of ``style.composed_of - 1`` dataset dicts, and ``draw_seed``, which decides
    everything. The result is the mapped dict of the first image, with ``image`` and ``instances`` of the whole.
    """

    def __init__(self, mapper: Callable[[Dict], Dict], style: MosaicStyle):
        """
        Args:
            mapper: maps each of the images, such as :class:`~tsdd_d2.data.mapper.BBUIMapper`.
        """
        self.mapper = mapper
        self.style = style

    def __call__(self, dataset_dict: Dict) -> Dict:
        dicts = [dataset_dict, *dataset_dict["composed_with"]]
        seed = list(dataset_dict["draw_seed"])
        rng = np.random.default_rng([*seed, len(dicts)])
        if rng.random() >= self.style.probability:
            return self._mapped(dataset_dict, seed)
        tiles = [self._mapped(x, [*seed, i]) for i, x in enumerate(dicts[:TILES])]
        size = tuple(tiles[0]["image"].shape[1:])
        image, instances = compose(tiles, *self._drawn(rng, size))
        if rng.random() < self.style.mixup:
            over = [self._mapped(x, [*seed, TILES + i]) for i, x in enumerate(dicts[TILES : 2 * TILES])]
            image, instances = mixup((image, instances), compose(over, *self._drawn(rng, size)), rng.beta(8, 8))
        return {**tiles[0], "image": image, "instances": instances}

    def _mapped(self, dataset_dict: Dict, seed: List[int]) -> Dict:
        own = {key: value for key, value in dataset_dict.items() if key != "composed_with"}
        return self.mapper({**own, "draw_seed": seed})

    def _drawn(self, rng: np.random.Generator, size: Tuple[int, int]) -> Tuple:
        """The further arguments of :func:`compose`."""
        centre = tuple(int(round(rng.uniform(*self.style.centre) * side)) for side in size)
        shift = tuple(rng.uniform(-self.style.shift, self.style.shift) * side for side in size)
        return size, centre, rng.uniform(*self.style.scale), shift


def compose(
    tiles: List[Dict],
    size: Tuple[int, int],
    centre: Tuple[int, int],
    scale: float = 1.0,
    shift: Tuple[float, float] = (0.0, 0.0),
) -> Tuple[Tensor, Instances]:
    """
    A mosaic of four mapped images: upper left, upper right, lower left, lower right.

    Args:
        tiles: each with ``image`` (C, h, w) uint8 and ``instances`` with ``gt_boxes`` and ``gt_classes``.
        size: height and width of the result.
        centre: row and column at which they meet, before scale and shift.
        scale: of the whole, about the middle of the result.
        shift: rows and columns by which the whole is moved, in pixels.
    Returns:
        ``image`` (C, height, width) uint8, and ``instances`` of the boxes in view, clipped.
    """
    # The canvas reaches beyond the result by half of it, since a scale below 1 brings more into view.
    beyond = np.array(size) // 2
    given = len(tiles[0]["image"])
    channels = 1 if all(_is_grey(x["image"]) for x in tiles) else given
    canvas = np.full((*(np.array(size) + 2 * beyond), channels), FILL, dtype=np.uint8)
    boxes, areas = [], []
    for i, tile in enumerate(tiles):
        pixels = tile["image"][:channels].permute(1, 2, 0).numpy()
        origin, lower, upper = _place(i, np.array(pixels.shape[:2]), np.array(size), np.array(centre), beyond)
        target = tuple(slice(a, b) for a, b in zip(lower + beyond, upper + beyond))
        canvas[target] = pixels[tuple(slice(a, b) for a, b in zip(lower - origin, upper - origin))]
        moved = tile["instances"].gt_boxes.tensor + torch.tensor([*origin[::-1], *origin[::-1]])
        limits = torch.tensor([[*lower[::-1]] * 2, [*upper[::-1]] * 2])
        areas.append(Boxes(moved).area())
        boxes.append(moved.maximum(limits[0]).minimum(limits[1]))
    boxes, areas = torch.cat(boxes).float(), torch.cat(areas)
    offset = np.array(size) / 2 * (1 - scale) + np.array(shift)
    boxes = Boxes(boxes * scale + torch.tensor([*offset[::-1], *offset[::-1]], dtype=torch.float32))
    boxes.clip(size)
    sides = boxes.tensor[:, 2:] - boxes.tensor[:, :2]
    seen = (boxes.area() >= MIN_VISIBLE * scale**2 * areas) & (sides > MIN_SIDE).all(dim=1)
    classes = torch.cat([x["instances"].gt_classes for x in tiles])
    image = _warped(canvas, size, scale, offset - scale * beyond)
    instances = Instances(size, gt_boxes=boxes[seen], gt_classes=classes[seen])
    return torch.from_numpy(image).permute(2, 0, 1).expand(given, -1, -1), instances


def _is_grey(image: Tensor) -> bool:
    """Whether it has one channel, or three that share their memory, see :class:`~tsdd_d2.data.mapper.BBUIMapper`."""
    return len(image) == 1 or image.stride(0) == 0


def _place(tile: int, own: np.ndarray, size: np.ndarray, centre: np.ndarray, beyond: np.ndarray) -> Tuple:
    """Where the origin of a tile lies, and which part, from ... to, it fills; rows and columns of the result."""
    second = np.array([tile // 2, tile % 2], dtype=bool)  # lower, right
    origin = np.where(second, centre, centre - own)
    lower = np.maximum(np.where(second, centre, -beyond), origin)
    upper = np.minimum(np.where(second, size + beyond, centre), origin + own)
    return origin, lower, np.maximum(upper, lower)


def _warped(canvas: np.ndarray, size: Tuple[int, int], scale: float, offset: np.ndarray) -> np.ndarray:
    """The window of a canvas in which position x of the canvas is at ``scale * x + offset`` (rows, columns)."""
    # OpenCV counts from the middle of the first pixel
    y, x = scale * 0.5 + offset - 0.5
    matrix = np.array([[scale, 0, x], [0, scale, y]])
    fill = (FILL,) * canvas.shape[2]
    warped = cv2.warpAffine(canvas, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderValue=fill)
    return warped.reshape(*size, canvas.shape[2])


def mixup(one: Tuple[Tensor, Instances], other: Tuple[Tensor, Instances], share: float) -> Tuple[Tensor, Instances]:
    """``share`` of the first image and the rest of the second, of equal sizes, with the boxes of both."""
    given = len(one[0])
    channels = 1 if _is_grey(one[0]) and _is_grey(other[0]) else given
    image = one[0][:channels].float() * share + other[0][:channels].float() * (1 - share)
    return image.round().to(torch.uint8).expand(given, -1, -1), Instances.cat([one[1], other[1]])
