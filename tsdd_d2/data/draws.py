"""Training draws as a pure function of (seed, draw number), so that a killed run resumes with the same images."""

import contextlib
from typing import Dict, Iterator, List

import numpy as np
from torch.utils.data import Dataset, Sampler


# Batches are formed among this many times their own number of consecutive draws.
BATCHES_IN_GROUP = 8


class TrainingDraws(Dataset):
    """The endless sequence of training images, epoch by epoch, in an order that depends on the seed alone.

    Item ``i`` is the dataset dict of draw ``i`` with an extra ``draw_seed`` for its augmentation. Detectron2's
    ``TrainingSampler`` has no position to resume from, hence this.

    Images of like shape share a batch: a batch is padded to its highest and to its widest image, so one portrait among
    landscapes makes all of them pay. Detectron2's grouping by aspect ratio buffers images across batches, which a
    resumed run could not repeat; here it is a part of the order of the draws.
    """

    def __init__(self, dataset_dicts: List[Dict], seed: int, num_draws: int, batch_size: int):
        """
        Args:
            dataset_dicts: the images to draw from, with ``width`` and ``height``.
            seed: two sequences with one seed are the same.
            num_draws: length of the sequence.
            batch_size: a batch is ``batch_size`` consecutive draws, over all ranks.
        """
        self.dataset_dicts = dataset_dicts
        self.seed = seed
        self.num_draws = num_draws
        self.batch_size = batch_size
        self.aspect_ratios = np.array([x["width"] / x["height"] for x in dataset_dicts])
        self._group, self._images = -1, np.empty(0, dtype=int)

    def __len__(self) -> int:
        return self.num_draws

    def __getitem__(self, draw: int) -> Dict:
        group, position = divmod(draw, BATCHES_IN_GROUP * self.batch_size)
        if group != self._group:
            self._group, self._images = group, self._images_of_group(group)
        dataset_dict = dict(self.dataset_dicts[self._images[position]])
        dataset_dict["draw_seed"] = [self.seed, draw]
        return dataset_dict

    def _images_of_group(self, group: int) -> np.ndarray:
        """Indices of a group's images: those of its draws, sorted by shape, cut into batches, these in random order."""
        size = BATCHES_IN_GROUP * self.batch_size
        draws = np.arange(group * size, min((group + 1) * size, self.num_draws))
        epochs, positions = np.divmod(draws, len(self.dataset_dicts))
        images = np.concatenate(
            [self._epoch(epoch)[positions[epochs == epoch]] for epoch in np.unique(epochs)]
        )
        images = images[np.argsort(self.aspect_ratios[images], kind="stable")]
        num_batches = len(images) // self.batch_size
        batches = images[: num_batches * self.batch_size].reshape(num_batches, self.batch_size)
        batches = np.random.default_rng([self.seed, group, 1]).permutation(batches)
        return np.concatenate([batches.ravel(), images[num_batches * self.batch_size :]])

    def _epoch(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.dataset_dicts))


class DrawSampler(Sampler):
    """Yields draw numbers from ``start`` on; of every ``world_size`` consecutive ones each rank takes its own."""

    def __init__(self, start: int, num_draws: int, rank: int = 0, world_size: int = 1):
        self.draws = range(start + rank, num_draws, world_size)

    def __iter__(self) -> Iterator[int]:
        return iter(self.draws)

    def __len__(self) -> int:
        return len(self.draws)


class ShardedBatchSampler(Sampler):
    """Fixed batches of consecutive indices, dealt out to the ranks in turn.

    A batch's composition decides its padding and so, in the last digits, its output. Dealing out whole batches makes
    a pass over N images the same for every number of processes.
    """

    def __init__(self, num_images: int, batch_size: int, rank: int = 0, world_size: int = 1):
        starts = range(0, num_images, batch_size)[rank::world_size]
        self.batches = [list(range(s, min(s + batch_size, num_images))) for s in starts]

    def __iter__(self) -> Iterator[List[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


@contextlib.contextmanager
def numpy_seed(seed):
    """Seeds numpy's global generator, which Detectron2's augmentations draw from, and restores it afterwards."""
    state = np.random.get_state()
    np.random.seed(np.random.SeedSequence(seed).generate_state(1))
    try:
        yield
    finally:
        np.random.set_state(state)
