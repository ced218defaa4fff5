import os
import re

import pytest

from tsdd_d2.data.files import read_json
from tsdd_d2.errors import InputError
from tsdd_d2.experiments import EXPERIMENTS as PLANNED
from tsdd_d2.report import EXPERIMENTS, render

from .conftest import descriptor, prediction, random_run, run

FIGURES = {"roc": ["roc_p0.2", "calibration_p0.2"], "fig9": ["fig9_p0.2"]}


def test_what_is_planned_can_be_drawn():
    assert list(EXPERIMENTS) == list(PLANNED)


@pytest.mark.parametrize("name", [x for x in EXPERIMENTS if x not in ("fig6", "fig8")])
def test_files_of_an_experiment(name, experiment, tmp_path):
    assert render(name, *experiment, str(tmp_path), bootstrap=20) == str(tmp_path / "report.html")
    expected = {f"{name}.json", "report.html"} | {f"{name}.{x}" for x in ("md", "tex", "csv")}
    if name.startswith("table"):
        expected |= {f"{name}_comparisons.{x}" for x in ("md", "tex", "csv")}
    if name == "table2":  # of its four methods the plan has two
        expected |= {f"table2_gains.{x}" for x in ("md", "tex", "csv")}
    expected |= {f"{figure}.{x}" for figure in FIGURES.get(name, []) for x in ("png", "pdf")}
    assert set(os.listdir(tmp_path)) == expected


def test_the_same_predictions_give_the_same_files(experiment, tmp_path):
    for folder in ("a", "b"):
        render("roc", *experiment, str(tmp_path / folder), bootstrap=20)
    for name in os.listdir(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_table1_compares_ours_with_every_method_that_has_a_common_fold(experiment, tmp_path):
    planned, runs = experiment
    planned = [*planned, descriptor("stac", 1, status="missing", log=None)]
    render("table1", planned, runs, str(tmp_path), bootstrap=20)
    results, comparisons = read_json(tmp_path / "table1.json")["tables"]
    rows = {row["method"]: row for row in results["rows"]}
    assert rows["STAC"]["AUC"] == "missing" and rows["STAC [paper, private data]"]["accuracy (%)"] == "82.42 ± 1.70"
    assert rows["Faster R-CNN"]["folds"] == "1 of 2 folds" and rows["TSDDNet"]["folds"] == "2 folds"
    assert [(row["methods"], row["folds"]) for row in comparisons["rows"]] == [
        ("TSDDNet – RetinaNet", "1"), ("TSDDNet – Faster R-CNN", "1"), ("TSDDNet – TSDDNet-B+SD", "1, 2")
    ]  # fmt: skip


def test_a_table_tells_the_auc_fold_by_fold(experiment, tmp_path):
    render("table2", *experiment, str(tmp_path), bootstrap=20)
    notes = read_json(tmp_path / "table2.json")["tables"][0]["notes"]
    (note,) = [x for x in notes if x.startswith("AUC, fold by fold: ")]
    assert re.fullmatch(
        r".*: TSDDNet-B\+SD \(p = 0\.2\) 1: 0\.\d{3}, 2: 0\.\d{3}; TSDDNet \(p = 0\.2\) 1: 0\.\d{3}, 2: 0\.\d{3}\.", note
    )


def test_a_fold_of_one_class_has_no_auc(tmp_path):
    methods = ("tsdd_b", "tsdd_b_cs", "tsdd_b_sd", "tsddnet")
    of_one_class = [run(method, [0.1, 0.7], [0, 0], 2, stage=2) for method in methods]
    of_both = [random_run(method, stage=2) for method in methods]
    for folder, runs in (("one", of_one_class), (".", of_one_class + of_both)):
        for name in ("table2", "roc"):
            render(name, runs, runs, str(tmp_path / folder), bootstrap=20)
        files = [x for x in (tmp_path / folder).iterdir() if x.suffix in (".md", ".tex", ".html")]
        texts = [re.sub('base64,[^"]*', "", x.read_text()) for x in files]
        assert len(texts) == 9 and not any(re.search(r"\bnan\b", x) for x in texts)
    notes = read_json(tmp_path / "table2.json")["tables"][0]["notes"]
    assert any(re.match(r"AUC, fold by fold: .*TSDDNet \(p = 0\.2\) 1: 0\.\d{3}, 2: –\.", x) for x in notes)


def test_table1_says_who_sees_fewer_rois_than_in_the_paper(experiment, tmp_path):
    render("table1", *experiment, str(tmp_path), bootstrap=20)
    results, _ = read_json(tmp_path / "table1.json")["tables"]
    assert results["notes"][-1].startswith("RetinaNet, Faster R-CNN: trained on fa images only, so that at p < 1.0")
    runs = [random_run(x, p=1.0) for x in ("retinanet", "cnet_oracle")]
    render("table1", runs, runs, str(tmp_path), bootstrap=20)
    (results,) = read_json(tmp_path / "table1.json")["tables"]
    assert len(results["notes"]) == 1


def test_external_validation_has_a_table_of_its_own(experiment, tmp_path):
    planned, runs = experiment
    for content in (*runs[:2], runs[2]):  # TSDDNet on both folds, TSDDNet-B+SD on the first
        content["predictions"]["clinic_all"] = [
            prediction(i, label, malignancy) for i, (label, malignancy) in enumerate([(0, 0.1), (0, 0.2), (1, 0.9)])
        ]
    render("table1", planned, runs, str(tmp_path), bootstrap=20)
    external = read_json(tmp_path / "table1.json")["tables"][2]
    rows = {row["method"]: (row["AUC"], row["folds"]) for row in external["rows"]}
    assert rows["TSDDNet"] == ("1.000 ± 0.000 (1.000–1.000)", "2 folds") and rows["RetinaNet"][0] == "missing"
    assert rows["TSDDNet-B+SD"] == ("1.000 (1.000–1.000)", "1 of 2 folds")
    assert (tmp_path / "table1_on_clinic_all.csv").exists()


def test_external_validation_has_curves_of_its_own(tmp_path):
    runs = [random_run("retinanet", fold) for fold in (1, 2)]
    for content in runs:
        diagnoses = enumerate([(0, 0.1), (0, 0.2), (1, 0.9)])
        content["predictions"]["clinic_all"] = [prediction(i, label, x) for i, (label, x) in diagnoses]
    render("roc", runs, runs, str(tmp_path), bootstrap=20)
    content = read_json(tmp_path / "roc.json")
    assert [x["name"] for x in content["figures"]] == [
        "roc_p0.2", "calibration_p0.2", "roc_p0.2_on_clinic_all", "calibration_p0.2_on_clinic_all"
    ]  # fmt: skip
    assert "external validation on clinic_all" in content["figures"][2]["caption"]
    external = content["tables"][1]["rows"][0]
    assert external["AUC"].startswith("1.000") and external["Brier score"].startswith("0.020")  # (0.01 + 0.04 + 0.01) / 3


def test_several_seeds_are_said_where_one_counts(tmp_path):
    for seeds, said in (((0,), False), ((0, 1), True)):
        runs = [random_run(x, seed=seed) for x in ("tsddnet", "retinanet") for seed in seeds]
        runs = [{**x, "stage": 2 if x["method"] == "tsddnet" else None} for x in runs]
        render("table1", runs, runs, str(tmp_path), bootstrap=20)
        assert ("the first that both" in read_json(tmp_path / "table1.json")["tables"][1]["caption"]) == said


def test_each_p_has_its_own_figure(tmp_path):
    runs = [random_run("retinanet", p=p) for p in (0.2, 1.0)]
    render("roc", runs, runs, str(tmp_path), bootstrap=20)
    assert [x["name"] for x in read_json(tmp_path / "roc.json")["figures"]] == [
        "roc_p0.2", "calibration_p0.2", "roc_p1.0", "calibration_p1.0"
    ]  # fmt: skip


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_nothing_finished_yet(name, tmp_path):
    planned = [descriptor("tsddnet", stage=stage, status="missing", log=None) for stage in (1, 2)]
    render(name, planned, [], str(tmp_path))
    content = read_json(tmp_path / f"{name}.json")
    assert content["figures"] == [] and [x["status"] for x in content["runs"]] == ["missing"] * 2


def test_a_class_that_is_absent_leaves_dashes(tmp_path):
    content = run("retinanet", [0.2, 0.7], [0, 0])
    for name in ("table1", "roc"):
        render(name, [content], [content], str(tmp_path), bootstrap=20)
    row = next(x for x in read_json(tmp_path / "table1.json")["tables"][0]["rows"] if x["method"] == "RetinaNet")
    assert row["sensitivity (%)"] == row["AUC"] == "–" and row["specificity (%)"].startswith("50.0")


@pytest.mark.parametrize("name, number", [("fig6", "Fig. 6"), ("fig8", "Fig. 8")])
def test_a_gallery_finds_the_images_of_the_data_set(name, number, tiny_environment, tmp_path):
    def content(method, malignancies):
        # patients 10 to 13 of the tiny data set, see tests/conftest.py: ids 21 to 28, odd patients malignant
        predictions = [
            prediction(i, (i - 1) // 2 % 2, x, f"p{(i - 1) // 2}") for i, x in zip(range(21, 29), malignancies)
        ]
        return {**run(method, [], []), "predictions": {"tiny_fold1_test": predictions}}

    runs = [content("retinanet", [0.1] * 8), content("tsddnet", [0.2, 0.7] * 4)]
    planned = [*runs, descriptor("faster_rcnn", status="failed", log=None)]
    render(name, planned, runs, str(tmp_path))
    (figure,) = read_json(tmp_path / f"{name}.json")["figures"]
    assert figure["wide"] and figure["caption"].startswith(f"{number}, p = 0.2 (")
    assert "Not finished: Faster R-CNN" in figure["caption"] and "fold 1" in figure["caption"]
    assert (tmp_path / f"{name}_p0.2.png").stat().st_size > 10_000


def test_a_gallery_without_the_images(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    content = random_run("retinanet")
    with pytest.raises(InputError, match="tiny_fold1_test.* is not there"):
        render("fig6", [content], [content], str(tmp_path / "report"))
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("name, words", [("table4", "one of table1, table2"), ("fig9", "the plan has none of them")])
def test_experiments_that_cannot_be_rendered(name, words, tmp_path):
    with pytest.raises(InputError, match=words):
        render(name, [random_run("retinanet")], [], str(tmp_path))
