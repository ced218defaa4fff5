import base64
import os
import re

import pytest

from tsdd_d2.experiments.catalogue import EXPERIMENTS, View, render
from tsdd_d2.experiments.groups import Entry
from tsdd_d2.experiments.metrics import Bootstrap
from tsdd_d2.experiments.page import FigureFile, write_report
from tsdd_d2.experiments.run import Run

from .conftest import missing, run_of, small_experiment


def sections_of(folder, entries, names=("table1", "fig9"), wide=False):
    sections = []
    for name in names:
        section = render(View(EXPERIMENTS[name], entries, str(folder), bootstrap=Bootstrap(20)))
        if wide and name == "fig9":
            section.figures[:] = [x._replace(wide=True) for x in section.figures]
        section.write(str(folder))
        sections.append(section)
    return sections


def page_of(folder, entries, notice=None, **options):
    path = write_report(sections_of(folder, entries, **options), str(folder), 20, notice)
    with open(path, encoding="utf-8") as file:
        return file.read()


def test_the_page_holds_everything_and_asks_for_nothing(experiment, tmp_path):
    text = page_of(tmp_path, experiment)
    parts = ("must not be used for diagnosis", "paper, private data", "DeLong", "Holm", "1 h 01 min", "0123456789<")
    assert [x for x in parts if x not in text] == []
    assert text.index('id="table1"') < text.index('id="fig9"') < text.index('id="runs"')
    assert text.count("data:image/webp;base64,") == 1 and "default-src 'none'" in text
    links = re.findall(r'(?:src|href)="(?!data:)([^"]*)"', text)
    assert links and all(x.startswith(("#", "./")) for x in links)
    assert "<script" not in text and "@import" not in text and "url(" not in text


def test_every_link_to_a_file_leads_somewhere(experiment, tmp_path):
    files = re.findall(r'href="\./([^"]*)"', page_of(tmp_path, experiment))
    assert {"fig9_p0.2.png", "table1.md", "table1_comparisons.csv"} <= set(files)
    assert all(os.path.exists(tmp_path / x) for x in files)


def test_missing_and_failed_runs_are_named(experiment, tmp_path):
    text = page_of(tmp_path, experiment)
    part = text[text.index('<section id="missing">') : text.index('<section id="runs">')]
    first, second = re.findall(r"<li>(.*?)</li>", part, re.DOTALL)
    assert "RetinaNet" in first and "missing" in first
    assert "Faster R-CNN" in second and "failed" in second and "fold 2" in second


def test_logs_are_linked_where_page_and_runs_stay_together(tmp_path):
    runs = [run_of("retinanet", fold)._replace(output=str(tmp_path / "a b")) for fold in (1, 2)]
    os.makedirs(runs[0].folder)
    open(runs[0].log, "w").close()
    entries = [Entry(x, "failed", None, 0.5) for x in runs]
    text = page_of(tmp_path, entries, names=["table1"])
    assert re.findall(r'href="(\./[^"]*console.log)"', text) == [f"./a%20b/{runs[0].id}/console.log"]
    assert "console.log" not in page_of(tmp_path / "elsewhere", entries, names=["table1"])


def test_what_a_plan_contains_is_text(tmp_path):
    entries = [Entry(Run("/x", "<b>peer</b>", "d", "cpu", 1, 0.2, 0), "<script>alert(1)</script>", None, 0.5)]
    text = page_of(tmp_path, entries, names=["table1"])
    assert "<script" not in text and "<b>" not in text


def test_a_notice_stands_at_the_top(tmp_path):
    text = page_of(tmp_path, [missing("retinanet")], "Nothing here is <true>.", names=["table1"])
    assert text.index("Nothing here is &lt;true&gt;.") < text.index("<nav")


def kind_of_webp(text):
    return base64.b64decode(re.search(r"data:image/webp;base64,([^\"]*)", text)[1])[12:16]


def test_wide_figures_are_photographs_in_a_box_that_scrolls(tmp_path):
    entries = small_experiment()
    assert kind_of_webp(page_of(tmp_path, entries, names=["fig9"])) == b"VP8L"  # lossless
    text = page_of(tmp_path, entries, names=["fig9"], wide=True)
    assert kind_of_webp(text) == b"VP8 "
    assert re.search(r'<div class="scroll"[^>]*><img src="data:image/webp;base64,', text)


def test_a_figure_that_is_gone_leaves_the_page_as_it_was(experiment, tmp_path):
    before = page_of(tmp_path, experiment, names=["table1"])
    (section,) = sections_of(tmp_path, experiment, names=["table1"])
    section.figures.append(FigureFile("gone", "A figure."))
    with pytest.raises(FileNotFoundError, match="gone.png"):
        write_report([section], str(tmp_path), 20)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before
