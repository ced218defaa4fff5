"""From an image to a box and a probability, without a data set: Detectron2's DefaultPredictor for model files."""

import os
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Tuple, Union, get_args

import torch

from detectron2.data import transforms as T
from detectron2.structures import Instances

from ..data.decoding import in_format
from ..data.image_sizes import is_too_narrow
from ..errors import InputError
from ..evaluation.diagnosis import MALIGNANCY_WITHOUT_INSTANCE
from ..modeling.contract import MANUAL_ROI, DiagnosisNetwork
from .input_images import ImageSource, InputImage, read_images
from .model_file import ModelFile, load_model

__all__ = ["Candidate", "Prediction", "Predictor"]

Box = Tuple[float, float, float, float]


@dataclass(frozen=True)
class Candidate:
    """A box that may hold the lesion.

    Attributes:
        box: XYXY in absolute pixels of the whole original image or frame.
        score: of the box, in [0, 1], by which candidates are ranked.
        malignancy: the probability of malignant, in [0, 1].
    """

    box: Box
    score: float
    malignancy: float


@dataclass(frozen=True)
class Prediction:
    """The diagnosis of one image or frame.

    Attributes:
        file_name, frame: see :class:`~tsdd_d2.inference.input_images.InputImage`.
        height, width: of the whole image in pixels.
        region: XYXY in pixels, the part that the model saw.
        box: the ROI, XYXY in absolute pixels of the whole image (the best candidate's); None if nothing was found.
        malignancy: the probability of malignant, in [0, 1]; 0.5 if nothing was found, as in the evaluation.
        predicted_class: by the model's threshold, one of its class names.
        candidates: best first; the first one is the diagnosis.
    """

    file_name: Optional[str]
    frame: Optional[int]
    height: int
    width: int
    region: Tuple[int, int, int, int]
    box: Optional[Box]
    malignancy: float
    predicted_class: str
    candidates: List[Candidate]


class Predictor:
    """
    Diagnoses images with the preprocessing of the training configuration.

    Example::

        predictor = Predictor(load_model("model.pth"))
        for prediction in predictor(["a.png", "b.png"]):
            print(prediction.box, prediction.malignancy, prediction.predicted_class)
    """

    def __init__(
        self, model_file: Union[ModelFile, str, os.PathLike, None] = None, *, batch_size: int = 8, candidates: int = 1
    ):
        """
        Args:
            model_file: from :func:`~tsdd_d2.inference.model_file.load_model`, which several predictors may share; or its path.
                None: the model that comes with the package.
            batch_size: images read and diagnosed at a time.
            candidates: at most this many boxes for each image.
        Raises:
            InputError: the network is none that diagnoses an image without a given ROI.
            ValueError: ``batch_size`` or ``candidates`` is below 1.
        """
        for name, value in (("batch_size", batch_size), ("candidates", candidates)):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value}.")
        if not isinstance(model_file, ModelFile):
            model_file = load_model(model_file)
        self.model = model_file.model
        if not isinstance(self.model, DiagnosisNetwork) or self.model.diagnosed_boxes == MANUAL_ROI:
            raise InputError(
                f"A {type(self.model).__name__} cannot diagnose an image alone: it needs a ROI, or gives no diagnosis."
            )
        self.candidates = candidates
        self.class_names = model_file.class_names
        self.threshold = model_file.threshold
        self.batch_size = batch_size
        preprocessing = model_file.preprocessing
        self.input_format = preprocessing["format"]
        self.min_size = preprocessing["min_size"]
        self.aug = T.ResizeShortestEdge(self.min_size, preprocessing["max_size"])

    def __call__(
        self, inputs: Union[ImageSource, Iterable[ImageSource]], channel_order: Optional[str] = None
    ) -> List[Prediction]:
        """
        Args:
            inputs: a path, a pydicom data set, a Pillow image or an array, or several, see :func:`~tsdd_d2.inference.input_images.read_images`.
            channel_order: "RGB" or "BGR", of the arrays with three channels.
        Returns:
            one prediction for each image; a file with several frames gives one for each frame.
        Raises:
            InputError: an input cannot be read, or the network cannot take it.
        """
        if isinstance(inputs, get_args(ImageSource)):
            inputs = [inputs]
        return [prediction for _, prediction in self.predict(read_images(inputs, channel_order))]

    def predict(
        self, images: Iterable[InputImage], on_error: Optional[Callable[[InputError], None]] = None
    ) -> Iterator[Tuple[InputImage, Prediction]]:
        """Yields each image with its prediction, in order; no more than a batch of images is held at a time.

        Args:
            on_error: if given, it is called with the error of an image that the network cannot take, and the others
                follow; otherwise the error is raised.
        """
        images = filter(partial(self._is_wide_enough, on_error=on_error), images)
        while batch := list(islice(images, self.batch_size)):
            yield from self._predict_batch(batch, on_error)
            del batch  # before the next one is read

    def _is_wide_enough(self, image: InputImage, on_error: Optional[Callable[[InputError], None]]) -> bool:
        """Whether a pixel is left of an image's sides where the longer one is reduced to what the network takes."""
        x0, y0, x1, y1 = image.region
        if not is_too_narrow(y1 - y0, x1 - x0, self.min_size, self.aug.max_size):
            return True
        reason = (
            f"of {x1 - x0} x {y1 - y0} pixels nothing is left where the longer side is reduced to the {self.aug.max_size} "
            "pixels that the network takes; cut the image."
        )
        _tell(image, reason, on_error)
        return False

    def _predict_batch(
        self, batch: List[InputImage], on_error: Optional[Callable[[InputError], None]]
    ) -> List[Tuple[InputImage, Prediction]]:
        inputs = [self._preprocess(image) for image in batch]
        # Only tensors of one size share a forward pass: padding would make a prediction depend on its neighbours.
        by_size = defaultdict(list)
        for index, x in enumerate(inputs):
            by_size[x["image"].shape].append(index)
        instances: Dict[int, Instances] = {}
        for (_, height, width), indices in by_size.items():
            try:
                with torch.no_grad():
                    outputs = self.model.detect([inputs[index] for index in indices], self.candidates)
            except (RuntimeError, ValueError) as error:  # of a layer, on features of one pixel; of the memory
                for index in indices:
                    _tell(batch[index], f"the network fails on {width}x{height} pixels of it: {error}", on_error)
                continue
            instances.update(zip(indices, (output["instances"].to("cpu") for output in outputs)))
        return [(image, self._prediction(image, instances[i])) for i, image in enumerate(batch) if i in instances]

    def _preprocess(self, image: InputImage) -> Dict:
        """The model's input for the region of an image, as the mapper makes it for the evaluation."""
        x0, y0, x1, y1 = image.region
        pixels = in_format(image.pixels[y0:y1, x0:x1], self.input_format)
        resized = self.aug.get_transform(pixels).apply_image(pixels)
        tensor = torch.from_numpy(resized.transpose(2, 0, 1).copy())
        return {"image": tensor, "height": y1 - y0, "width": x1 - x0}

    def _prediction(self, image: InputImage, instances: Instances) -> Prediction:
        x0, y0 = image.region[:2]
        boxes = instances.pred_boxes.tensor + torch.tensor([x0, y0, x0, y0])
        candidates = [
            Candidate(tuple(box), score, malignancy)
            for box, score, malignancy in zip(boxes.tolist(), instances.scores.tolist(), instances.malignancy.tolist())
        ]
        malignancy = candidates[0].malignancy if candidates else MALIGNANCY_WITHOUT_INSTANCE
        return Prediction(
            file_name=image.file_name,
            frame=image.frame,
            height=image.pixels.shape[0],
            width=image.pixels.shape[1],
            region=image.region,
            box=candidates[0].box if candidates else None,
            malignancy=malignancy,
            predicted_class=self.class_names[int(malignancy >= self.threshold)],
            candidates=candidates,
        )


def _tell(image: InputImage, reason: str, on_error: Optional[Callable[[InputError], None]]) -> None:
    error = InputError(f"{image.file_name or 'an array'}: {reason}")
    if on_error is None:
        raise error
    on_error(error)
