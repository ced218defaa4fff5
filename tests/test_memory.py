import os
import platform
import subprocess
import sys

import pytest

from .conftest import ROOT

PAGE_FAULTS = """
import resource, runpy, sys
import numpy as np
def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.ones(2**24, dtype=np.uint8) for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
if sys.argv[1:]:
    assert runpy.run_path(sys.argv[1])["keep_freed_memory"]()
print([page_faults() for _ in range(3)][-1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_used_again():
    def page_faults(*arguments):
        return int(subprocess.check_output([sys.executable, "-c", PAGE_FAULTS, *arguments], text=True))

    assert page_faults(os.path.join(ROOT, "tsdd_d2", "memory.py")) < 100 < page_faults()


RESIDENT = """
import runpy, sys
import numpy as np
memory = runpy.run_path(sys.argv[1])
def resident():
    return next(int(x.split()[1]) for x in open("/proc/self/status") if x.startswith("VmRSS"))
assert memory["keep_freed_memory"]()
blocks = [np.ones(2**24, dtype=np.uint8) for _ in range(4)]
last = np.ones(2**12, dtype=np.uint8)
del blocks
kept = resident()
memory["give_back_freed_memory"]()
print(kept - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_what_was_kept_can_be_given_back():
    path = os.path.join(ROOT, "tsdd_d2", "memory.py")
    given_back = int(subprocess.check_output([sys.executable, "-c", RESIDENT, path], text=True))
    assert given_back > 60 * 2**10  # of the 64 MiB, in KiB
