"""``predictions.json``: all that tables and figures need of a run, small enough to be kept under version control."""

import json
import os
import re
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from detectron2.data import MetadataCatalog

from ..data import ensure_registered
from ..data.files import read_json, write_text
from ..engine.run_folder import RunRecord, read_run_config, sha256_of_file
from ..errors import InputError
from ..evaluation.localisation import chosen_box_iou
from .archive import add_to_archive, read_file
from .run import LAST_FILE, PREDICTIONS, Run
from .schema import read_report, read_result

# The weights whose predictions count, for every method: those of the last iteration. The best ones on the validation
# split would be chosen among few images.
WEIGHTS = "model_final"

# Where the evaluators report on what a network diagnoses by itself, see tsdd_d2.engine.final_evaluation. TSDDNet also
# reports on the manual ROI, which is not its diagnosis.
BOXES = ("found_box", "manual_roi", "whole_image")

PSEUDO_BOXES = "pseudo_boxes/"
# Of a box; and of a probability, as many as tell two float32 apart: what is nearly certain has no ties, and 0.5 is none.
SIGNIFICANT_DIGITS, DIGITS_OF_PROBABILITIES = 5, 9


def collect_predictions(run: Run) -> None:
    """
    Writes ``predictions.json`` of a run whose training tool has finished: its descriptor, the versions of its last
    attempt, and what :class:`~tsdd_d2.experiments.run.Result` has.
    """
    record = run.record
    last, earlier = record["attempts"][-1], record["attempts"][:-1]
    validation = read_report(os.path.join(run.folder, "inference", f"diagnosis_{run.split('val')}.json"))
    test = run.split("test")
    _write(
        run,
        {
            **run.descriptor,
            "overrides": list(run.overrides),
            "seconds": round(last["seconds"] + sum(x.get("kept_seconds", 0.0) for x in earlier), 3),
            "versions": last["versions"],
            "git_revision": last["git_revision"],
            "youden_threshold": validation["youden_threshold"],
            "annotation_sha256": {test: _sha256(test)},
            "pseudo_boxes": _pseudo_boxes(os.path.join(run.folder, "metrics.json")),
            "predictions": {test: _predictions(os.path.join(run.folder, "inference", WEIGHTS), test)},
        },
    )


def add_external_predictions(run: Run, name: str, inference_dir: str) -> None:
    """Adds the predictions of an evaluation with ``--eval-only`` to the run's file."""
    content = read_result(os.path.join(run.folder, PREDICTIONS), run.descriptor)
    content["predictions"][name] = _predictions(inference_dir, name)
    content.setdefault("annotation_sha256", {})[name] = _sha256(name)
    _write(run, content)


def predictions_of_training(output_dir: str) -> Dict[str, Any]:
    """
    "method", "data", "fold", "p" and "predictions" of an OUTPUT_DIR of tools/train_net.py, as ``predictions.json`` has them.

    Raises:
        InputError: the run is not finished, has no fold, or its test annotation has changed since.
    """
    record, tested = RunRecord.read(output_dir), read_run_config(output_dir).DATASETS.TEST
    found = re.fullmatch(r"(.+)_fold([1-9][0-9]*)_test", tested[0]) if len(tested) == 1 else None
    if found is None:
        raise InputError(f"{output_dir} was tested on {', '.join(tested) or 'nothing'}, which is no <data>_fold<K>_test.")
    name, (data, fold) = found[0], found.groups()
    if record.status != "finished" or not os.path.isfile(os.path.join(output_dir, LAST_FILE)):
        raise InputError(f"{output_dir}: the run is not finished, go on with it by tools/train_net.py --resume.")
    if (record.evaluated_sha256 or {}).get(name) not in (None, _sha256(name)):
        raise InputError(f"{output_dir}: the annotation of {name} has changed since the run was tested.")
    predictions = {name: _predictions(os.path.join(output_dir, "inference", WEIGHTS), name)}
    return {"method": record.method, "data": data, "fold": int(fold), "p": record.p, "predictions": predictions}


def keep_predictions(runs: Iterable[Run], archive: str) -> None:
    """Adds the predictions of the finished runs to an archive, which is then a folder of runs."""
    found = {f"{run.id}/{PREDICTIONS}": read_file(os.path.join(run.folder, PREDICTIONS)) for run in runs}
    found = {name: content for name, content in found.items() if content is not None}
    if any(read_file(os.path.join(archive, name)) != content for name, content in found.items()):
        add_to_archive(archive, found)


def _predictions(inference_dir: str, name: str) -> List[Dict[str, Any]]:
    """The evaluator's record of each image, "roi", its manual box in absolute XYXY or None, and "num_rois"."""
    files = [os.path.join(inference_dir, boxes, f"diagnosis_{name}.json") for boxes in BOXES]
    report = read_report(next((path for path in files if os.path.isfile(path)), files[0]))
    manual, records = _manual_rois(name), []
    for x in report["predictions"]:
        rois = manual.get(x["image_id"], ())
        records.append({**x, "roi": _best_overlapped(rois, x["box"]), "num_rois": len(rois)})
    return records


def _best_overlapped(rois: Sequence[List[float]], box: Optional[List[float]]) -> Optional[List[float]]:
    """Of several lesions the one that the evaluation of localisation takes; the first where no box was found."""
    return max(rois, key=lambda roi: chosen_box_iou([box], [roi]) if box else 0.0, default=None)


def _pseudo_boxes(metrics_file: str) -> Dict[str, List[Tuple[int, float]]]:
    """What :class:`~tsdd_d2.methods.pseudo_boxes.PseudoBoxLog` wrote; the last value of a step that was repeated counts."""
    series: Dict[str, Dict[int, float]] = {}
    for line in (read_file(metrics_file) or b"").splitlines():
        try:
            scalars = json.loads(line)
        except ValueError:  # a training that was killed had half written it, and has repeated the step
            continue
        for name, value in scalars.items():
            if name.startswith(PSEUDO_BOXES):
                series.setdefault(name.removeprefix(PSEUDO_BOXES), {})[scalars["iteration"]] = float(f"{value:.4g}")
    return {name: sorted(values.items()) for name, values in sorted(series.items())}


def _sha256(name: str) -> str:
    ensure_registered(name)
    return sha256_of_file(MetadataCatalog.get(name).json_file)


def _manual_rois(name: str) -> Dict[int, List[List[float]]]:
    ensure_registered(name)
    rois: Dict[int, List[List[float]]] = {}
    for annotation in read_json(MetadataCatalog.get(name).json_file)["annotations"]:
        x, y, width, height = annotation["bbox"]
        rois.setdefault(annotation["image_id"], []).append([x, y, x + width, y + height])
    return rois


def _write(run: Run, content: Dict[str, Any]) -> None:
    """Writes one image on a line, with no more digits than mean something."""
    head = {key: value for key, value in content.items() if key != "predictions"}
    fields = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    sets = []
    for name, records in content["predictions"].items():
        lines = ",\n".join(
            json.dumps(_rounded(record, DIGITS_OF_PROBABILITIES), separators=(",", ":")) for record in records
        )
        sets.append(f"{json.dumps(name)}: [\n{lines}\n]")
    fields.append('"predictions": {\n' + ",\n".join(sets) + "\n}")
    write_text(os.path.join(run.folder, PREDICTIONS), "{\n" + ",\n".join(fields) + "\n}\n")


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item, DIGITS_OF_PROBABILITIES) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item, SIGNIFICANT_DIGITS) for item in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value
