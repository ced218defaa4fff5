import os

import pytest

from tsdd_d2.data import ensure_registered
from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.engine.checks import check_output_dir
from tsdd_d2.engine.run_folder import RunRecord
from tsdd_d2.errors import InputError


@pytest.mark.parametrize("training", [True, False])
def test_an_output_dir_that_cannot_be_made_is_named(tiny_cfg, tmp_path, training):
    (tmp_path / "file").write_text("")
    tiny_cfg.OUTPUT_DIR = str(tmp_path / "file" / "run")
    with pytest.raises(InputError, match="file/run"):
        check_output_dir(tiny_cfg, resume=False, overwrite=False, training=training)
    tiny_cfg.OUTPUT_DIR = str(tmp_path / "a" / "b")
    check_output_dir(tiny_cfg, resume=False, overwrite=False, training=training)
    assert os.listdir(tmp_path) == ["file"]


def test_output_dir_of_another_run(tiny_cfg, tmp_path):
    os.makedirs(tiny_cfg.OUTPUT_DIR)
    check_output_dir(tiny_cfg, resume=False, overwrite=False)  # empty
    with open(os.path.join(tiny_cfg.OUTPUT_DIR, "config.yaml"), "w") as file:
        file.write(tiny_cfg.dump())
    with pytest.raises(InputError, match="--resume"):
        check_output_dir(tiny_cfg, resume=False, overwrite=False)
    check_output_dir(tiny_cfg, resume=True, overwrite=False)
    tiny_cfg.SOLVER.BASE_LR = 0.5
    with pytest.raises(InputError, match=r"SOLVER\.BASE_LR: 0\.001 there, 0\.5 now"):
        check_output_dir(tiny_cfg, resume=False, overwrite=False)
    check_output_dir(tiny_cfg, resume=False, overwrite=True)


@pytest.fixture
def run_to_resume(tiny_cfg, tiny_dataset, tmp_path):
    """The configuration of a run that has begun, with an empty veto file."""
    path = tmp_path / "vetoes.json"
    write_json(path, {"data_set": "tiny_fold1_train", "run": "r", "vetoes": []})
    tiny_cfg.DATASETS.VETOES = str(path)
    ensure_registered("tiny_fold1_train")
    os.makedirs(tiny_cfg.OUTPUT_DIR)
    with open(os.path.join(tiny_cfg.OUTPUT_DIR, "config.yaml"), "w") as file:
        file.write(tiny_cfg.dump())
    RunRecord.of(tiny_cfg).write(tiny_cfg.OUTPUT_DIR)
    return tiny_cfg


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("DATASETS.P", 1.0, r"DATASETS\.P: 0\.5 there, 1\.0 now"),
        ("DATASETS.P_SEED", 3, r"DATASETS\.P_SEED: -1 there, 3 now"),
        ("DATASETS.TRAIN", ("tiny_fold1_val",), r"DATASETS\.TRAIN"),
        ("DATASETS.VETOES", "", r"DATASETS\.VETOES: .*vetoes\.json there, '' now"),
        ("SEED", 1, "SEED: 0 there, 1 now"),
        ("MODEL.META_ARCHITECTURE", "TSDDStage2", "TSDDStage1 there, TSDDStage2 now"),
        ("REFINEMENT.RULE", "pseudo_label", r"REFINEMENT\.RULE"),
        ("REFINEMENT.IMS_PER_BATCH", 2, None),
        ("SOLVER.MAX_ITER", 20, r"SOLVER\.MAX_ITER: 10 there, 20 now"),
        ("SOLVER.BASE_LR", 0.1, None),
    ],
)
def test_a_run_is_not_resumed_to_other_rois(run_to_resume, key, value, message):
    run_to_resume.merge_from_list([key, value])
    check_output_dir(run_to_resume, resume=True, overwrite=False, training=False)
    if message is None:
        check_output_dir(run_to_resume, resume=True, overwrite=False)
        return
    with pytest.raises(InputError, match=rf"(?s)--resume: .*{message}.*--overwrite"):
        check_output_dir(run_to_resume, resume=True, overwrite=False)


@pytest.mark.parametrize("kind", ["annotation", "veto"])
def test_a_run_is_not_resumed_on_a_file_that_has_changed(run_to_resume, tiny_dataset, kind):
    check_output_dir(run_to_resume, resume=True, overwrite=False)
    annotation = tiny_dataset / "annotations" / "fold1_train.json"
    path = {"annotation": annotation, "veto": run_to_resume.DATASETS.VETOES}[kind]
    write_json(path, {**read_json(path), "info": {}})
    check_output_dir(run_to_resume, resume=True, overwrite=False, training=False)
    with pytest.raises(InputError, match=rf"SHA-256 of the {kind} file .*\.json: \w+ there, \w+ now"):
        check_output_dir(run_to_resume, resume=True, overwrite=False)


def test_a_run_killed_while_its_configuration_was_written_is_resumed(run_to_resume):
    """Detectron2 writes config.yaml in place."""
    path = os.path.join(run_to_resume.OUTPUT_DIR, "config.yaml")
    open(path, "w").close()
    check_output_dir(run_to_resume, resume=True, overwrite=False)
    with open(path, "w") as file:
        file.write("MODEL: [")
    with pytest.raises(InputError, match=r"config\.yaml"):
        check_output_dir(run_to_resume, resume=True, overwrite=False)


def test_a_run_of_an_older_version_is_resumed(run_to_resume):
    """Its record has no checksum of the vetoes, and its configuration lacks a key."""
    path = os.path.join(run_to_resume.OUTPUT_DIR, "run.json")
    record = read_json(path)
    del record["vetoes_sha256"]
    write_json(path, record)
    old = run_to_resume.clone()
    del old.REFINEMENT["RULE"]
    with open(os.path.join(run_to_resume.OUTPUT_DIR, "config.yaml"), "w") as file:
        file.write(old.dump())
    check_output_dir(run_to_resume, resume=True, overwrite=False)
