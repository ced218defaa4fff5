"""The images of candidate selection: all of the training set, in one pass for each round."""

from typing import Callable, Dict, List, Optional

from torch.utils.data import DataLoader

from detectron2.data.common import DatasetFromList, MapDataset
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.utils import comm

from ..data.decoding import read_pixels
from ..data.draws import ShardedBatchSampler
from ..data.mapper import BBUIMapper, MappedOnce
from ..data.transfer import PackedBatch


def round_mapper(cfg, dataset_dicts: List[Dict], read_pixels: Callable = read_pixels) -> Callable[[Dict], Dict]:
    """Inference inputs with ``rois``; the images are decoded and resized once if they fit into the memory.

    Args:
        dataset_dicts: all images of the rounds.
        read_pixels: what decodes a file, see :class:`BBUIMapper`.
    """
    mapper = BBUIMapper(cfg, is_train=False, read_pixels=read_pixels)
    shapes = [(x["height"], x["width"]) for x in dataset_dicts]
    if cfg.INPUT.MIN_SIZE_TEST > 0:
        sides = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
        shapes = [ResizeShortestEdge.get_output_shape(*shape, *sides) for shape in shapes]
    channels = 1 if cfg.INPUT.FORMAT == "L" else 3
    fits = sum(height * width * channels for height, width in shapes) <= cfg.DATALOADER.DECODED_IMAGES_MB * 2**20
    return MappedOnce(mapper) if fits else mapper


def round_loader(cfg, dataset_dicts: List[Dict], mapper: Optional[Callable] = None) -> DataLoader:
    """Fixed batches of inference inputs with ``rois``, this rank's share, ordered by shape to save padding.

    Args:
        mapper: of :func:`round_mapper`, the same for all rounds; by default nothing is kept from pass to pass.
    """
    dataset_dicts = sorted(dataset_dicts, key=lambda x: (x["width"] / x["height"], x["image_id"]))
    sampler = ShardedBatchSampler(len(dataset_dicts), cfg.REFINEMENT.IMS_PER_BATCH, comm.get_rank(), comm.get_world_size())
    # build_detection_test_loader takes no batch sampler
    return DataLoader(
        MapDataset(DatasetFromList(dataset_dicts, copy=False), mapper or BBUIMapper(cfg, is_train=False)),
        batch_sampler=sampler,
        # with the images in memory there is little to do, and workers would only take the cores from the networks
        num_workers=0 if isinstance(mapper, MappedOnce) else cfg.DATALOADER.NUM_WORKERS,
        collate_fn=PackedBatch,
    )
