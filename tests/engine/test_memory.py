import os
import platform
import subprocess
import sys

import pytest

from ..conftest import ROOT

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

    assert page_faults(os.path.join(ROOT, "tsdd_d2", "engine", "memory.py")) < 100 < page_faults()
