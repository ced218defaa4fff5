import base64
import os
import re

import pytest

from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.errors import InputError
from tsdd_d2.report import render, write_report
from tsdd_d2.report.page import log_link

from .conftest import descriptor, random_run


@pytest.fixture
def report(experiment, tmp_path):
    for name in ("table1", "fig9"):
        render(name, *experiment, str(tmp_path), bootstrap=20)
    return tmp_path


def page(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_holds_everything_and_asks_for_nothing(report):
    text = page(report)
    parts = ("must not be used for diagnosis", "paper, private data", "DeLong", "Holm", "1 h 01 min", "0123456789<")
    assert [x for x in parts if x not in text] == []
    assert text.index('id="table1"') < text.index('id="fig9"') < text.index('id="runs"')
    assert text.count("data:image/webp;base64,") == 1 and "default-src 'none'" in text
    links = re.findall(r'(?:src|href)="(?!data:)([^"]*)"', text)
    assert links and all(x.startswith(("#", "./")) for x in links)
    assert "<script" not in text and "@import" not in text and "url(" not in text


def test_a_file_that_was_not_kept_is_not_linked(report):
    assert 'href="./fig9_p0.2.pdf"' in page(report)
    (report / "fig9_p0.2.pdf").unlink()
    write_report(str(report))
    assert 'href="./fig9_p0.2.pdf"' not in page(report) and 'href="./fig9_p0.2.png"' in page(report)


def test_every_link_to_a_file_leads_somewhere(report):
    files = [x for x in re.findall(r'href="\./([^"]*)"', page(report)) if not x.startswith("runs")]
    assert len(files) > 5 and all(os.path.exists(report / x) for x in files)


def test_missing_and_failed_runs_are_named(report):
    text = page(report)
    missing = text[text.index('<section id="missing">') : text.index('<section id="runs">')]
    assert "2 of 12 planned runs have no figures in all that they belong to" in missing  # fig9 and table1 have the same plan
    entries = re.findall(r"<li>(.*?)</li>", missing, re.DOTALL)
    assert ["RetinaNet" in entries[0], "missing" in entries[0]] == [True, True]
    assert ["Faster R-CNN" in entries[1], "failed" in entries[1], "fold 2" in entries[1]] == [True] * 3
    assert 'href="./runs/failed.txt"' in text


def test_a_part_of_the_page_that_is_older_than_a_run_is_named(report, experiment):
    planned, runs = experiment
    runs.append(random_run("faster_rcnn", 2))
    render("table1", planned, runs, str(report), bootstrap=20)  # and fig9 still says that it failed
    text = " ".join(page(report).split())
    assert "2 of 12 planned runs have no figures" in text and "11 of 12 runs are shown" in text
    assert text.count("but only in fig9: render it again") == 1
    render("fig9", planned, runs, str(report), bootstrap=20)
    assert "1 of 12 planned runs have no figures" in page(report) and "render it again" not in page(report)


def test_what_a_plan_contains_is_text(tmp_path):
    planned = [descriptor("<b>peer</b>", status="<script>alert(1)</script>", log='x"><script>')]
    render("table1", planned, [], str(tmp_path))
    assert "<script" not in page(tmp_path) and "<b>" not in page(tmp_path)


def test_a_notice_stands_at_the_top(report):
    assert "made-up" not in re.sub(r"<style>.*?</style>", "", page(report), flags=re.DOTALL)
    write_report(str(report), "Nothing here is <true>.")
    assert page(report).index("Nothing here is &lt;true&gt;.") < page(report).index("<nav")


def kind_of_webp(text):
    return base64.b64decode(re.search(r"data:image/webp;base64,([^\"]*)", text)[1])[12:16]


def test_wide_figures_are_photographs_in_a_box_that_scrolls(report):
    content = read_json(report / "fig9.json")
    content["figures"][0]["wide"] = True
    write_json(report / "fig9.json", content)
    assert kind_of_webp(page(report)) == b"VP8L"  # lossless
    write_report(str(report))
    assert kind_of_webp(page(report)) == b"VP8 "
    assert re.search(r'<div class="scroll"[^>]*><img src="data:image/webp;base64,', page(report))


def test_a_folder_without_experiments_or_with_damaged_ones(report, tmp_path_factory):
    with pytest.raises(InputError, match="no experiment to report"):
        write_report(str(tmp_path_factory.mktemp("empty")))
    before = page(report)
    os.remove(report / "fig9_p0.2.png")
    with pytest.raises(InputError, match="fig9_p0.2.png.* Render its experiment again"):
        write_report(str(report))
    (report / "fig9.json").write_text("{")
    with pytest.raises(InputError, match="fig9.json is not a JSON file"):
        write_report(str(report))
    assert page(report) == before


@pytest.mark.parametrize(
    "log, link",
    [
        (None, None),
        ("/etc/passwd", None),
        ("../runs/a b/log.txt", "./../runs/a%20b/log.txt"),
        ("javascript:alert(1)", "./javascript%3Aalert%281%29"),
    ],
)
def test_links_to_logs_stay_on_the_disk(log, link):
    assert log_link(log) == link
