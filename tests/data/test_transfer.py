import torch
from torch.utils.data import DataLoader

from detectron2.structures import Boxes, Instances
from tsdd_d2.data.transfer import PackedBatch


def mapped_image(i):
    generator = torch.Generator().manual_seed(i)
    instances = Instances((5, 7))
    instances.gt_boxes = Boxes(torch.rand(i % 3, 4, generator=generator))
    instances.gt_classes = torch.randint(0, 2, (i % 3,), generator=generator)
    grey = torch.randint(0, 256, (1, 5, 7), generator=generator, dtype=torch.uint8)
    colour = torch.randint(0, 256, (3, 5, 7), generator=generator, dtype=torch.uint8)
    return {
        "image": grey.expand(3, -1, -1) if i % 2 else colour,
        "instances": instances,
        "image_id": i,
        "partially_annotated": i % 2 == 0,
        "half": torch.tensor(i / 2, dtype=torch.bfloat16),  # no dimension
    }


class MappedImages:
    def __len__(self):
        return 6

    def __getitem__(self, i):
        return mapped_image(i)


def test_a_worker_sends_a_batch_in_one_piece():
    for number, batch in enumerate(DataLoader(MappedImages(), 3, num_workers=1, collate_fn=PackedBatch)):
        tensors = []
        for i, found in enumerate(batch, start=3 * number):
            sent = mapped_image(i)
            assert found["image_id"] == i and found["instances"].image_size == (5, 7)
            assert found["partially_annotated"] is sent["partially_annotated"]
            pairs = [(found[key], sent[key]) for key in ("image", "half")]
            pairs += [(found["instances"].get(key), x) for key, x in sent["instances"].get_fields().items()]
            pairs = [(a.tensor, b.tensor) if isinstance(b, Boxes) else (a, b) for a, b in pairs]
            assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)
            assert found["image"].stride(0) == sent["image"].stride(0)
            tensors += [a for a, _ in pairs if a.numel()]
        assert len({x.untyped_storage().data_ptr() for x in tensors}) == 1


def test_without_workers_it_is_a_list_of_the_images():
    (batch,) = DataLoader(MappedImages(), 6, collate_fn=PackedBatch)
    assert [x["image_id"] for x in batch] == [0, 1, 2, 3, 4, 5]


def test_views_of_an_image_stand_side_by_side_in_a_batch():
    assert PackedBatch.of_views([{"image": 1}, [{"image": 2}, {"image": 3}]]) == [{"image": 1}, {"image": 2}, {"image": 3}]
