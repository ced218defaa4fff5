"""Strong augmentation of the semi-supervised methods, as augmentations of Detectron2: they draw from numpy's generator.

Images are (H, W, C) uint8 of one channel or three; what only changes colours leaves a grey image as it is.
"""

from typing import Callable, Tuple

import cv2
import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from detectron2.data import transforms as T


def photometric(change: Callable[[torch.Tensor], torch.Tensor]) -> T.Transform:
    """A change of pixels that moves none; ``change`` takes and returns (C, H, W) uint8."""

    def of_image(image: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
        return change(tensor).permute(1, 2, 0).numpy()

    return T.ColorTransform(of_image)


class ColourJitter(T.Augmentation):
    """Brightness, contrast, saturation and hue by random factors, in random order, as torchvision's ``ColorJitter``."""

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float):
        """
        Args:
            brightness, contrast, saturation: factors are in [1 - x, 1 + x].
            hue: the hue moves by at most this share of the circle.
        """
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> T.Transform:
        strengths = self.brightness, self.contrast, self.saturation
        factors = [np.random.uniform(1 - x, 1 + x) for x in strengths] + [np.random.uniform(-self.hue, self.hue)]
        changes = F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue
        order = np.random.permutation(len(changes))

        def jitter(x):
            for i in order:
                x = changes[i](x, factors[i])
            return x

        return photometric(jitter)


class Grey(T.Augmentation):
    """The image without its colours."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        return photometric(lambda x: F.rgb_to_grayscale(x, num_output_channels=len(x)))


class Blur(T.Augmentation):
    """A Gaussian blur."""

    def __init__(self, low: float, high: float):
        """
        Args:
            low, high: the range of its standard deviation in pixels.
        """
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> T.Transform:
        sigma = np.random.uniform(self.low, self.high)
        return T.ColorTransform(lambda x: cv2.GaussianBlur(x, (0, 0), sigma).reshape(x.shape))


class Erasing(T.Augmentation):
    """A rectangle of random pixels (arXiv:1708.04896)."""

    TRIES = 10

    def __init__(self, area: Tuple[float, float], ratio: Tuple[float, float]):
        """
        Args:
            area: range of its share of the image.
            ratio: range of height by width.
        """
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> T.Transform:
        height, width = image.shape[:2]
        for _ in range(self.TRIES):
            area = np.random.uniform(*self.area) * height * width
            ratio = np.exp(np.random.uniform(*np.log(self.ratio)))
            h, w = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
            if 0 < h < height and 0 < w < width:
                y, x = np.random.randint(height - h + 1), np.random.randint(width - w + 1)
                noise = np.random.randint(0, 256, (h, w, image.shape[2]), dtype=np.uint8)
                return T.ColorTransform(lambda pixels: _pasted(pixels, noise, y, x))
        return T.NoOpTransform()


def _pasted(image: np.ndarray, patch: np.ndarray, y: int, x: int) -> np.ndarray:
    image = image.copy()
    image[y : y + patch.shape[0], x : x + patch.shape[1]] = patch
    return image


# What an affine transform brings into view, as in the authors' software.
FILL = 125


class AffineTransform(T.Transform):
    """Moves each point (x, y) of an image, whose size stays, to ``matrix @ (x, y, 1)``."""

    def __init__(self, matrix: np.ndarray):
        """
        Args:
            matrix: (2, 3), for coordinates in pixels, in which the middle of the first pixel is (0.5, 0.5).
        """
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        # OpenCV counts from the middle of the first pixel
        matrix = self.matrix.copy()
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
        fill = (FILL,) * img.shape[2]
        return cv2.warpAffine(img, matrix, img.shape[1::-1], flags=cv2.INTER_LINEAR, borderValue=fill).reshape(img.shape)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords @ self.matrix[:, :2].T + self.matrix[:, 2]


class Affine(T.Augmentation):
    """One of four: a translation in x, one in y, a rotation, or a shear in both, the last two about the middle."""

    def __init__(self, translate: float, angle: float, shear: float):
        """
        Args:
            translate: at most this share of the side.
            angle, shear: at most so many degrees in each direction.
        """
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> T.Transform:
        height, width = image.shape[:2]
        kind = np.random.randint(4)
        if kind < 2:
            move = np.random.uniform(-self.translate, self.translate) * (width, height)[kind]
            return AffineTransform(np.array([[1.0, 0.0, move * (kind == 0)], [0.0, 1.0, move * (kind == 1)]]))
        if kind == 2:
            angle = np.radians(np.random.uniform(-self.angle, self.angle))
            linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        else:
            x, y = np.tan(np.radians(np.random.uniform(-self.shear, self.shear, 2)))
            linear = np.array([[1.0, x], [y, 1.0]])
        middle = np.array([width, height]) / 2
        return AffineTransform(np.column_stack([linear, middle - linear @ middle]))


class BoxAffine(T.Augmentation):
    """:class:`Affine` of the pixels in one of the boxes, which all stay; needs ``boxes``, (M, 4) absolute XYXY."""

    input_args = ("image", "boxes")

    def __init__(self, translate: float, angle: float, shear: float):
        super().__init__()
        self.affine = Affine(translate, angle, shear)

    def get_transform(self, image: np.ndarray, boxes: np.ndarray) -> T.Transform:
        height, width = image.shape[:2]
        corners = np.clip(boxes, 0, [width, height, width, height]).astype(int)
        corners = corners[(corners[:, 2:] > corners[:, :2]).all(axis=1)]
        if len(corners) == 0:
            return T.NoOpTransform()
        x0, y0, x1, y1 = corners[np.random.randint(len(corners))]
        inside = self.affine.get_transform(image[y0:y1, x0:x1])

        def of_box(pixels):
            return _pasted(pixels, inside.apply_image(np.ascontiguousarray(pixels[y0:y1, x0:x1])), y0, x0)

        return T.ColorTransform(of_box)


class Cutout(T.Augmentation):
    """Grey squares (arXiv:1708.04552)."""

    GREY = 128

    def __init__(self, number: Tuple[int, int], size: float):
        """
        Args:
            number: fewest and most of them.
            size: their sides are at most this share of the height.
        """
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> T.Transform:
        height, width = image.shape[:2]
        number = np.random.randint(self.number[0], self.number[1] + 1)
        sides = np.random.uniform(0, self.size, number) * height
        centres = np.random.uniform(0, 1, (number, 2)) * (height, width)
        lower = np.clip(np.round(centres - sides[:, None] / 2), 0, None).astype(int)
        upper = np.round(centres + sides[:, None] / 2).astype(int)

        def cut(pixels):
            pixels = pixels.copy()
            for (y0, x0), (y1, x1) in zip(lower, upper):
                pixels[y0:y1, x0:x1] = self.GREY
            return pixels

        return T.ColorTransform(cut)


class OneColourOperation(T.Augmentation):
    """One operation of RandAugment (arXiv:1909.13719) that moves no pixel, with a random strength of 1 to 9 out of 10."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        strength = np.random.randint(1, 10) / 10
        operations = colour_operations(strength)
        return photometric(operations[np.random.randint(len(operations))])


def colour_operations(strength: float) -> Tuple[Callable[[torch.Tensor], torch.Tensor], ...]:
    """Identity, autocontrast, equalise, solarise, colour, contrast, brightness, sharpness, posterise; of (C, H, W) uint8.

    Args:
        strength: from 0 to 1.
    """
    factor = 1.8 * strength + 0.1
    return (
        lambda x: x,
        F.autocontrast,
        F.equalize,
        lambda x: F.solarize(x, 256 - int(256 * strength)),
        lambda x: F.adjust_saturation(x, factor),
        lambda x: F.adjust_contrast(x, factor),
        lambda x: F.adjust_brightness(x, factor),
        lambda x: F.adjust_sharpness(x, factor),
        lambda x: F.posterize(x, 4 - int(4 * strength)),
    )


class OneOf(T.Augmentation):
    """One of several augmentations."""

    def __init__(self, *augmentations: T.Augmentation):
        super().__init__()
        self.augmentations = augmentations

    def __call__(self, aug_input) -> T.Transform:
        return self.augmentations[np.random.randint(len(self.augmentations))](aug_input)


class Shuffled(T.Augmentation):
    """All of several augmentations, in random order."""

    def __init__(self, *augmentations: T.Augmentation):
        super().__init__()
        self.augmentations = augmentations

    def __call__(self, aug_input) -> T.Transform:
        order = np.random.permutation(len(self.augmentations))
        return T.AugmentationList([self.augmentations[i] for i in order])(aug_input)
