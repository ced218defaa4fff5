"""The plan of the ablation, its execution with a stand-in for the training tool, and its table."""

import os
import runpy


from tsdd_d2.data.files import read_json
from tsdd_d2.experiments import VARIANTS, collect_ablation, execute, plan_ablation
from tsdd_d2.experiments import runs as runs_module
from tsdd_d2.tables import ablation_table

from ..conftest import ROOT

# Writes results.json like the training tool, counts its calls, and fails where it is told to.
STAND_IN = """
import json, os, sys
folder = sys.argv[sys.argv.index("OUTPUT_DIR") + 1]
os.makedirs(folder, exist_ok=True)
with open(os.path.join(folder, "calls"), "a") as file:
    file.write("x")
if os.path.exists(folder + ".fails"):
    sys.exit(3)
with open(os.path.join(folder, "results.json"), "w") as file:
    json.dump({"last iteration": {"test": {"found box": {"diagnosis": {"AUC": 0.75}}}}}, file)
"""


def stand_in(tmp_path, monkeypatch):
    (tmp_path / "tool.py").write_text(STAND_IN)
    monkeypatch.setattr(runs_module, "TRAIN_TOOL", str(tmp_path / "tool.py"))


def test_variants_share_the_first_stage_of_their_rule():
    runs = plan_ablation("out", [(0.2, 0)])
    assert len(runs) == 6 and [run.needs is None for run in runs] == [True, True] + [False] * 4
    needs = {os.path.basename(run.folder): os.path.basename(run.needs) for run in runs[2:]}
    assert needs["TSDDNet-B"] == needs["TSDDNet-B+SD"] == "stage1_pseudo_label"
    assert needs["TSDDNet"] == needs["TSDDNet-B+CS"] == "stage1_class_guided"


def test_variants_differ_in_what_is_removed_alone(tmp_path):
    from tsdd_d2.engine.setup import load_config

    def configuration(variant):
        cfg = load_config(os.path.join(ROOT, VARIANTS[variant][1]))
        cfg.defrost()
        removed = cfg.REFINEMENT.pop("RULE"), cfg.MODEL.FNET.pop("SELF_DISTILLATION")
        return cfg, removed

    full, _ = configuration("TSDDNet")
    removed = {}
    for variant in VARIANTS:
        cfg, removed[variant] = configuration(variant)
        assert cfg == full
    assert removed == {
        "TSDDNet-B": ("pseudo_label", False),
        "TSDDNet-B+CS": ("class_guided", False),
        "TSDDNet-B+SD": ("pseudo_label", True),
        "TSDDNet": ("class_guided", True),
    }


def test_what_is_finished_is_not_repeated(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch)
    runs = plan_ablation(str(tmp_path / "out"), [(0.2, 0)])
    assert execute(runs[:3]) == [] and execute(runs) == []
    assert all((open(os.path.join(run.folder, "calls")).read()) == "x" for run in runs)


def test_a_failed_first_stage_stops_its_second_stages_alone(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch)
    runs = plan_ablation(str(tmp_path / "out"), [(0.2, 0)])
    os.makedirs(os.path.dirname(runs[0].folder))
    open(runs[0].folder + ".fails", "w").close()
    assert {os.path.basename(run.folder) for run in execute(runs)} == {
        "stage1_pseudo_label", "TSDDNet-B", "TSDDNet-B+SD"
    }  # fmt: skip
    content = collect_ablation(str(tmp_path / "out"), [(0.2, 0)])
    assert [row["results"] is None for row in content["ablation"]] == [True, False, True, False]
    table = ablation_table(content["ablation"])
    assert table.count("0.750") == 2 and "missing" in table


def test_the_tool_collects_and_reports(tmp_path, monkeypatch, capsys):
    main = runpy.run_path(os.path.join(ROOT, "tools", "ablation.py"))["main"]
    stand_in(tmp_path, monkeypatch)
    arguments = ["--output", str(tmp_path / "out"), "--p", "0.2", "--seeds", "1"]
    assert main([*arguments, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("OUTPUT_DIR") == 6 and not (tmp_path / "out").exists()
    assert main(arguments) == 0
    assert "TSDDNet-B+CS" in capsys.readouterr().out
    assert len(read_json(tmp_path / "out" / "ablation.json")["ablation"]) == 4
