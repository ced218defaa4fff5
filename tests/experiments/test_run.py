"""What a run is, and what its files may hold."""

import os
import signal

import pytest

from tsdd_d2.data.files import write_json
from tsdd_d2.errors import InputError

from .conftest import prediction, write_predictions


def test_the_command_is_the_run(run):
    words = run._replace(overrides=("SEED", "7", "SOLVER.MAX_ITER", "3")).command[2:]
    values = dict(zip(words[-6::2], words[-5::2]))
    # after the user's: the name of the folder says so
    assert values == {"DATASETS.P": "0.5", "SEED": "0", "OUTPUT_DIR": run.folder}
    options = dict(zip(words[:8:2], words[1:8:2]))
    assert options == {"--method": "retinanet", "--profile": "cpu", "--data": "tiny", "--fold": "1"}
    assert words[8:13] == ["--resume", "SEED", "7", "SOLVER.MAX_ITER", "3"]


def test_a_second_stage_goes_on_from_the_first(run):
    second = run._replace(method="tsddnet")
    assert second.needs == run._replace(method="tsddnet_stage1")
    assert second.command[-2:] == ["MODEL.WEIGHTS", second.needs.folder]


ATTEMPT = {"started": 1.0, "seconds": None, "versions": {}, "git_revision": None}


def test_status(run):
    assert run.status == "missing"
    for exit_codes, status in (((1,), "failed"), ((1, None), "missing"), ((-signal.SIGINT,), "missing")):
        attempts = [{**ATTEMPT, "exit_code": x} for x in exit_codes]
        write_json(os.path.join(run.folder, "experiment.json"), {"overrides": [], "attempts": attempts})
        assert run.status == status  # None: it was killed, or trains
    write_predictions(run)
    assert run.status == "finished"


def test_the_result_of_a_run(run):
    assert run.result is None
    content = write_predictions(run)
    assert run.result.predictions == content["predictions"] and run.result.annotation_sha256 == {}


def damaged_predictions():
    """Field -> a value that it cannot have; None: it is left out."""
    record = prediction(1, 0, 0.2)
    wrong = {
        "label": 2,
        "malignancy": 1.5,
        "box": [1, 2, 3],
        "roi": [0, 0, 1, "x"],
        "patient_id": 7,
        "image_id": True,
        "file_name": "\ud800",
    }
    yield from (("predictions", {"tiny_fold1_test": [{**record, field: x}]}) for field, x in wrong.items())
    yield from (("seconds", x) for x in (None, "10", float("inf"), 10**400, {}))
    yield from (("predictions", x) for x in (None, [], {"tiny_fold1_test": {}}, {"tiny_fold1_test": [3]}, {"../x": []}))
    yield from (("overrides", "SEED"), ("git_revision", 3), ("youden_threshold", "0.5"), ("fold", 2), ("method", None))
    yield from (("pseudo_boxes", x) for x in ([], {"images": [[19]]}, {"images": [[19, "all"]]}))


@pytest.mark.parametrize("field, value", list(damaged_predictions()))
def test_predictions_that_cannot_be_used_are_one_message(run, field, value):
    content = write_predictions(run)
    content.pop(field, None)
    write_json(os.path.join(run.folder, "predictions.json"), content if value is None else {**content, field: value})
    with pytest.raises(InputError, match=f"predictions.json.*{field}|predictions.json: tiny_fold1_test: entry 0"):
        run.result


@pytest.mark.parametrize("name, read", [("predictions.json", "result"), ("experiment.json", "record")])
@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"{", b"\xff\xfe", b"[" * 100_000, b'{"attempts": [3]}'])
def test_a_file_of_a_run_that_is_none_is_one_message(run, name, read, content):
    os.makedirs(run.folder)
    with open(os.path.join(run.folder, name), "wb") as file:
        file.write(content)
    with pytest.raises(InputError, match=name):
        getattr(run, read)
