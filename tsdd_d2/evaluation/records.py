"""What both evaluators do with their records of images: gather them over the ranks, name the files, write the report."""

import logging
import os
from typing import Any, Dict, List

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.utils import comm

from tsdd_d2.data.files import write_json


def gather_images(records: List[Dict[str, Any]], distributed: bool) -> List[Dict[str, Any]]:
    """
    Collect per-image records in the main process, sorted by "image_id" so that the number of ranks does not
    show.

    A distributed sampler that pads its shards to one length yields some images twice: the first record is
    kept.

    Returns:
        list[dict]: empty in all but the main process, and, with a warning, if no image was processed.
    """
    if distributed:
        comm.synchronize()
        gathered = comm.gather(records, dst=0)
        if not comm.is_main_process():
            return []
        records = [record for shard in gathered for record in shard]
    if not records:
        logging.getLogger(__name__).warning("No image was processed: there is nothing to evaluate")
    first_records = {}
    for record in records:
        first_records.setdefault(record["image_id"], record)
    return [first_records[image_id] for image_id in sorted(first_records)]


def relative_file_name(file_name: str, dataset_name: str) -> str:
    """``file_name`` below the image_root of the data set: reports do not depend on where the data lie."""
    image_root = MetadataCatalog.get(dataset_name).get("image_root")
    if image_root:
        relative = os.path.relpath(file_name, image_root)
        if not relative.startswith(os.pardir):
            return relative
    return os.path.basename(file_name)


def write_report(output_dir: str, file_name: str, report: Dict[str, Any]) -> None:
    """Write ``report`` below ``output_dir``; JSON knows neither nan nor inf, they become null."""
    write_json(os.path.join(output_dir, file_name), _finite_or_none(report))


def _finite_or_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite_or_none(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite_or_none(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
