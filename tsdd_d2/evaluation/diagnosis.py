"""Benign or malignant: the evaluator of the diagnosis."""

import logging
from collections import OrderedDict
from typing import Any, Dict, Optional

from ..data.files import read_json
from .detections import MALIGNANCY_WITHOUT_INSTANCE, diagnose_detections
from .records import RecordEvaluator, relative_file_name
from .statistics import (
    diagnosis_metrics,
    flatten_intervals,
    patient_bootstrap,
    patient_level,
    roc_points,
    youden_optimal_threshold,
)


class DiagnosisEvaluator(RecordEvaluator):
    """
    Benign/malignant diagnosis of images and of patients (paper Sec. IV.B): accuracy, sensitivity,
    specificity, Youden index and AUC, with 95% intervals from a bootstrap over patients.

    The diagnosis of an image is the ``malignancy`` of its first instance, the box the model chose; of an
    image without instances, :data:`MALIGNANCY_WITHOUT_INSTANCE`. The probability of a patient is the mean
    over the patient's images, and the same threshold holds for both.

    The report ``diagnosis_<dataset_name>.json`` has the metrics with their intervals, the points of the ROC
    curve, and the prediction for every image.

    The inputs must carry "image_id", "file_name", "patient_id" and "category_id" (0 benign, 1 malignant),
    the outputs "instances" with "pred_boxes" (absolute pixels of the original image), "scores" and
    "malignancy" (N,), the probability of malignant in [0, 1]. A detector with the classes benign and malignant
    needs no "malignancy" with ``from_detections``.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: Optional[str] = None,
        threshold: float = 0.5,
        distributed: bool = True,
        bootstrap: int = 1000,
        seed: int = 0,
        from_detections: bool = False,
    ):
        """
        Args:
            threshold: an image with ``malignancy >= threshold`` is called malignant. For the Youden-optimal
                one of a validation set, see :func:`load_youden_threshold`.
            from_detections: the outputs are those of a detector with "pred_classes" 0 (benign) and 1
                (malignant): their diagnosis is :func:`~tsdd_d2.evaluation.detections.diagnose_detections`.
            dataset_name, output_dir, distributed, bootstrap, seed: see :class:`RecordEvaluator`.

        Raises:
            ValueError: threshold outside [0, 1], negative bootstrap.
        """
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be a probability in [0, 1], not {threshold}")
        super().__init__(dataset_name, output_dir, distributed, bootstrap, seed)
        self._threshold = float(threshold)
        self._from_detections = from_detections

    def process(self, inputs, outputs):
        for input_, output in zip(inputs, outputs):
            instances = output["instances"]
            if self._from_detections:
                instances = diagnose_detections(instances)
            prediction = {
                "image_id": input_["image_id"],
                "file_name": relative_file_name(input_["file_name"], self._dataset_name),
                "patient_id": input_["patient_id"],
                "label": input_["category_id"],
                "malignancy": MALIGNANCY_WITHOUT_INSTANCE,
                "box": None,
                "score": None,
            }
            if len(instances):
                if not instances.has("malignancy"):
                    raise ValueError(
                        f"Image {input_['image_id']} ({input_['file_name']}): the model's instances have no "
                        f"field 'malignancy', only {sorted(instances.get_fields())}. Give every box a "
                        "probability of malignant before the diagnosis is evaluated; from_detections=True takes "
                        "it from the scores of a detector with both classes."
                    )
                prediction["malignancy"] = float(instances.malignancy[0])
                prediction["box"] = instances.pred_boxes.tensor[0].tolist()
                prediction["score"] = float(instances.scores[0])
            if not 0 <= prediction["malignancy"] <= 1:  # nan too
                raise ValueError(
                    f"Image {input_['image_id']} ({input_['file_name']}): malignancy "
                    f"{prediction['malignancy']} is not a probability in [0, 1]; has the training diverged?"
                )
            self._predictions.append(prediction)

    def evaluate(self):
        """
        Returns:
            OrderedDict: ``{"diagnosis": {...}, "diagnosis_patient": {...}}``, each with "AUC", "accuracy",
            "sensitivity", "specificity", "youden_index", and the same followed by "_low" and "_high" for the
            bounds of the 95% interval. Fractions in [0, 1]; nan where the data do not define the metric.
            Empty except in the main process.
        """
        predictions = self._gather()
        if not predictions:
            return OrderedDict()
        images = {
            "patient_ids": [prediction["patient_id"] for prediction in predictions],
            "labels": [prediction["label"] for prediction in predictions],
            "probabilities": [prediction["malignancy"] for prediction in predictions],
        }
        patients = dict(zip(images, patient_level(**images)))
        without_instance = sum(prediction["box"] is None for prediction in predictions)
        report = {
            "threshold": self._threshold,
            "youden_threshold": youden_optimal_threshold(images["labels"], images["probabilities"]),
            "num_images": len(predictions),
            "num_images_without_instance": without_instance,
            "num_patients": len(patients["patient_ids"]),
            "image": self._evaluate_cases(**images),
            "patient": self._evaluate_cases(**patients),
            "predictions": predictions,
        }
        logging.getLogger(__name__).info(
            "Diagnosis on %s: %d images of %d patients, threshold %.3f; the model found nothing in %d "
            "images, whose malignancy counts as %.1f",
            self._dataset_name,
            len(predictions),
            report["num_patients"],
            self._threshold,
            without_instance,
            MALIGNANCY_WITHOUT_INSTANCE,
        )
        self._write_report("diagnosis", report)
        return OrderedDict(
            diagnosis=flatten_intervals(report["image"]["metrics"]),
            diagnosis_patient=flatten_intervals(report["patient"]["metrics"]),
        )

    def _evaluate_cases(self, patient_ids, labels, probabilities) -> Dict[str, Any]:
        metrics = patient_bootstrap(
            patient_ids,
            lambda weights: diagnosis_metrics(labels, probabilities, self._threshold, weights),
            self._bootstrap,
            self._seed,
        )
        return {"metrics": metrics, "roc": roc_points(labels, probabilities)}


def load_youden_threshold(path: str) -> float:
    """
    The image-level Youden-optimal threshold of a data set, from the ``diagnosis_<dataset_name>.json`` that
    :class:`DiagnosisEvaluator` wrote for it: take it from the validation set and give it to the evaluator of
    the test set.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file holds no threshold: something else wrote it, or its data set has one class only.
    """
    report = read_json(path)
    threshold = report.get("youden_threshold") if isinstance(report, dict) else None
    if type(threshold) not in (int, float) or not 0 <= threshold <= 1:
        raise ValueError(
            f"{path} holds no 'youden_threshold' in [0, 1]. Give the diagnosis_<dataset>.json that the evaluation of a "
            "validation set with benign and malignant images wrote."
        )
    return float(threshold)
