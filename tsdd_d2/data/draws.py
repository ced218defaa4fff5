"""Training draws as a pure function of (seed, draw number), so that a killed run resumes with the same images."""

import contextlib
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

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
        images = np.concatenate([self._epoch(epoch)[positions[epochs == epoch]] for epoch in np.unique(epochs)])
        images = images[np.argsort(self.aspect_ratios[images], kind="stable")]
        num_batches = len(images) // self.batch_size
        batches = images[: num_batches * self.batch_size].reshape(num_batches, self.batch_size)
        batches = np.random.default_rng([self.seed, group, 1]).permutation(batches)
        return np.concatenate([batches.ravel(), images[num_batches * self.batch_size :]])

    def _epoch(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.dataset_dicts))


class Stream(NamedTuple):
    """Images that a part of each batch is drawn from.

    Attributes:
        images: dataset dicts, with what training may see of them alone.
        size: how many of them are in a batch, over all ranks.
        mapper: from a drawn dataset dict to a mapped image, or to a list of several views of it; None: the trainer's.
        composed_of: how many images a drawn one is made of; the others are in its ``composed_with``, as dataset dicts.
        name: in the ``stream`` of each mapped image.
    """

    images: Sequence[Dict]
    size: int
    mapper: Optional[Callable] = None
    composed_of: int = 1
    name: str = ""


class StreamDraws(Dataset):
    """The draws of several streams, with a fixed number of each in every batch.

    Draw ``i`` is still a function of seed and number alone. Within a batch the streams follow each other; since a rank
    takes every ``world_size``-th draw, each rank has its share of each stream if ``world_size`` divides the sizes.
    """

    def __init__(self, streams: Sequence[Stream], seed: int, num_batches: int):
        self.streams = streams
        self.draws = [
            TrainingDraws(x.images, _seed_of_stream(seed, i), num_batches * x.size, x.size) for i, x in enumerate(streams)
        ]
        self.places = [(i, place) for i, x in enumerate(streams) for place in range(x.size)]
        self.num_batches = num_batches

    def __len__(self) -> int:
        return self.num_batches * len(self.places)

    def __getitem__(self, draw: int) -> Dict:
        batch, position = divmod(draw, len(self.places))
        number, place = self.places[position]
        stream, draws = self.streams[number], self.draws[number]
        drawn = {**draws[batch * stream.size + place], "stream": stream.name}
        if stream.composed_of > 1:
            others = np.random.default_rng([*drawn["draw_seed"], 1]).integers(
                len(stream.images), size=stream.composed_of - 1
            )
            drawn["composed_with"] = [stream.images[i] for i in others]
        return drawn


def _seed_of_stream(seed: int, number: int) -> int:
    """The first stream has the seed itself, the others seeds of their own."""
    return seed if number == 0 else int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


class StreamMapper:
    """Maps what :class:`StreamDraws` drew with the mapper of its stream."""

    def __init__(self, streams: Sequence[Stream], mapper: Callable):
        """
        Args:
            mapper: of the streams that have none of their own.

        Raises:
            ValueError: two streams have one name.
        """
        if len({x.name for x in streams}) < len(streams):
            raise ValueError(f"streams need names of their own, found {[x.name for x in streams]}")
        self.mappers = {x.name: x.mapper or mapper for x in streams}

    def __call__(self, dataset_dict: Dict):
        return self.mappers[dataset_dict["stream"]](dataset_dict)


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
