"""How well boxes lie on the lesions: the evaluator of the localisation."""

import contextlib
import io
import logging
import os
from collections import OrderedDict
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_iou, nms

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from ..data.categories import CONTIGUOUS_IDS
from ..data.files import write_json
from ..data.roi import to_xyxy
from .records import RecordEvaluator, relative_file_name
from .statistics import flatten_intervals, patient_bootstrap

# of IoU, over which AP is the mean
COCO_THRESHOLDS = np.linspace(0.5, 0.95, 10)

# IoU above which two boxes are of one lesion, as in Detectron2's suppression within a class
SAME_LESION = 0.5


class LocalisationEvaluator(RecordEvaluator):
    """
    How well the boxes lie on the lesions, whatever their class: COCO's AP, AP50 and AP75 over all predicted
    instances, of which a lesion has one, see :func:`one_box_a_lesion`; mean IoU and share of images with IoU >= 0.5 of
    the *chosen* box, the first instance. The last two come with 95% intervals from a bootstrap over patients.

    The ground truth is the annotations of the data set in :class:`DatasetCatalog`. A partially annotated
    image, which has none, is left out and counted. Where images carry a "true_bbox" (phantom), the chosen
    box is also compared with it; that covers all of these images, partially annotated ones too.

    The inputs must carry "image_id", "file_name" and "patient_id", the outputs "instances" with "pred_boxes"
    (absolute pixels of the original image) and "scores" (N,).

    The report ``localisation_<dataset_name>.json`` has the metrics with their intervals, and the chosen box
    and its IoU for every image. ``<dataset_name>/coco_instances_results.json`` beside it has all boxes as COCO's results
    format does, for Detectron2's tools/visualize_json_results.py and others.
    """

    def process(self, inputs, outputs):
        for input_, output in zip(inputs, outputs):
            instances = output["instances"]
            self._predictions.append(
                {
                    "image_id": input_["image_id"],
                    "file_name": relative_file_name(input_["file_name"], self._dataset_name),
                    "patient_id": input_["patient_id"],
                    "boxes": instances.pred_boxes.tensor.tolist(),
                    "scores": instances.scores.tolist(),
                    "classes": instances.pred_classes.tolist() if instances.has("pred_classes") else None,
                }
            )

    def evaluate(self):
        """
        Returns:
            OrderedDict: ``{"localisation": {...}}`` with "AP", "AP50", "AP75", "mean_iou", "share_iou50", on
            phantom data "mean_iou_true" and "share_iou50_true", and the bounds "_low" and "_high" of the last
            four. Fractions in [0, 1]. Without any prediction they are 0, not nan as COCOEvaluator's: a model
            that finds nothing is wrong, not unmeasured. Without any annotation they are nan.
            Empty except in the main process.

        Raises:
            ValueError: an image that the data set does not have, a box or score that is not finite.
        """
        predictions = self._gather()
        if not predictions:
            return OrderedDict()
        images = {image["image_id"]: image for image in DatasetCatalog.get(self._dataset_name)}
        for prediction in predictions:
            self._check(prediction, images)
        if len(predictions) < len(images):
            logging.getLogger(__name__).warning(
                "%d of the %d images of %s were not processed; they are not evaluated",
                len(images) - len(predictions),
                len(images),
                self._dataset_name,
            )
        rois = [_roi_boxes(images[prediction["image_id"]]) for prediction in predictions]
        true_boxes = [_true_boxes(images[prediction["image_id"]]) for prediction in predictions]
        for prediction, image_rois, image_true_boxes in zip(predictions, rois, true_boxes):
            prediction["iou"] = chosen_box_iou(prediction["boxes"], image_rois)
            prediction["iou_true"] = chosen_box_iou(prediction["boxes"], image_true_boxes)

        annotated = [index for index, image_rois in enumerate(rois) if image_rois]
        found = [one_box_a_lesion(predictions[index]["boxes"], predictions[index]["scores"]) for index in annotated]
        average_precision = class_agnostic_average_precision(
            [rois[index] for index in annotated], [boxes for boxes, _ in found], [scores for _, scores in found]
        )
        metrics = {name: {"value": value} for name, value in average_precision.items()}
        metrics.update(self._overlap_metrics(predictions, "iou"))
        if any(true_boxes):
            overlap_true = self._overlap_metrics(predictions, "iou_true")
            metrics.update({f"{name}_true": interval for name, interval in overlap_true.items()})

        without_instance = sum(not prediction["boxes"] for prediction in predictions)
        logging.getLogger(__name__).info(
            "Localisation on %s: %d images with annotations, %d without left out; of all of them, the model "
            "found nothing in %d",
            self._dataset_name,
            len(annotated),
            len(predictions) - len(annotated),
            without_instance,
        )
        report = {
            "num_images": len(predictions),
            "num_images_without_annotation": len(predictions) - len(annotated),
            "num_images_without_instance": without_instance,
            "metrics": metrics,
            "predictions": [_chosen_only(prediction) for prediction in predictions],
        }
        self._write_report("localisation", report)
        self._write_coco_results(predictions)
        return OrderedDict(localisation=flatten_intervals(metrics))

    def _write_coco_results(self, predictions: List[Mapping[str, Any]]) -> None:
        """A detector without classes has the first one throughout."""
        if not self._output_dir:
            return
        known = MetadataCatalog.get(self._dataset_name).get("thing_dataset_id_to_contiguous_id", {})
        category_ids = {contiguous: category for category, contiguous in (known or CONTIGUOUS_IDS).items()}
        results = [
            {**_coco_annotation(x["image_id"], box), "category_id": category_ids[class_], "score": score}
            for x in predictions
            for box, score, class_ in zip(x["boxes"], x["scores"], x["classes"] or [0] * len(x["boxes"]))
        ]
        write_json(os.path.join(self._output_dir, self._dataset_name, "coco_instances_results.json"), results)

    def _check(self, prediction: Mapping[str, Any], images: Mapping[Any, Any]) -> None:
        where = f"Image {prediction['image_id']} ({prediction['file_name']})"
        if prediction["image_id"] not in images:
            raise ValueError(
                f"{where} is not in data set '{self._dataset_name}'. "
                "Give the evaluator the name of the data set that the images were loaded from."
            )
        if not (np.isfinite(prediction["boxes"]).all() and np.isfinite(prediction["scores"]).all()):
            raise ValueError(f"{where}: a predicted box or score is not finite; has the training diverged?")

    def _overlap_metrics(self, predictions: List[Dict[str, Any]], key: str) -> Dict[str, Dict[str, float]]:
        """``mean_iou`` and ``share_iou50`` of ``prediction[key]``, over the images in which it is not nan."""
        predictions = [prediction for prediction in predictions if not np.isnan(prediction[key])]
        if not predictions:
            return {"mean_iou": {"value": float("nan")}, "share_iou50": {"value": float("nan")}}
        iou = np.array([prediction[key] for prediction in predictions])

        def weighted_means(weights: np.ndarray) -> Dict[str, np.ndarray]:
            total = weights.sum(-1)
            return {"mean_iou": weights @ iou / total, "share_iou50": weights @ (iou >= 0.5) / total}

        patient_ids = [prediction["patient_id"] for prediction in predictions]
        return patient_bootstrap(patient_ids, weighted_means, self._bootstrap, self._seed)


def chosen_box_iou(boxes: Sequence[Sequence[float]], gt_boxes: Sequence[Sequence[float]]) -> float:
    """
    The IoU of the first of ``boxes`` with the one of ``gt_boxes`` that it overlaps best.

    Args:
        boxes, gt_boxes: (M, 4) and (G, 4), XYXY in absolute pixels; either may be empty.

    Returns:
        float: in [0, 1]; 0 without boxes; nan without ground truth.
    """
    if not len(gt_boxes):
        return float("nan")
    if not len(boxes):
        return 0.0
    # In double precision: an IoU of exactly 0.5 must not fall below it by rounding.
    chosen, gt = (torch.as_tensor(b, dtype=torch.float64) for b in (boxes[:1], gt_boxes))
    return float(box_iou(chosen, gt).max())


def one_box_a_lesion(boxes: Sequence[Sequence[float]], scores: Sequence[float]) -> Tuple[List[Sequence[float]], List[float]]:
    """
    Of boxes that overlap by more than :data:`SAME_LESION` the one with the highest score: a detector suppresses boxes within
    a class, and where classes count as one its second box on a lesion would be a false positive.

    Args:
        boxes, scores: (M, 4) lists, XYXY in absolute pixels, and (M,), of one image.

    Returns:
        boxes and scores of those that stay, best first.
    """
    kept = nms(
        torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4), torch.tensor(scores, dtype=torch.float64), SAME_LESION
    )
    return [boxes[i] for i in kept], [scores[i] for i in kept]


def class_agnostic_average_precision(
    gt_boxes: Sequence[Sequence[Sequence[float]]],
    boxes: Sequence[Sequence[Sequence[float]]],
    scores: Sequence[Sequence[float]],
) -> Dict[str, float]:
    """
    COCO's average precision by pycocotools, with at most 100 boxes an image and all classes taken as one.

    Args:
        gt_boxes: for each of N images a (G, 4) list, XYXY in absolute pixels.
        boxes: for each image an (M, 4) list, XYXY in absolute pixels.
        scores: for each image an (M,) list.

    Returns:
        dict: "AP" (mean over IoU thresholds 0.50:0.05:0.95), "AP50", "AP75", fractions in [0, 1].
        0 without any box, nan without any ground truth.
    """
    names = ("AP", "AP50", "AP75")
    if not any(len(image_boxes) for image_boxes in gt_boxes):
        return dict.fromkeys(names, float("nan"))
    if not any(len(image_boxes) for image_boxes in boxes):
        return dict.fromkeys(names, 0.0)  # COCO.loadRes fails on an empty list
    annotations, results = [], []
    for image_id, (image_gt_boxes, image_boxes, image_scores) in enumerate(zip(gt_boxes, boxes, scores)):
        for box in image_gt_boxes:
            annotation = _coco_annotation(image_id, box)
            # From 1: pycocotools takes a match with id 0 for no match.
            annotations.append({**annotation, "id": len(annotations) + 1, "iscrowd": 0})
        for box, score in zip(image_boxes, image_scores):
            results.append({**_coco_annotation(image_id, box), "score": score})

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        coco = COCO()
        coco.dataset = {
            "images": [{"id": image_id} for image_id in range(len(gt_boxes))],
            "categories": [{"id": 1}],
            "annotations": annotations,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.params.useCats = 0
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    # (IoU thresholds, recall thresholds, 1 category, 1 area range, 1 limit) -> (IoU thresholds,)
    precision = evaluation.eval["precision"][:, :, 0, 0, 0].mean(axis=1)
    at = {round(float(iou), 2): float(value) for iou, value in zip(evaluation.params.iouThrs, precision)}
    return {"AP": float(precision.mean()), "AP50": at[0.5], "AP75": at[0.75]}


def average_precision_of_one_box(
    overlaps: np.ndarray,
    scores: np.ndarray,
    num_rois: np.ndarray,
    weights: np.ndarray,
    thresholds: Sequence[float] = COCO_THRESHOLDS,
) -> np.ndarray:
    """
    COCO's average precision, the mean over IoU thresholds, where each image has at most one box.

    Args:
        overlaps: (N,), IoU of box and ROI; nan of an image without ROI, which does not count.
        scores: (N,) of the boxes, negative where nothing was found; with a nan the result is nan.
        num_rois: (N,) of each image, of which its box can find one.
        weights: (..., N), how often each image counts.

    Returns:
        (...) fractions in [0, 1]; nan where no image counts.
    """
    order = np.argsort(-scores, kind="stable")
    counted = (weights * ~np.isnan(overlaps))[..., order]
    shape, counted = counted.shape[:-1], counted.reshape(-1, len(scores))
    overlaps, found, num_rois = np.nan_to_num(overlaps)[order], scores[order] >= 0, num_rois[order]
    precisions = []
    with np.errstate(invalid="ignore"):  # nothing is found yet, or no image counts
        for threshold in thresholds:
            right = np.cumsum(counted * (found & (overlaps >= threshold)), axis=-1)
            precision = np.nan_to_num(right / np.cumsum(counted * found, axis=-1))
            highest = np.maximum.accumulate(precision[:, ::-1], axis=-1)[:, ::-1]
            recall = right / (counted * num_rois).sum(-1, keepdims=True)
            precisions.append([_mean_at_levels(*row) for row in zip(recall, highest)])
    undefined = (counted.sum(-1) == 0) | np.isnan(scores).any()
    return np.where(undefined, np.nan, np.mean(precisions, axis=0)).reshape(shape)


def _mean_at_levels(recall: np.ndarray, precision: np.ndarray) -> float:
    """The mean precision at COCO's 101 levels of recall, 0 where it is not reached."""
    places = np.searchsorted(recall, np.linspace(0, 1, 101))
    return precision[places[places < len(precision)]].sum() / 101


def _chosen_only(prediction: Mapping[str, Any]) -> Dict[str, Any]:
    chosen = {key: value for key, value in prediction.items() if key not in ("boxes", "scores", "classes")}
    chosen["box"] = prediction["boxes"][0] if prediction["boxes"] else None
    chosen["score"] = prediction["scores"][0] if prediction["scores"] else None
    return chosen


def _coco_annotation(image_id: int, box: Sequence[float]) -> Dict[str, Any]:
    x0, y0, x1, y1 = box
    return {
        "image_id": image_id,
        "category_id": 1,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": (x1 - x0) * (y1 - y0),
    }


def _roi_boxes(image: Mapping[str, Any]) -> List[List[float]]:
    """The ROIs of one Detectron2 data set dict, (G, 4) XYXY."""
    return [
        BoxMode.convert(list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYXY_ABS)
        for annotation in image.get("annotations", [])
    ]


def _true_boxes(image: Mapping[str, Any]) -> List[List[float]]:
    """The phantom's exact box, (0 or 1, 4) XYXY."""
    if "true_bbox" not in image:
        return []
    return [to_xyxy(image["true_bbox"])]
