"""The images of candidate selection: all of the training set, in one pass for each round."""

from typing import Callable, Dict, List

from torch.utils.data import DataLoader

from detectron2.data.common import DatasetFromList, MapDataset
from detectron2.utils import comm

from ..data.decoding import read_pixels
from ..data.draws import ShardedBatchSampler
from ..data.mapper import BBUIMapper
from ..data.transfer import PackedBatch


def round_loader(cfg, dataset_dicts: List[Dict], read_pixels: Callable = read_pixels) -> DataLoader:
    """Fixed batches of inference inputs with ``rois``, this rank's share, ordered by shape to save padding.

    Args:
        read_pixels: what decodes a file, see :class:`BBUIMapper`.
    """
    dataset_dicts = sorted(dataset_dicts, key=lambda x: (x["width"] / x["height"], x["image_id"]))
    sampler = ShardedBatchSampler(len(dataset_dicts), cfg.REFINEMENT.IMS_PER_BATCH, comm.get_rank(), comm.get_world_size())
    # build_detection_test_loader takes no batch sampler
    return DataLoader(
        MapDataset(DatasetFromList(dataset_dicts, copy=False), BBUIMapper(cfg, is_train=False, read_pixels=read_pixels)),
        batch_sampler=sampler,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=PackedBatch,
    )
