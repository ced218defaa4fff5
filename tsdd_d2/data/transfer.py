"""The way of a batch from a loader's worker to the training process."""

import io
import pickle
from typing import Dict, List, Tuple

import torch
from torch import Tensor

# Tensors start at multiples of this many bytes, which suits every dtype.
ALIGNMENT = 16


class PackedBatch(list):
    """A list of mapped images (a ``collate_fn``) whose tensors go to another process in one piece of shared memory.

    PyTorch sends each tensor in a file descriptor of its own, and a batch has many small ones: receiving them costs
    more than decoding the images. The receiver gets a plain list.
    """

    @classmethod
    def of_views(cls, mapped: List) -> "PackedBatch":
        """A batch of what a loader's mapper returned: images, and lists of several views of one."""
        return cls(view for x in mapped for view in (x if isinstance(x, list) else [x]))

    def __reduce__(self):
        stream = io.BytesIO()
        packer = _Packer(stream, protocol=pickle.HIGHEST_PROTOCOL)
        packer.dump(list(self))
        return _unpack, (stream.getvalue(), *packer.packed())


class _Packer(pickle.Pickler):
    """Pickles everything but tensors, which it collects."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.tensors: List[Tensor] = []

    def persistent_id(self, x):
        if not isinstance(x, Tensor):
            return None
        self.tensors.append(x)
        return len(self.tensors) - 1

    def packed(self) -> Tuple[List[Tuple], Tensor]:
        """(dtype, shape, stored shape, first byte) of each tensor, and the bytes of all."""
        layout, end = [], 0
        # the equal channels of a grey image are one in memory
        stored = [x[:1] if x.dim() > 0 and x.stride(0) == 0 else x for x in self.tensors]
        for x, s in zip(self.tensors, stored):
            layout.append((x.dtype, x.shape, s.shape, end))
            end += -(-s.nbytes // ALIGNMENT) * ALIGNMENT
        memory = torch.zeros(end, dtype=torch.uint8)
        for s, (_, _, _, start) in zip(stored, layout):
            memory[start : start + s.nbytes] = s.reshape(-1).view(torch.uint8)
        return layout, memory


class _Unpacker(pickle.Unpickler):
    def __init__(self, stream, layout: List[Tuple], memory: Tensor):
        super().__init__(stream)
        self.layout, self.memory = layout, memory

    def persistent_load(self, i) -> Tensor:
        dtype, shape, stored_shape, start = self.layout[i]
        size = stored_shape.numel() * dtype.itemsize
        return self.memory[start : start + size].view(dtype).view(stored_shape).expand(shape)


def _unpack(pickled: bytes, layout: List[Tuple], memory: Tensor) -> List[Dict]:
    return _Unpacker(io.BytesIO(pickled), layout, memory).load()
