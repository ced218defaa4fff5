"""Training draws as a pure function of (seed, draw number), so that a killed run resumes with the same images."""

import contextlib
from typing import Dict, Iterator, List

import numpy as np
from torch.utils.data import Dataset, Sampler


class TrainingDraws(Dataset):
    """The endless sequence of training images, epoch by epoch, in an order that depends on the seed alone.

    Item ``i`` is the dataset dict of draw ``i`` with an extra ``draw_seed`` for its augmentation. Detectron2's
    ``TrainingSampler`` has no position to resume from, hence this.
    """

    def __init__(self, dataset_dicts: List[Dict], seed: int, num_draws: int):
        """
        Args:
            dataset_dicts: the images to draw from.
            seed: two sequences with one seed are the same.
            num_draws: length of the sequence.
        """
        self.dataset_dicts = dataset_dicts
        self.seed = seed
        self.num_draws = num_draws
        self._epoch, self._order = -1, []

    def __len__(self) -> int:
        return self.num_draws

    def __getitem__(self, draw: int) -> Dict:
        epoch, position = divmod(draw, len(self.dataset_dicts))
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self.seed, epoch]).permutation(
                len(self.dataset_dicts)
            )
        dataset_dict = dict(self.dataset_dicts[self._order[position]])
        dataset_dict["draw_seed"] = [self.seed, draw]
        return dataset_dict


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
