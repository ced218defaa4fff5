"""What both evaluators do with their records of images: collect and gather them, and write the report."""

import logging
import os
from typing import Any, Dict, List, Optional

from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from ..data.files import write_json
from .statistics import CONFIDENCE_LEVEL


class RecordEvaluator(DatasetEvaluator):
    """
    Collects one record for each image, a dict with "image_id", in ``self._predictions``: `process` of a
    subclass appends it, `evaluate` makes metrics with intervals and a report of :meth:`_gather`'s records.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: Optional[str] = None,
        distributed: bool = True,
        bootstrap: int = 1000,
        seed: int = 0,
    ):
        """
        Args:
            dataset_name: name of the data set in :class:`DatasetCatalog`; names the report.
            output_dir: if given, the main process writes the report there.
            distributed: if True, collect the results of all ranks and evaluate them in the main process.
                Otherwise, evaluate the results of the current process only.
            bootstrap: number of resamples for the intervals; 0 for no intervals.
            seed: of the bootstrap.

        Raises:
            ValueError: negative bootstrap.
        """
        if bootstrap < 0:
            raise ValueError(f"bootstrap must be a number of resamples, 0 or more, not {bootstrap}")
        self._dataset_name = dataset_name
        self._output_dir = output_dir
        self._distributed = distributed
        self._bootstrap = bootstrap
        self._seed = seed
        self._predictions: List[Dict[str, Any]] = []

    def reset(self):
        self._predictions = []

    def _gather(self) -> List[Dict[str, Any]]:
        return gather_images(self._predictions, self._distributed)

    def _write_report(self, task: str, report: Dict[str, Any]) -> None:
        """Write ``<task>_<dataset_name>.json``, where nan is null."""
        if not self._output_dir:
            return
        report = {
            "dataset": self._dataset_name,
            "confidence_level": CONFIDENCE_LEVEL,
            "bootstrap": self._bootstrap,
            "seed": self._seed,
            **report,
        }
        path = os.path.join(self._output_dir, f"{task}_{self._dataset_name}.json")
        write_json(path, report)


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
