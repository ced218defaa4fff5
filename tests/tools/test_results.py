"""From the folder of a run to the tables of README.md and results/README.md."""

import os
import runpy

import pytest
import yaml

from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.evaluation.tables import results_table

from ..conftest import ROOT

collect = runpy.run_path(os.path.join(ROOT, "tools", "collect_results.py"))["main"]
update = runpy.run_path(os.path.join(ROOT, "tools", "update_readme.py"))["main"]


def annotation(number, image, bbox, **fields):
    return {"id": number, "image_id": image, "category_id": 1, "bbox": bbox, **fields}


def results_of(share, auc):
    """What the evaluators return, as far as the tables show it; the oracle has no localisation."""
    localisation = {"share_iou50": share, "share_iou50_low": 0.5, "share_iou50_high": 1.0, "mean_iou": 0.7}
    diagnosis = {"AUC": auc, "accuracy": 0.8, "sensitivity": 0.9, "specificity": 0.6}
    found = {"localisation": localisation, "diagnosis": diagnosis, "diagnosis_patient": {"AUC": auc + 0.01}}
    oracle = {"diagnosis": {**diagnosis, "AUC": 0.89}, "diagnosis_patient": {"AUC": 0.9}}
    return {"tiny_fold1_test": {"found box": found, "manual ROI": oracle}}


@pytest.fixture
def run(tmp_path):
    """One round on three images; the first two have a coarse box, half and a quarter of the true one."""
    run = tmp_path / "run"
    images = [{"id": i, "true_bbox": [0, 0, 10, 10]} for i in (1, 2, 3)]
    coarse = [annotation(1, 1, [0, 0, 10, 5]), annotation(2, 2, [5, 5, 5, 5], roi_source="manual")]
    write_json(run / "rois" / "round_00.json", {"images": images, "annotations": coarse})
    statistics = {"replaced_fa": 1, "replaced_pa": 1, "score_before": 0.6, "score_after": 0.7}
    statistics.update(iou_with_manual=0.75, iou_with_true_fa=0.625, iou_with_true_pa=0.8)
    info = {"description": "phantom", "round": 1, "statistics": statistics}
    write_json(run / "rois" / "round_01.json", {"info": info, "images": images, "annotations": coarse})
    write_json(run / "results.json", {"round 0": results_of(0.7, 0.75), "last round": results_of(0.9, 0.875)})
    config = {
        "DATASETS": {"TRAIN": ["tiny_fold1_train"], "P": 0.5},
        "REFINEMENT": {"ENABLED": True, "WARMUP_ITER": 5, "ROUNDS": 1, "RULE": "class_guided"},
        "SEED": 3,
        "SOLVER": {"MAX_ITER": 20},
    }
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    log = "[01/01] detectron2 INFO: Contents of args.config_file=/home/me/tiny.yaml:\nSEED: 3\n"
    (run / "log.txt").write_text(log)
    return run


@pytest.fixture
def results(run, tmp_path):
    """A results folder with the run, a comparison of rankings and a rendered experiment."""
    assert collect(["--run", str(run), "--output", str(tmp_path / "results" / "tiny.json")]) == 0
    rankings = {"dataset": "tiny_fold1_val", "iterations": 8, "images": 4}
    rankings["quality"] = {"IoU >= 0.5": 0.75, "mean IoU": 0.6}
    rankings["consensus"] = {"IoU >= 0.5": 0.5, "mean IoU": 0.25}
    write_json(tmp_path / "results" / "rankings.json", rankings)
    tables = [{"name": x, "caption": f"{x}.", "rows": [{"method": x, "p": "0.20"}], "notes": []} for x in ("I", "II")]
    write_json(tmp_path / "results" / "table1.json", {"title": "Table I", "tables": tables})
    return tmp_path / "results"


def write_readme(tmp_path, text):
    (tmp_path / "README.md").write_text(text)
    return ["--readme", str(tmp_path / "README.md"), "--results", str(tmp_path / "results")]


def table(*rows):
    """A Markdown table without the blanks that only align it."""
    return [[cell.strip() for cell in row[1:-1].split("|")] for row in rows]


def test_collected_run(run, results):
    content = read_json(results / "tiny.json")
    assert content["run"] == {
        "config_file": "tiny.yaml",
        "dataset": "tiny_fold1_train",
        "p": 0.5,
        "seed": 3,
        "iterations": 20,
        "warmup_iterations": 5,
        "rounds": 1,
        "rule": "class_guided",
    }
    assert content["results"] == read_json(run / "results.json")
    start, first = content["rounds"]
    assert start == {"round": 0, "iou_with_true_fa": pytest.approx((0.5 + 0.25) / 2)}
    assert first == {"round": 1, **read_json(run / "rois" / "round_01.json")["info"]["statistics"]}


def test_without_true_boxes_the_start_has_no_overlap(run, tmp_path):
    bbui = read_json(run / "rois" / "round_00.json")
    bbui["images"] = [{"id": image["id"]} for image in bbui["images"]]
    write_json(run / "rois" / "round_00.json", bbui)
    assert collect(["--run", str(run), "--output", str(tmp_path / "tiny.json")]) == 0
    assert read_json(tmp_path / "tiny.json")["rounds"][0] == {"round": 0}


@pytest.mark.parametrize(
    "missing, words",
    [
        ("config.yaml", "no config.yaml"),
        ("results.json", "lacks results.json"),
        ("rois/round_01.json", "lacks round 1"),
        ("rois/round_00.json", "no rois/round_00.json"),
    ],
)
def test_an_unfinished_run_is_refused(missing, words, run, tmp_path, capsys):
    (run / missing).unlink()
    assert collect(["--run", str(run), "--output", str(tmp_path / "tiny.json")]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "tiny.json").exists()


def test_tables_between_the_markers(results, tmp_path):
    arguments = write_readme(
        tmp_path,
        "Before.\n<!-- table: tiny -->\nold\n<!-- end of table -->\nBetween.\n"
        "<!-- table: tiny rounds -->\n<!-- end of table -->\n\n"
        "<!-- table: rankings -->\n| old |\n<!-- end of table -->\nAfter.\n",
    )
    assert update(arguments) == 0
    lines = (tmp_path / "README.md").read_text().split("\n")
    assert [line for line in lines if line and not line.startswith("|")] == [
        "Before.",
        "<!-- table: tiny -->",
        "<!-- end of table -->",
        "Between.",
        "<!-- table: tiny rounds -->",
        "<!-- end of table -->",
        "<!-- table: rankings -->",
        "<!-- end of table -->",
        "After.",
    ]
    rows = table(*(line for line in lines if line.startswith("|") and not line.startswith("|:")))
    assert rows == table(
        # no data set, of which there is one, and no true box
        "|weights|box|IoU >= 0.5|mean IoU|AUC|sensitivity|specificity|patient AUC|",
        "|round 0|found box|0.700 (0.500–1.000)|0.700|0.750|0.900|0.600|0.760|",
        "|round 0|manual ROI|||0.890|0.900|0.600|0.900|",
        "|last round|found box|0.900 (0.500–1.000)|0.700|0.875|0.900|0.600|0.885|",
        "|last round|manual ROI|||0.890|0.900|0.600|0.900|",
        "|round|replaced, fa|replaced, pa|mean IoU with manual box, fa|mean IoU with true box, fa"
        "|mean IoU with true box, pa|",
        "|0||||0.375||",
        "|1|1|1|0.750|0.625|0.800|",
        "|ranking|IoU >= 0.5|mean IoU|",
        "|quality|0.750|0.600|",
        "|consensus|0.500|0.250|",
    )


def test_one_table_to_the_letter(results, tmp_path):
    update(write_readme(tmp_path, "<!-- table: rankings -->\n<!-- end of table -->\n"))
    assert (tmp_path / "README.md").read_text() == (
        "<!-- table: rankings -->\n"
        "\n"
        "| ranking   | IoU >= 0.5   | mean IoU   |\n"
        "|:----------|:-------------|:-----------|\n"
        "| quality   | 0.750        | 0.600      |\n"
        "| consensus | 0.500        | 0.250      |\n"
        "\n"
        "<!-- end of table -->\n"
    )


@pytest.mark.parametrize("undefined", [None, float("nan")])
def test_a_figure_that_is_not_defined_is_left_out(undefined):
    """The AUC of a test set of one class: nan of the evaluators, null in results.json."""
    diagnosis = {"AUC": undefined, "AUC_low": undefined, "AUC_high": undefined, "accuracy": 1.0}
    table = results_table({"last round": {"tiny_fold1_test": {"found box": {"diagnosis": diagnosis}}}})
    assert "AUC" not in table and "–" not in table and "1.000" in table


def test_tables_of_an_experiment(results, tmp_path):
    update(write_readme(tmp_path, "<!-- table: table1 -->\n<!-- end of table -->\n"))
    table = "\n\n| method   | p    |\n|:---------|:-----|\n| {:8} | 0.20 |\n\n"
    expected = "".join(f"{x}.{table.format(x)}" for x in ("I", "II"))
    assert (tmp_path / "README.md").read_text() == f"<!-- table: table1 -->\n\n{expected}<!-- end of table -->\n"


def test_short_table_of_an_experiment(results, tmp_path):
    """Our own methods alone, in the columns that a small table has room for."""
    ours = {"method": "TSDDNet", "p": "0.2", "accuracy (%)": "82.8", "sensitivity (%)": "69.1", "YI (%)": "58.5"}
    rows = [{**ours, "AUC": "0.886", "folds": "4 folds"}]
    rows.append({**rows[0], "method": "TSDDNet [paper, private data]", "AUC": "0.928"})
    tables = [{"name": x, "caption": f"{x}.", "rows": rows, "notes": []} for x in ("I", "II")]
    write_json(results / "table1.json", {"title": "Table I", "tables": tables})
    assert update(write_readme(tmp_path, "<!-- table: table1 short -->\n<!-- end of table -->\n")) == 0
    lines = (tmp_path / "README.md").read_text().splitlines()
    assert table(*(line for line in lines if line.startswith("| "))) == table(
        "|method|p|AUC|accuracy (%)|YI (%)|folds|", "|TSDDNet|0.2|0.886|82.8|58.5|4 folds|"
    )
    assert not any("II." in line for line in lines)


def test_several_pages_in_one_call(results, tmp_path, capsys):
    arguments = write_readme(tmp_path, "<!-- table: table1 -->\n<!-- end of table -->\n")
    second = tmp_path / "second.md"
    second.write_text("<!-- table: tiny -->\n<!-- end of table -->\n")
    arguments.insert(2, str(second))
    assert update([*arguments, "--check"]) == 1
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == arguments[1:3]
    assert update(arguments) == 0 and update([*arguments, "--check"]) == 0
    assert all("|:--" in page.read_text() for page in (tmp_path / "README.md", second))
    # of the pages none is written if one cannot be
    before = "<!-- table: tiny -->\n<!-- end of table -->\n"
    (tmp_path / "README.md").write_text(before)
    second.write_text("<!-- table: none -->\n<!-- end of table -->\n")
    assert update(arguments) == 2 and (tmp_path / "README.md").read_text() == before


def test_check_tells_an_old_table_and_writes_nothing(results, tmp_path, capsys):
    old = "<!-- table: tiny -->\n<!-- end of table -->\n"
    arguments = write_readme(tmp_path, old)
    assert update([*arguments, "--check"]) == 1
    assert "not up to date" in capsys.readouterr().err and (tmp_path / "README.md").read_text() == old
    assert update(arguments) == 0
    assert update([*arguments, "--check"]) == 0
    content = read_json(results / "tiny.json")
    content["results"]["last round"]["tiny_fold1_test"]["found box"]["diagnosis"]["AUC"] = 0.876
    write_json(results / "tiny.json", content)
    assert update([*arguments, "--check"]) == 1


@pytest.mark.parametrize(
    "text, words",
    [
        ("<!-- table: none -->\n<!-- end of table -->\n", "none.json, which a marker names, does not exist"),
        ("<!-- table: rankings rounds -->\n<!-- end of table -->\n", "rankings.json holds no rounds"),
        ("<!-- table: tiny short -->\n<!-- end of table -->\n", "tiny.json holds no table of methods"),
        ("<!-- table: plain -->\n<!-- end of table -->\n", "plain.json holds no results"),
        ("<!-- table: tiny -->\n", "is followed by no other marker"),
        ("<!-- end of table -->\n", "is followed by no other marker"),
        (
            "<!-- table: tiny -->\n<!-- table: tiny -->\n<!-- end of table -->\n",
            "followed by <!-- table: tiny",
        ),
        ("<!-- table: tiny of -->\n<!-- end of table -->\n", "A table has two markers"),
    ],
)
def test_markers_that_cannot_be_filled_are_refused(text, words, results, tmp_path, capsys):
    write_json(results / "plain.json", results_of(0.5, 0.5))
    arguments = write_readme(tmp_path, "<!-- table: tiny -->\n<!-- end of table -->\n" + text)
    before = (tmp_path / "README.md").read_text()
    assert update(arguments) == 2
    assert words in capsys.readouterr().err and (tmp_path / "README.md").read_text() == before


def test_the_pages_show_the_results_of_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert update(["--check"]) == 0
