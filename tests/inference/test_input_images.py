"""Images from files and arrays: which files are meant, and what cannot be read."""

import os

import numpy as np
import pytest
from PIL import Image

from tsdd_d2.errors import InputError
from tsdd_d2.inference.input_images import file_stem, find_image_files, picture_name, read_images


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 8), 100, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """a.png and b.png, c/a.JPG, and files that are no image by their name."""
    for name in ("b.png", "a.png", "c/a.JPG"):
        save(tmp_path / name)
    for name in ("notes.csv", ".hidden.png"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "patterns, files",
    [
        (["."], ["./a.png", "./b.png", "./c/a.JPG"]),
        (["b.png", "*.png"], ["b.png", "a.png"]),
        (["**/*.JPG"], ["c/a.JPG"]),
        (["notes.csv"], ["notes.csv"]),
    ],
)
def test_files_of_patterns_and_folders(folder, patterns, files):
    assert find_image_files(patterns) == files


def test_links_to_folders_are_followed_once(folder, tmp_path):
    other = tmp_path / "other"
    os.symlink(other, "link")
    save(other / "d.png")
    os.symlink(tmp_path, other / "up")
    assert find_image_files(["link"])[0] == "link/d.png"
    assert [os.path.basename(x) for x in find_image_files(["."])] == ["a.png", "b.png", "a.JPG", "d.png"]


def test_videos_in_a_folder_are_told(folder, tmp_path, caplog):
    for name in ("b.avi", "a.MP4"):
        (tmp_path / name).touch()
    assert len(find_image_files(["."])) == 3
    assert "2 videos" in caplog.text and "a.MP4" in caplog.text


def test_masks_beside_their_images_are_left_out_of_a_folder(folder, tmp_path, caplog):
    for name in ("a_mask.png", "a_mask_1.png", "e_mask.png", "c/b_mask.png"):
        save(tmp_path / name)
    assert find_image_files(["."]) == ["./a.png", "./b.png", "./c/a.JPG", "./c/b_mask.png", "./e_mask.png"]
    assert "2 masks" in caplog.text and "a_mask.png" in caplog.text
    assert find_image_files(["a_mask.png"]) == ["a_mask.png"]


def test_a_name_with_brackets_is_no_pattern(folder):
    os.rename("a.png", "a[1].png")
    assert find_image_files(["a[1].png"]) == ["a[1].png"]


def test_all_patterns_without_a_file_in_one_message(folder):
    os.mkdir("empty")
    with pytest.raises(InputError) as error:
        find_image_files(["a.png", "d*.png", "empty"])
    assert "d*.png" in str(error.value) and "empty" in str(error.value) and "a.png" not in str(error.value)


def test_stems():
    assert [file_stem(x) for x in ("x/a.b.PNG", "1.2.840.55")] == ["a.b", "1.2.840.55"]


def test_each_picture_has_a_name_of_its_own():
    taken = set()
    files = ["benign/1.png", "malignant/1.PNG", "a/b.jpg", "c/B.bmp", "1_2.png"]
    assert [picture_name(x, taken) for x in files] == ["1.png", "1_2.png", "b.png", "B_2.png", "1_2_2.png"]
    assert [picture_name("IM.0001", taken, frame) for frame in (1, 12)] == [
        "IM.0001_frame0001.png", "IM.0001_frame0012.png",
    ]  # fmt: skip


def test_the_picture_of_a_file_with_a_long_name_can_be_written(tmp_path):
    taken = set()
    for name in ("é" * 125 + ".png", "é" * 125 + ".jpg", "a" * 251 + ".png"):  # 254 and 255 bytes
        (tmp_path / picture_name(name, taken, 12)).touch()
    assert len(os.listdir(tmp_path)) == 3


def test_files_that_are_no_image(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no more")
    Image.fromarray(np.full((8, 8), 1000, np.uint16)).save(tmp_path / "deep.png")
    page = Image.new("L", (8, 8))
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page])
    with pytest.raises(InputError, match=r"gone\.png"):
        list(read_images([tmp_path / "gone.png"]))
    with pytest.raises(InputError, match="a folder; find_image_files"):
        list(read_images([tmp_path]))
    with pytest.raises(InputError, match="input 2: .* not list"):
        list(read_images([np.zeros((8, 8), np.uint8), [[0]]]))
    with pytest.raises(InputError, match=r"broken\.png cannot be decoded"):
        list(read_images([tmp_path / "broken.png"]))
    save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:45])
    with pytest.raises(InputError, match="input 1 cannot be decoded"):  # Pillow reads the header alone
        list(read_images([Image.open(tmp_path / "cut.png")]))
    with pytest.raises(InputError, match=r"deep\.png has pixels of more than 8 bits"):
        list(read_images([tmp_path / "deep.png"]))
    with pytest.raises(InputError, match=r"pages\.tif has 2 pages"):
        list(read_images([tmp_path / "pages.tif"]))


def test_errors_may_be_collected(tmp_path):
    save(tmp_path / "a.png")
    errors = []
    inputs = [tmp_path / "gone.png", tmp_path / "a.png", np.zeros((4, 4), np.float32), np.zeros((4, 4), np.uint8)]
    images = list(read_images(inputs, on_error=errors.append))
    assert [x.file_name for x in images] == [str(tmp_path / "a.png"), None]
    assert "gone.png" in str(errors[0]) and "input 3" in str(errors[1])
