"""An archive is read as the folder that it was made of."""

import os
import tarfile

import pytest

from tsdd_d2.errors import InputError
from tsdd_d2.experiments.archive import add_to_archive, list_folder, read_file
from tsdd_d2.experiments.predictions import keep_predictions

from .conftest import write_predictions


def test_files_and_folders_of_an_archive(tmp_path):
    path = str(tmp_path / "kept" / "a.tar.xz")
    add_to_archive(path, {"y/b.json": b"1", "x/b.json": b"2"})
    add_to_archive(path, {"y/b.json": b"3", "z/w/c": b""})
    assert read_file(f"{path}/y/b.json") == b"3" and read_file(f"{path}/x/b.json") == b"2"
    assert read_file(f"{path}/x/none") is None and read_file(f"{path}/x") is None and read_file(path) is None
    assert list_folder(path) == ["x", "y", "z"] and list_folder(f"{path}/z") == ["w"] and list_folder(f"{path}/none") == []


def test_folders_are_folders(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "b").write_bytes(b"1")
    assert read_file(str(tmp_path / "x" / "b")) == b"1" and read_file(str(tmp_path / "x")) is None
    assert list_folder(str(tmp_path)) == ["x"] and list_folder(str(tmp_path / "none")) == []


def test_the_same_files_are_the_same_bytes(tmp_path):
    paths = [tmp_path / "a.tar.xz", tmp_path / "b.tar.xz"]
    add_to_archive(str(paths[0]), {"x": b"1", "y": b"2"})
    add_to_archive(str(paths[1]), {"y": b"2"})
    os.utime(paths[1], (1, 1))
    add_to_archive(str(paths[1]), {"x": b"1"})
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with tarfile.open(paths[0]) as archive:
        assert [(x.name, x.mtime, x.uid) for x in archive] == [("x", 0, 0), ("y", 0, 0)]


@pytest.mark.parametrize("damage", [lambda x: x[:-20], lambda x: b"no archive", lambda x: b""])
def test_a_damaged_archive_is_one_message(tmp_path, damage):
    path = tmp_path / "a.tar.xz"
    add_to_archive(str(path), {"x": b"1" * 1000})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match="a.tar.xz"):
        read_file(f"{path}/x")


def test_kept_predictions_are_finished_runs(run, tmp_path):
    content = write_predictions(run)
    path = str(tmp_path / "kept.tar.xz")
    keep_predictions([run, run._replace(fold=2)], path)
    kept = run._replace(output=path)
    assert kept.status == "finished" and kept.result.predictions == content["predictions"]
    assert list_folder(path) == [run.id] and kept._replace(fold=2).status == "missing"
    before = os.stat(path).st_mtime_ns
    keep_predictions([kept], path)  # nothing is new
    assert os.stat(path).st_mtime_ns == before
