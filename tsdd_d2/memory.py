"""How this process treats the memory of freed tensors on the CPU."""

import ctypes

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# The largest that glibc accepts.
LARGEST_HEAP_BLOCK = 32 * 2**20
LARGEST_FREE_TOP = 2**31 - 1
# Steps of a training, or batches of a round, between two calls of :func:`give_back_freed_memory`.
PERIOD = 50


def keep_freed_memory() -> bool:
    """Lets glibc keep what large tensors free for the next ones, instead of giving it back to the system.

    Asked for again, it would come page by page, each of them zeroed, which costs a forward pass on the CPU a tenth of
    its time. The holes between what is in use grow from step to step, until :func:`give_back_freed_memory` is called.

    Returns:
        False with a C library that has no such setting; nothing has changed then.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_HEAP_BLOCK) and mallopt(M_TRIM_THRESHOLD, LARGEST_FREE_TOP))


def give_back_freed_memory() -> None:
    """Gives back what glibc kept.

    Before processes are forked: each would hold a copy of it once this one writes there again. And every :data:`PERIOD`
    steps: the next one then takes a second more.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
