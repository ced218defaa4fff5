import json
import os

import numpy as np
import pytest

from tsdd_d2.data.files import TEMPORARY, read_json, remove_leftovers, replacing, write_json, write_json_files


def test_json_goes_there_and_back_with_one_entry_on_a_line(bbui, tmp_path):
    path = tmp_path / "new" / "all.json"
    write_json(path, bbui)
    assert read_json(path) == bbui == json.loads(path.read_text())
    assert sum('"file_name"' in line for line in path.read_text().splitlines()) == 3
    assert [entry.name for entry in path.parent.iterdir()] == ["all.json"]


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "all.json"
    write_json(path, {"round": 0})
    with pytest.raises(TypeError):
        write_json(path, {"round": object()})

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("tsdd_d2.data.files.os.fsync", fail)
    with pytest.raises(OSError):
        write_json(path, {"round": 1})
    assert read_json(path) == {"round": 0}
    assert [entry.name for entry in tmp_path.iterdir()] == ["all.json"]


def test_of_several_files_all_are_written_or_none(tmp_path, monkeypatch):
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    write_json_files({first: {"draw": 0}, second: {"draw": 0}})
    calls = []

    def fail_at_the_second(_):
        calls.append(1)
        if len(calls) == 2:
            raise OSError("disk full")

    monkeypatch.setattr("tsdd_d2.data.files.os.fsync", fail_at_the_second)
    with pytest.raises(OSError, match="disk full"):
        write_json_files({first: {"draw": 1}, second: {"draw": 1}})
    assert read_json(first) == read_json(second) == {"draw": 0}
    assert sorted(os.listdir(tmp_path)) == ["first.json", "second.json"]


def test_two_machines_with_one_process_id_do_not_meet(tmp_path, monkeypatch):
    """Each has a temporary file of its own, whose name :data:`TEMPORARY` still knows."""
    monkeypatch.setattr("os.getpid", lambda: 7)
    path = tmp_path / "all.json"
    with replacing(path, "w") as one:
        one.write("the first of two")
        with replacing(path, "w") as other:
            other.write("second")
            names = sorted(os.listdir(tmp_path))
        assert path.read_text() == "second"
    assert path.read_text() == "the first of two"
    assert len(names) == 2 and {TEMPORARY.sub(r"\1", name) for name in names} == {"all.json"}


def test_what_json_does_not_know_becomes_null(tmp_path):
    """A strict reader, unlike Python's, stops at NaN."""
    path, nan, inf = tmp_path / "results.json", float("nan"), float("inf")
    write_json(path, {"AUC": nan, "sets": [{"low": -inf, "values": (0.5, nan)}], 3: np.float64("nan")})
    assert read_json(path) == {"AUC": None, "sets": [{"low": None, "values": [0.5, None]}], "3": None}
    write_json(path, inf)
    assert path.read_text() == "null\n"


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    """And nothing that only looks like it."""
    kept = [".gitignore", "a.json", "a.json.17.tmp", ".a.json.tmp", ".a.json.x.tmp"]
    for name in [*kept, ".a.json.17.tmp", ".b.json.17.tmp"]:
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path, "a.json")
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, ".b.json.17.tmp"])
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(kept)
