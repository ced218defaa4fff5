"""A short run of `make fuzz`."""

import collections
import logging

import pytest

from .fuzz import HANG, TRACEBACK, Kind, fuzz, outcome


def test_no_damaged_file_ends_in_a_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DETECTRON2_DATASETS", "")  # which fuzz sets
    logging.disable(logging.CRITICAL)
    try:
        counts = fuzz(300, seed=0, folder=tmp_path)
    finally:
        logging.disable(logging.NOTSET)
    total = sum(counts.values(), collections.Counter())
    assert total[TRACEBACK] + total[HANG] == 0, capsys.readouterr().out
    assert total["refused"] > 150 and total["accepted"] > 15 and total.total() == 300


@pytest.mark.parametrize("error, expected", [(None, "accepted"), (KeyError("id"), TRACEBACK)])
def test_a_traceback_is_counted(error, expected, capsys):
    def read(_):
        if error:
            raise error

    assert outcome(Kind(b"", bytes, read), "file") == expected
    assert ("KeyError" in capsys.readouterr().out) == bool(error)
