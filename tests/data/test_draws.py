import numpy as np
import pytest

from tsdd_d2.data.draws import DrawSampler, ShardedBatchSampler, Stream, StreamDraws, StreamMapper, TrainingDraws, numpy_seed

IMAGES = [{"image_id": i, "width": 10 + i, "height": 10} for i in range(5)]


def ids(draws, numbers):
    return [draws[i]["image_id"] for i in numbers]


def test_every_epoch_holds_every_image_once_in_its_own_order():
    draws = TrainingDraws(IMAGES, seed=3, num_draws=15, batch_size=1)
    # 15 draws are two groups of batches, the first of 8 draws: three epochs in all
    assert sorted(ids(draws, range(15))) == sorted([0, 1, 2, 3, 4] * 3)
    epochs = [draws._epoch(epoch).tolist() for epoch in range(3)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_images_of_like_shape_share_a_batch():
    """Of 16 images, half of them portraits, in batches of 4: each batch is of one kind, and the kinds alternate."""
    images = [{"image_id": i, "width": 10, "height": 20 if i % 2 else 5} for i in range(16)]
    draws = TrainingDraws(images, seed=0, num_draws=16, batch_size=4)
    kinds = [{i % 2 for i in ids(draws, range(start, start + 4))} for start in range(0, 16, 4)]
    assert all(len(kind) == 1 for kind in kinds)
    assert sorted(ids(draws, range(16))) == list(range(16))
    order = [ids(TrainingDraws(images, seed=s, num_draws=16, batch_size=4), range(16)) for s in range(6)]
    assert len({tuple(i % 2 for i in x) for x in order}) > 1  # not always the portraits first


def test_a_draw_depends_on_seed_and_number_alone():
    forwards = TrainingDraws(IMAGES, seed=3, num_draws=15, batch_size=1)
    expected = [forwards[i] for i in range(15)]
    resumed = TrainingDraws(IMAGES, seed=3, num_draws=15, batch_size=1)
    assert [resumed[i] for i in range(7, 15)] == expected[7:]
    assert ids(TrainingDraws(IMAGES, seed=4, num_draws=15, batch_size=1), range(15)) != [x["image_id"] for x in expected]


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


UNLABELLED = [{"image_id": 100 + i, "width": 10, "height": 10} for i in range(7)]


def test_every_batch_has_its_part_of_each_stream_on_every_rank():
    streams = [Stream(IMAGES, 2, name="labelled"), Stream(UNLABELLED, 4, name="unlabelled")]
    draws = StreamDraws(streams, seed=3, num_batches=5)
    assert len(draws) == 30
    for rank in (0, 1):
        share = [draws[i]["stream"] for i in DrawSampler(0, len(draws), rank, 2)]
        assert share == ["labelled", "unlabelled", "unlabelled"] * 5
    unlabelled = [draws[i]["image_id"] for i in range(30) if draws[i]["stream"] == "unlabelled"]
    assert all(100 <= i < 107 for i in unlabelled) and len(set(unlabelled)) == 7
    # a draw is a function of seed and number, and the streams draw independently
    assert StreamDraws(streams, seed=3, num_batches=5)[17] == draws[17]
    assert len({tuple(draws[i]["draw_seed"]) for i in range(30)}) == 30


def test_one_stream_draws_as_it_would_alone():
    draws = StreamDraws([Stream(IMAGES, 2)], seed=3, num_batches=4)
    alone = TrainingDraws(IMAGES, seed=3, num_draws=8, batch_size=2)
    assert [draws[i] for i in range(8)] == [{**alone[i], "stream": ""} for i in range(8)]


def test_an_image_may_be_composed_of_several():
    draws = StreamDraws([Stream(IMAGES, 2, composed_of=4)], seed=0, num_batches=3)
    assert all(len(draws[i]["composed_with"]) == 3 for i in range(6))
    assert draws[4] == draws[4] and {x["image_id"] for i in range(6) for x in draws[i]["composed_with"]} <= set(range(5))


def test_each_stream_has_its_mapper():
    streams = [Stream(IMAGES, 1, name="a"), Stream(IMAGES, 1, mapper=lambda x: ["weak", "strong"], name="b")]
    mapper = StreamMapper(streams, mapper=lambda x: x["image_id"])
    assert mapper({"stream": "a", "image_id": 7}) == 7
    assert mapper({"stream": "b", "image_id": 7}) == ["weak", "strong"]


def test_streams_have_names_of_their_own():
    with pytest.raises(ValueError, match="''"):
        StreamMapper([Stream(IMAGES, 1), Stream(UNLABELLED, 1)], mapper=lambda x: x)
