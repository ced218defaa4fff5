"""What a finished run is worth: before and after refinement, on the found box and on the manual one."""

import contextlib
import logging
import os
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from detectron2.data import DatasetCatalog, build_detection_test_loader
from detectron2.evaluation import DatasetEvaluators, inference_on_dataset
from detectron2.modeling import build_model
from detectron2.utils import comm

from ..data.files import write_json, write_text
from ..data.mapper import BBUIMapper
from ..evaluation import DiagnosisEvaluator, LocalisationEvaluator, load_youden_threshold
from ..evaluation.tables import results_table
from ..memory import give_back_freed_memory
from ..modeling.contract import FOUND_BOX, MANUAL_ROI, DiagnosesROIs
from .checkpoint import TSDDCheckpointer
from .hooks import WeightsBeforeRefinement

logger = logging.getLogger(__name__)


def checkpoints(cfg) -> Dict[str, str]:
    """What the checkpoints of a run stand for, and their names, in the order of the report."""
    rounds = cfg.REFINEMENT.ENABLED
    return {
        **({"round 0": WeightsBeforeRefinement.FILE_NAME} if rounds else {}),
        "best validation AUC": "model_best",
        "last round" if rounds else "last iteration": "model_final",
    }


@contextlib.contextmanager
def on_given_rois(model) -> Iterator[None]:
    """Within this context the network's inference diagnoses the ROIs of the file (C-Net in stage 1, F-Net in stage 2):
    the oracle of localisation."""
    model.detect = model.diagnose_rois
    try:
        yield
    finally:
        del model.detect


def evaluate(
    cfg,
    model,
    dataset_name: str,
    *,
    oracle: bool = False,
    threshold: float = 0.5,
    output_dir: Optional[str] = None,
) -> Dict:
    """Diagnosis and, where the network found the boxes itself, localisation on one data set.

    Args:
        oracle: the manual ROI is diagnosed instead of D-Net's box. Images without a ROI are left out here, and of a network
            that is always given its boxes.
        output_dir: where the evaluators store their files.
    Returns:
        the results of both evaluators (empty on all ranks but the first, and where there is no image).
    """
    dataset_dicts = tested_images(model, dataset_name, oracle)
    if not dataset_dicts:
        return {}
    give_back_freed_memory()  # the loader forks
    loader = build_detection_test_loader(
        dataset_dicts, mapper=BBUIMapper(cfg, is_train=False), num_workers=cfg.DATALOADER.NUM_WORKERS
    )
    evaluators = [DiagnosisEvaluator(dataset_name, output_dir, threshold, bootstrap=cfg.TEST.BOOTSTRAP, seed=cfg.SEED)]
    if oracle:
        with on_given_rois(model):
            return inference_on_dataset(model, loader, DatasetEvaluators(evaluators)) or {}
    if model.diagnosed_boxes == FOUND_BOX:
        evaluators.append(LocalisationEvaluator(dataset_name, output_dir, bootstrap=cfg.TEST.BOOTSTRAP, seed=cfg.SEED))
    return inference_on_dataset(model, loader, DatasetEvaluators(evaluators)) or {}


def tested_images(model, dataset_name: str, oracle: bool) -> List[Dict]:
    """The dataset dicts of :func:`evaluate`."""
    needs_rois = oracle or model.diagnosed_boxes == MANUAL_ROI
    return [x for x in DatasetCatalog.get(dataset_name) if x["annotations"] or not needs_rois]


def evaluated_sets(cfg) -> Tuple[str, ...]:
    """DATASETS.TEST; or DATASETS.VAL, where all other patients were trained on."""
    return cfg.DATASETS.TEST or cfg.DATASETS.VAL


def evaluate_model(cfg, model, output_dir: str, threshold: float = 0.5) -> Dict[str, Dict]:
    """Results on every set of :func:`evaluated_sets`, on the boxes that the network diagnoses and, for TSDDNet, with the oracle.

    Args:
        threshold: an image with at least this malignancy is called malignant; with TEST.YOUDEN_THRESHOLD in its place that of
            the found boxes of DATASETS.VAL.
    Returns:
        data set -> {"found box": results, "manual ROI": results}, the second if the data set has ROIs; for a network
        that is given its boxes these alone, under their name. Beside the results of the evaluators stand the "cases". On all
        ranks but the first nothing for a data set.
    """
    if cfg.TEST.YOUDEN_THRESHOLD:
        validation_dir = os.path.join(output_dir, "val")
        evaluate(cfg, model, cfg.DATASETS.VAL[0], output_dir=validation_dir)
        comm.synchronize()
        threshold = load_youden_threshold(os.path.join(validation_dir, f"diagnosis_{cfg.DATASETS.VAL[0]}.json"))
    oracles = {model.diagnosed_boxes: False}
    if isinstance(model, DiagnosesROIs):
        oracles[MANUAL_ROI] = True
    results = {name: {} for name in evaluated_sets(cfg)}
    for name, by_boxes in results.items():
        for boxes, oracle in oracles.items():
            folder = os.path.join(output_dir, folder_of(boxes))
            figures = evaluate(cfg, model, name, oracle=oracle, threshold=threshold, output_dir=folder)
            if figures:
                images = tested_images(model, name, oracle)
                cases = {
                    "images": len(images),
                    "with_roi": sum(bool(x["annotations"]) for x in images),
                    "threshold": threshold,
                }
                by_boxes[boxes] = {"cases": cases, **figures}
    return results


def folder_of(boxes: str) -> str:
    """The folder of the evaluators' reports on "found box", "manual ROI" or "whole image"."""
    return boxes.lower().replace(" ", "_")


def evaluate_run(cfg, warnings: Sequence[str] = ()) -> Dict[str, Dict]:
    """Evaluates the checkpoints that a finished run left in OUTPUT_DIR, and writes ``results.json`` and ``results.md``.

    Args:
        warnings: what was dubious about the data or the configuration; ``results.md`` repeats it.
    """
    if not cfg.DATASETS.TEST:
        chosen = " By these images, those of DATASETS.VAL, model_best was chosen." if cfg.TEST.EVAL_PERIOD else ""
        warnings = [*warnings, f"There is no test set.{chosen}"]
    model = build_model(cfg)
    results = {}
    for label, file_name in checkpoints(cfg).items():
        path = os.path.join(cfg.OUTPUT_DIR, f"{file_name}.pth")
        if not os.path.isfile(path):
            continue
        TSDDCheckpointer(model).load(path, checkpointables=[])
        results[label] = evaluate_model(cfg, model, os.path.join(cfg.OUTPUT_DIR, "inference", file_name))
    if comm.is_main_process():
        write_json(os.path.join(cfg.OUTPUT_DIR, "results.json"), results)
        table = results_table(results)
        notes = "".join(f"\n- Warning: {x}" for x in dict.fromkeys(warnings))
        write_text(os.path.join(cfg.OUTPUT_DIR, "results.md"), table + "\n" + (notes + "\n" if notes else ""))
        logger.info("Results, also in %s:\n%s", os.path.join(cfg.OUTPUT_DIR, "results.md"), table)
    return results
