import os
import re

import pytest

from tsdd_d2.data.files import read_json
from tsdd_d2.errors import InputError
from tsdd_d2.experiments.catalogue import EXPERIMENTS, View, render
from tsdd_d2.experiments.groups import in_order
from tsdd_d2.experiments.metrics import Bootstrap

from .conftest import entry, missing, prediction, random_entry

FIGURES = {"roc": ["roc_p0.2", "calibration_p0.2"], "fig9": ["fig9_p0.2"]}


def section_of(name, entries, folder, **options):
    return render(View(EXPERIMENTS[name], in_order(entries), str(folder), bootstrap=Bootstrap(20), **options))


def rows_of(table, key="method"):
    return {row[key]: row for row in table.rows}


@pytest.mark.parametrize("name", [x for x in EXPERIMENTS if x not in ("fig6", "fig8")])
def test_files_of_an_experiment(name, experiment, tmp_path):
    also = ("tex", "pdf", "json")
    section_of(name, experiment, tmp_path, pdf=True).write(str(tmp_path), also)
    tables = {name}
    if name.startswith("table"):
        tables.add(f"{name}_comparisons")
    if name.startswith("table2"):  # of its four methods the plan has two
        tables.add(f"{name}_gains")
    expected = {f"{name}.md", f"{name}.json"} | {f"{table}.{x}" for table in tables for x in ("csv", "tex")}
    expected |= {f"{figure}.{x}" for figure in FIGURES.get(name, []) for x in ("png", "pdf")}
    assert set(os.listdir(tmp_path)) == expected
    content = read_json(tmp_path / f"{name}.json")
    assert {x["name"] for x in content["tables"]} == tables and len(content["runs"]) == len(experiment)


def test_the_same_predictions_give_the_same_files(experiment, tmp_path):
    for folder in ("a", "b"):
        section_of("roc", experiment, tmp_path / folder, pdf=True).write(str(tmp_path / folder))
    assert set(os.listdir(tmp_path / "a")) >= {"roc.md", "roc.csv", "roc_p0.2.png", "roc_p0.2.pdf"}
    for name in os.listdir(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_table1_compares_ours_with_every_method_that_has_a_common_fold(experiment, tmp_path):
    section = section_of("table1", [*experiment, missing("stac"), random_entry("peer", 3)], tmp_path)
    results, comparisons = section.tables
    rows = rows_of(results)
    assert rows["STAC"]["AUC"] == "missing" and rows["STAC [paper, private data]"]["accuracy (%)"] == "82.42 ± 1.70"
    assert rows["Faster R-CNN"]["folds"] == "1 of 2 folds" and rows["TSDDNet"]["folds"] == "2 folds"
    compared = rows_of(comparisons, "methods")
    assert compared["TSDDNet – RetinaNet"]["folds"] == "1" and compared["TSDDNet – TSDDNet-B+SD"]["folds"] == "1, 2"
    assert "TSDDNet – peer" not in compared


def test_a_table_tells_the_auc_fold_by_fold(experiment, tmp_path):
    notes = section_of("table2", experiment, tmp_path).tables[0].notes
    assert any(re.search(r"TSDDNet \(p = 0\.2\) 1: 0\.\d{3}, 2: 0\.\d{3}", note) for note in notes)


def test_a_fold_of_one_class_has_no_auc(tmp_path):
    methods = ("tsdd_b", "tsdd_b_cs", "tsdd_b_sd", "tsddnet")
    of_one_class = [entry(method, [0.1, 0.7], [0, 0], 2) for method in methods]
    for entries in (of_one_class, of_one_class + [random_entry(method) for method in methods]):
        for name in ("table2", "roc"):
            for table in section_of(name, entries, tmp_path).tables:
                assert not re.search(r"\bnan\b", table.markdown + table.latex)


def test_table1_says_who_sees_fewer_rois_than_in_the_paper(experiment, tmp_path):
    note = section_of("table1", experiment, tmp_path).tables[0].notes[-1]
    assert note.startswith("RetinaNet, Faster R-CNN: ")
    entries = [random_entry(x, p=1.0) for x in ("retinanet", "cnet_oracle")]
    (results,) = section_of("table1", entries, tmp_path).tables
    assert not any(x.startswith("RetinaNet") for x in results.notes)


def test_table1_says_what_trains_longer(experiment, tmp_path):
    for yolo, noted in ((missing("yolov7"), False), (random_entry("yolov7"), True)):
        notes = section_of("table1", [*experiment, yolo], tmp_path).tables[0].notes
        assert any(x.startswith("YOLOv7 has no pretrained weights") for x in notes) == noted


def with_external(*entries):
    diagnoses = [(0, 0.1), (0, 0.2), (1, 0.9)]
    for x in entries:
        x.result.predictions["clinic_all"] = [prediction(i, label, y) for i, (label, y) in enumerate(diagnoses)]
    return list(entries)


def test_external_validation_has_a_table_of_its_own(experiment, tmp_path):
    with_external(*(x for x in experiment if x.run.method == "tsddnet" or (x.run.method, x.run.fold) == ("tsdd_b_sd", 1)))
    (external,) = (x for x in section_of("table1", experiment, tmp_path).tables if x.name == "table1_on_clinic_all")
    rows = {name: (row["AUC"], row["folds"]) for name, row in rows_of(external).items()}
    assert rows["TSDDNet"] == ("1.000 ± 0.000 (1.000–1.000)", "2 folds") and rows["RetinaNet"][0] == "missing"
    assert rows["TSDDNet-B+SD"] == ("1.000 (1.000–1.000)", "1 of 2 folds")


def test_external_validation_has_curves_of_its_own(tmp_path):
    section = section_of("roc", with_external(random_entry("retinanet", 1), random_entry("retinanet", 2)), tmp_path)
    assert [x.name for x in section.figures] == [
        "roc_p0.2", "calibration_p0.2", "roc_p0.2_on_clinic_all", "calibration_p0.2_on_clinic_all"
    ]  # fmt: skip
    external = section.tables[1].rows[0]
    assert external["AUC"].startswith("1.000") and external["Brier score"].startswith("0.020")  # (0.01 + 0.04 + 0.01) / 3


def test_the_operating_point_is_that_of_the_validation_images(tmp_path):
    entry = random_entry("retinanet", 1)
    malignant = sorted(x["malignancy"] for x in entry.result.predictions[entry.run.split("test")] if x["label"] == 1)
    at = entry._replace(result=entry.result._replace(youden_threshold=malignant[1]))  # one is missed
    row = section_of("roc", [at], tmp_path).tables[0].rows[0]
    assert row["sensitivity*"].startswith(f"{1 - 1 / len(malignant):.3f}")
    unknown = entry._replace(result=entry.result._replace(youden_threshold=None))
    assert section_of("roc", [unknown], tmp_path).tables[0].rows[0]["sensitivity*"] == "–"


def test_several_seeds_are_said_where_one_counts(tmp_path):
    for seeds, said in (((0,), False), ((0, 1), True)):
        entries = [random_entry(x, seed=seed) for x in ("tsddnet", "retinanet") for seed in seeds]
        assert ("several seeds" in section_of("table1", entries, tmp_path).tables[1].caption) == said


def test_what_unlabelled_images_give_a_detector(tmp_path):
    labelled, more = (entry("faster_rcnn", [0.9, 0.1, 0.2, 0.8], [0, 0, 1, 1], seed=s) for s in (0, 1))
    teacher = entry("stac", [0.2, 0.1, 0.7, 0.8], [0, 0, 1, 1])
    series = {"images": [[19, 0.5], [39, 1.0]]}  # what is right is not known where nothing is withheld
    teacher = teacher._replace(result=teacher.result._replace(pseudo_boxes=series))
    section = section_of("teachers", [labelled, more, teacher, missing("soft_teacher")], tmp_path)
    rows = section.tables[0].rows
    assert [x["method"] for x in rows] == ["Faster R-CNN", "STAC", "difference", "Soft Teacher"]
    assert [x["AUC"].split(" ")[0] for x in rows] == ["0.500", "1.000", "+0.500", "missing"]
    assert rows[2]["accuracy (%)"].startswith("+50.0") and rows[0]["runs"] == "2 of 2"
    assert [x.name for x in section.figures] == ["teachers_p0.2"] and (tmp_path / "teachers_p0.2.png").stat().st_size


def test_each_p_has_its_own_figure(tmp_path):
    section = section_of("roc", [random_entry("retinanet", p=p) for p in (0.2, 1.0)], tmp_path)
    assert [x.name for x in section.figures] == ["roc_p0.2", "calibration_p0.2", "roc_p1.0", "calibration_p1.0"]


def test_fig9_shows_both_stages_and_what_selection_gives(experiment, tmp_path):
    (table,) = section_of("fig9", experiment, tmp_path).tables
    assert [(row["stage"], row["method"]) for row in table.rows] == [
        (stage, method) for stage in ("first stage", "second stage") for method in ("TSDDNet-B+SD", "TSDDNet", "difference")
    ]


@pytest.mark.parametrize("name", ["roc", "fig6", "fig9"])
def test_nothing_finished_is_no_figure(name, tmp_path):
    methods = ("tsddnet", "tsddnet_stage1") if name == "fig9" else ("tsddnet", "retinanet")
    section = section_of(name, [missing(x) for x in methods], tmp_path)
    assert section.figures == [] and all(x["AUC"] == "missing" for table in section.tables for x in table.rows)


def test_a_class_that_is_absent_leaves_dashes(tmp_path):
    section = section_of("table1", [entry("retinanet", [0.2, 0.7], [0, 0])], tmp_path)
    row = rows_of(section.tables[0])["RetinaNet"]
    assert row["sensitivity (%)"] == row["AUC"] == "–" and row["specificity (%)"].startswith("50.0")


@pytest.mark.parametrize("name", ["fig6", "fig8"])
def test_a_gallery_finds_the_images_of_the_data_set(name, tiny_environment, tmp_path):
    def shown(method, malignancies):
        # patients 10 to 13 of the tiny data set, see tests/conftest.py: ids 21 to 28, odd patients malignant
        x = entry(method, [], [])
        x.result.predictions["tiny_fold1_test"] = [
            prediction(i, (i - 1) // 2 % 2, y, f"p{(i - 1) // 2}") for i, y in zip(range(21, 29), malignancies)
        ]
        return x

    entries = [shown("retinanet", [0.1] * 8), shown("tsddnet", [0.2, 0.7] * 4), missing("faster_rcnn", status="failed")]
    (figure,) = section_of(name, entries, tmp_path).figures
    assert figure.wide and "Faster R-CNN" in figure.caption and "fold 1" in figure.caption
    assert (tmp_path / f"{name}_p0.2.png").stat().st_size > 10_000


def test_a_gallery_without_the_images(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(InputError, match="tiny_fold1_test"):
        section_of("fig6", [random_entry("retinanet")], tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_stages_of_methods_that_have_none(tmp_path):
    with pytest.raises(InputError, match="tsddnet"):
        section_of("fig9", [random_entry("retinanet")], tmp_path)
