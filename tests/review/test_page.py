import io
import os
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from tsdd_d2.errors import InputError
from tsdd_d2.refinement import apply_vetoes
from tsdd_d2.review import write_review_page
from tsdd_d2.review.page import MAX_THUMBNAIL_BYTES, run_fingerprint, thumbnail

from ..conftest import ROOT
from ..refinement.test_rounds import bbui, image, roi


@pytest.fixture
def reviewed(tmp_path):
    """The rounds of a run, and the folder of its images: a refined ROI, a pseudo ROI and a manual one."""
    images = [image(1, 2), image(2, 1), image(3, 1)]
    start = bbui(images, [roi(1, 1, 2, [10, 10, 20, 20]), roi(3, 3, 1, [5, 5, 10, 10])])
    made = {"roi_round": 1, "roi_score": 0.9}
    refined = roi(1, 1, 2, [12, 10, 20, 20], roi_source="refined", manual_bbox=[10, 10, 20, 20], **made)
    pseudo = roi(4, 2, 1, [30, 20, 30, 30], roi_source="pseudo", **made)
    for number in (1, 2, 3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((80, 100, 3), 60 * number, np.uint8))
    return [start, bbui(images, [{**refined, "roi_score_before": 0.5}, start["annotations"][1], pseudo])], tmp_path


def test_the_page_holds_everything_and_asks_for_nothing(reviewed):
    rounds, root = reviewed
    counts = write_review_page(str(root / "review.html"), rounds, "clinic_train", str(root))
    text = (root / "review.html").read_text(encoding="utf-8")
    assert counts == (1, 1, (root / "review.html").stat().st_size)
    assert text.count("data:image/jpeg;base64,") == 2 and "2.png" in text and "3.png" not in text
    assert "0.50 → 0.90 (gain +0.40)" in text and "drift 0.18" in text  # overlap 18 x 20 of 440
    assert not re.search(r"""(src|href)="(?!data:)""", text) and "default-src 'none'" in text


def test_what_a_file_name_or_patient_contains_is_text(reviewed):
    rounds, root = reviewed
    name = "a'<b>\"&.png"
    (root / "1.png").rename(root / name)
    for bbui_ in rounds:
        bbui_["images"] = [
            {**x, "file_name": name, "patient_id": "<script>"} if x["id"] == 1 else x for x in bbui_["images"]
        ]
    write_review_page(str(root / "review.html"), rounds, "clinic_train", str(root))
    text = (root / "review.html").read_text(encoding="utf-8")
    assert text.count("<script>") == 1 and "<b>" not in text


def test_nothing_to_review(reviewed):
    rounds, root = reviewed
    with pytest.raises(InputError, match="after round 0 all ROIs of clinic_train are the manual ones"):
        write_review_page(str(root / "review.html"), rounds[:1], "clinic_train", str(root))
    assert not (root / "review.html").exists()


@pytest.mark.parametrize("content", [None, b"no image"])
def test_an_image_that_cannot_be_read(reviewed, content):
    rounds, root = reviewed
    (root / "1.png").unlink() if content is None else (root / "1.png").write_bytes(content)
    with pytest.raises(InputError, match=r"1\.png"):
        write_review_page(str(root / "review.html"), rounds, "clinic_train", str(root))
    assert not (root / "review.html").exists()


def test_thumbnails_are_small_whatever_the_image_is(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (600, 1200), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), noise)
    jpeg = thumbnail(str(tmp_path / "noise.png"))
    assert len(jpeg) <= MAX_THUMBNAIL_BYTES
    assert Image.open(io.BytesIO(jpeg)).size == (480, 240) and Image.open(io.BytesIO(jpeg)).mode == "L"


def test_other_rois_have_another_fingerprint(reviewed):
    (start, last), _ = reviewed
    fingerprint = run_fingerprint(last, "clinic_train")
    assert re.fullmatch("[0-9a-f]{16}", fingerprint) and fingerprint == run_fingerprint(last, "clinic_train")
    assert len({fingerprint, run_fingerprint(start, "clinic_train"), run_fingerprint(last, "other")}) == 3


def test_vetoes_that_the_run_was_given_go_into_the_next_file(reviewed):
    rounds, root = reviewed
    entry = {"image_id": 3, "file_name": "3.png", "annotation_id": 3, "roi_source": "refined"}
    rounds = [apply_vetoes(bbui_, [entry]) for bbui_ in rounds]
    write_review_page(str(root / "review.html"), rounds, "clinic_train", str(root))
    assert '"file_name": "3.png"' in (root / "review.html").read_text(encoding="utf-8")


def test_the_templates_are_part_of_the_package(tmp_path):
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert set(os.listdir(tmp_path / "tsdd_d2" / "review" / "templates")) == {"page.html", "page.css", "page.js"}
    assert set(os.listdir(tmp_path / "tsdd_d2" / "experiments" / "templates")) == {"report.html", "report.css"}
