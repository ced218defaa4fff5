"""Runs beside others on the same images, and some images beside the rest."""

import numpy as np
import pytest
from compare_predictions import main

from tsdd_d2.evaluation.localisation import average_precision_of_one_box, class_agnostic_average_precision
from tsdd_d2.experiments.groups import cases_of
from tsdd_d2.experiments.run import Run

from ..experiments.conftest import prediction, write_predictions


def row(printed, start):
    (line,) = [line for line in printed.splitlines() if line.startswith((f"| {start} ", f"| {start}, "))]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_listed_images_beside_the_rest(tmp_path, capsys):
    """The two that are listed are in the right order and found; the three others are not."""
    found, beside = [10, 10, 30, 30], [10, 10, 20, 20]
    records = [
        prediction(1, 0, 0.1, roi=found, box=found),
        prediction(2, 1, 0.9, roi=found, box=found),
        prediction(3, 0, 0.8, "patient 1", roi=found, box=beside),
        prediction(4, 0, 0.6, roi=found, box=None, score=None),
        prediction(5, 1, 0.7, roi=None),
    ]
    run = Run(str(tmp_path), "tsddnet", "tiny", "cpu", 1, 0.2, 0)
    write_predictions(run, predictions={run.split("test"): records})
    # with a byte order mark, as some editors write it
    (tmp_path / "marked.txt").write_text("images/001.png\nimages/002.png\nelsewhere.png\n", encoding="utf-8-sig")
    options = [run.folder, "--images", str(tmp_path / "marked.txt"), "--bootstrap", "50"]
    assert main([*options, "--output", str(tmp_path / "out.md")]) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "out.md").read_text() == printed
    assert row(printed, "marked")[:4] == ["2", "2", "50.0", "20"]
    assert row(printed, "not marked")[:4] == ["3", "3", "33.3", "20"]
    assert printed.endswith("2 of the 3 listed images are in these sets.\n")
    numbers = [[cell.split()[0] for cell in row(printed, name)[4:]] for name in ("marked", "not marked", "difference")]
    assert numbers == [
        ["1.000", "1.000", "1.000", "1.000"],
        ["0.500", "0.000", "0.125", "0.000"],
        ["+0.500", "+1.000", "+0.875", "+1.000"],
    ]
    assert main([*options, "--same-patients"]) == 0
    printed = capsys.readouterr().out
    assert [row(printed, name)[0] for name in ("marked", "not marked")] == ["1", "1"]
    assert row(printed, "difference")[4] == "–" and row(printed, "difference")[6].startswith("+0.750")  # of one class
    second = run._replace(fold=2)  # without an image that is listed
    write_predictions(second, predictions={second.split("test"): records[2:]})
    assert main([run.folder, second.folder, *options[1:]]) == 0
    printed = capsys.readouterr().out
    assert row(printed, "marked")[4].startswith("1.000") and printed.endswith("left out: fold 2.\n")
    for text in (b"elsewhere.png\n", "images/001.png".encode("utf-16")):
        (tmp_path / "marked.txt").write_bytes(text)
        assert main(options) == 2 and "marked.txt" in capsys.readouterr().err
    for arguments in ([run.folder, *options], [run.folder, "--with", run.folder, run.folder]):  # one fold, twice
        assert main(arguments) == 2 and "different folds, not of 1, 1" in capsys.readouterr().err


def test_models_on_the_same_images_fold_by_fold(tmp_path, capsys):
    """One of two folds is better by 1 in AUC: 0.5 in the mean. The other side is a second test set of the same run."""
    runs = [Run(str(tmp_path), "tsddnet", "tiny", "cpu", fold, 0.2, 0) for fold in (1, 2)]
    for run in runs:
        good = [prediction(i, i % 2, 0.1 + 0.8 * (i % 2), f"fold {run.fold}, {i // 2}") for i in range(10)]
        bad = [{**x, "malignancy": 1 - x["malignancy"]} if run.fold == 2 else x for x in good]
        write_predictions(run, predictions={run.split("test"): good, f"painted_fold{run.fold}_test": bad[::-1]})
    folders = [run.folder for run in runs]
    assert main([*folders, "--with", *folders[::-1], "--with-data", "painted", "--bootstrap", "50"]) == 0
    printed = capsys.readouterr().out
    assert row(printed, "TSDDNet, p = 0.2, trained on tiny, tested on painted")[4].startswith("0.500")
    assert row(printed, "difference")[4:6] == ["+0.500 (0.500–0.500)", "+0.000 (0.000–0.000)"]
    assert "10 and 0" in printed
    assert main([folders[0], "--with", folders[1]]) == 2
    other = Run(str(tmp_path), "retinanet", "tiny", "cpu", 2, 0.2, 0)
    write_predictions(other, predictions={other.split("test"): good})
    assert main([folders[0], other.folder, "--with", *folders]) == 2  # two models on one side
    assert "RetinaNet" in capsys.readouterr().err
    assert main([folders[0], "--with", folders[0], "--with-data", "elsewhere"]) == 2
    assert "elsewhere_fold1_test" in capsys.readouterr().err


def test_boxes_that_were_given_are_not_judged(tmp_path, capsys, caplog):
    """C-Net on the manual ROI, or on the whole image, says nothing of where the lesion is."""
    records = [prediction(x, x % 2, 0.1 + 0.8 * (x % 2), roi=[10, 10, 30, 30], box=[10, 10, 30, 30]) for x in range(1, 9)]
    runs = [Run(str(tmp_path), method, "tiny", "cpu", 1, 0.2, 0) for method in ("tsddnet", "cnet_oracle")]
    for run in runs:
        write_predictions(run, predictions={run.split("test"): records})
    assert main([runs[0].folder, "--with", runs[1].folder, "--bootstrap", "50"]) == 0
    printed = capsys.readouterr().out
    cells = [row(printed, name)[4:] for name in ("TSDDNet, p = 0.2", "C-Net, manual ROI (oracle), p = 0.2", "difference")]
    assert [x.split()[0] for x in cells[0]] == ["1.000"] * 4
    assert [x.split()[0] for x in cells[1]] == ["1.000", "–", "–", "–"]
    assert [x.split()[0] for x in cells[2]] == ["+0.000", "–", "–", "–"]
    write_predictions(runs[1], predictions={runs[1].split("test"): records[:6]})  # the images with a ROI
    assert main([runs[0].folder, "--with", runs[1].folder, "--bootstrap", "50"]) == 0
    printed = capsys.readouterr().out
    assert [row(printed, name)[0] for name in ("TSDDNet, p = 0.2", "C-Net, manual ROI (oracle), p = 0.2")] == ["6", "6"]
    assert "all 6 images" in printed
    assert "IoU" not in caplog.text


ELSEWHERE = [200.0, 200.0, 220.0, 220.0]  # a second lesion of an image, which its box cannot find too


@pytest.mark.parametrize("seed", [0, 1])
def test_average_precision_is_that_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    records = []
    for i in range(60):
        x, y, width, height = rng.uniform([0, 0, 10, 10], [20, 20, 40, 40])
        roi, box = [x, y, x + width, y + height], (np.array([x, y, x + width, y + height]) + rng.normal(0, 2, 4)).tolist()
        nothing = {"box": None, "score": None} if i % 9 == 0 else {"box": box, "score": float(rng.uniform())}
        rois = {"roi": None} if i % 7 == 0 else {"roi": roi, "num_rois": 1 + i % 2}
        records.append(prediction(i, 0, 0.5, **rois, **nothing))
    cases = cases_of(records)
    weights = np.stack([np.ones(60), (np.arange(60) < 40).astype(float), np.zeros(60)])
    found = average_precision_of_one_box(cases.overlaps, cases.scores, cases.num_rois, weights)
    for value, kept in zip(found, (records, records[:40])):
        kept = [x for x in kept if x["roi"]]
        expected = class_agnostic_average_precision(
            [[x["roi"], ELSEWHERE][: x["num_rois"]] for x in kept],
            [[x["box"]] if x["box"] else [] for x in kept],
            [[x["score"]] if x["box"] else [] for x in kept],
        )
        assert value == pytest.approx(expected["AP"], abs=1e-6)
    assert np.isnan(found[2])
