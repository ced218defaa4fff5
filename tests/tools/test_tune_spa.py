"""The table of thresholds: it agrees with the evaluation, and says what it cannot be made of."""

from itertools import product

import pytest
import torch
from tune_spa import main

from detectron2.modeling import build_model
from tsdd_d2.data import ensure_registered
from tsdd_d2.engine.final_evaluation import evaluate

from ..methods.test_detectors import configuration


def run_of(method, folder, *overrides):
    """What a finished run leaves behind, without its training: (configuration, network)."""
    cfg = configuration(method, folder, *overrides)
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    folder.mkdir()
    (folder / "config.yaml").write_text(cfg.dump())
    torch.save({"model": model.state_dict()}, folder / "model_final.pth")
    return cfg, model


def test_each_row_is_what_the_evaluation_says_with_its_values(tmp_path, tiny_dataset, capsys):
    cfg, model = run_of("spa", tmp_path / "run")
    grid = {"--minima": (0.1, 0.9), "--backgrounds": (0.05, 0.6), "--foregrounds": (0.1, 0.6), "--thresholds": (0.2, 0.6)}
    values = [x for option, values in grid.items() for x in (option, *map(str, values))]
    assert main(["--run", str(tmp_path / "run"), *values]) == 0
    printed = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed if line.startswith("| structure")]
    ensure_registered("tiny_fold1_val")
    expected = []
    for minimum, background, foreground, threshold in product(*grid.values()):
        if background > foreground:
            continue
        model.first_order_min, model.seeds, model.threshold = minimum, (background, foreground), threshold
        figures = evaluate(cfg, model, "tiny_fold1_val")["localisation"]
        shown = f"{figures['mean_iou']:.3f}", f"{figures['share_iou50']:.3f}"
        expected.append(["structure", f"{minimum:g}", f"{background:g}, {foreground:g}", f"{threshold:g}", "4", *shown])
    assert sorted(rows) == sorted(expected) and len({row[5] for row in rows}) > 1
    overlaps = [float(row[5]) for row in rows]
    assert overlaps == sorted(overlaps, reverse=True)
    _, minimum, seeds, threshold, *_ = rows[0]
    keys = f"MODEL.SPA.FIRST_ORDER_MIN {minimum} MODEL.SPA.SEEDS '({seeds})' MODEL.SPA.THRESHOLD {threshold}"
    assert printed[-1].endswith(keys)


def test_the_plain_class_map_stands_below(tmp_path, tiny_dataset, capsys, monkeypatch):
    """Its rows are those of a structure that is the class map."""
    run_of("spa", tmp_path / "run")
    monkeypatch.setattr("tune_spa.structure_map", lambda class_map, *_: class_map)
    assert main(["--run", str(tmp_path / "run"), "--minima", "0.1", "--thresholds", "0.2", "0.6"]) == 0
    figures = {"structure": set(), "class map": set()}
    for line in capsys.readouterr().out.splitlines():
        cells = [x.strip() for x in line.split("|")[1:-1]]
        if cells and cells[0] in figures:
            figures[cells[0]].add(tuple(cells[3:]))
    assert figures["structure"] == figures["class map"] and len(figures["class map"]) == 2


@pytest.mark.parametrize(
    "method, overrides, message",
    [
        ("retinanet", (), "is a run of DiagnosingRetinaNet, not of SPA"),
        ("spa", ("DATASETS.VAL", "()"), "without DATASETS.VAL"),
    ],
)
def test_a_run_that_it_cannot_be_made_of(method, overrides, message, tmp_path, tiny_dataset, capsys):
    run_of(method, tmp_path / "run", *overrides)
    assert main(["--run", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err


def test_values_that_cannot_be(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--run", str(tmp_path), "--thresholds", "1.5"])
    assert "--thresholds" in capsys.readouterr().err
