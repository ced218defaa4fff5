import numpy as np

from tsdd_d2.data.draws import DrawSampler, ShardedBatchSampler, TrainingDraws, numpy_seed

IMAGES = [{"image_id": i} for i in range(5)]


def ids(draws, numbers):
    return [draws[i]["image_id"] for i in numbers]


def test_every_epoch_holds_every_image_once_in_its_own_order():
    draws = TrainingDraws(IMAGES, seed=3, num_draws=15)
    epochs = [ids(draws, range(start, start + 5)) for start in (0, 5, 10)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_draw_depends_on_seed_and_number_alone():
    forwards = TrainingDraws(IMAGES, seed=3, num_draws=15)
    expected = [forwards[i] for i in range(15)]
    resumed = TrainingDraws(IMAGES, seed=3, num_draws=15)
    assert [resumed[i] for i in range(7, 15)] == expected[7:]
    assert ids(TrainingDraws(IMAGES, seed=4, num_draws=15), range(15)) != [x["image_id"] for x in expected]


def test_two_ranks_share_the_draws_of_one():
    assert list(DrawSampler(4, 10)) == [4, 5, 6, 7, 8, 9]
    assert list(DrawSampler(4, 10, rank=0, world_size=2)) == [4, 6, 8]
    assert list(DrawSampler(4, 10, rank=1, world_size=2)) == [5, 7, 9]


def test_batches_are_the_same_for_every_number_of_ranks():
    alone = list(ShardedBatchSampler(7, 3))
    assert alone == [[0, 1, 2], [3, 4, 5], [6]]
    shared = [list(ShardedBatchSampler(7, 3, rank, 2)) for rank in range(2)]
    assert shared == [[[0, 1, 2], [6]], [[3, 4, 5]]]


def test_seeding_is_undone():
    np.random.seed(1)
    expected = np.random.rand(2)
    np.random.seed(1)
    first = np.random.rand()
    with numpy_seed([5, 6]):
        inside = np.random.rand()
    assert [first, np.random.rand()] == expected.tolist()
    with numpy_seed([5, 6]):
        assert np.random.rand() == inside
