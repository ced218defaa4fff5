"""The table of thresholds: it agrees with the evaluation, and says what it cannot be made of."""

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
    values = ["--minima", "0.1", "0.9", "--thresholds", "0.2", "0.6"]
    assert main(["--run", str(tmp_path / "run"), *values]) == 0
    printed = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed if line.startswith("| 0")]
    ensure_registered("tiny_fold1_val")
    expected = []
    for minimum, threshold in ((0.1, 0.2), (0.1, 0.6), (0.9, 0.2), (0.9, 0.6)):
        model.first_order_min, model.threshold = minimum, threshold
        figures = evaluate(cfg, model, "tiny_fold1_val")["localisation"]
        cells = f"{minimum:g}", f"{threshold:g}", "4", f"{figures['mean_iou']:.3f}", f"{figures['share_iou50']:.3f}"
        expected.append(list(cells))
    assert rows == expected and len({row[3] for row in rows}) > 1
    best = max(expected, key=lambda row: float(row[3]))
    assert printed[-1].endswith(f"MODEL.SPA.FIRST_ORDER_MIN {best[0]} MODEL.SPA.THRESHOLD {best[1]}")


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
