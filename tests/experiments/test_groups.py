import pytest

from tsdd_d2.errors import InputError
from tsdd_d2.experiments.groups import cases, cases_of, external_sets, group, read_entries

from .conftest import entry, groups_of, missing, prediction, random_entry, write_predictions


def test_groups_are_ordered_and_know_what_is_missing(experiment):
    groups = {x.method: x for x in group(experiment)}
    assert list(groups)[:2] == ["retinanet", "faster_rcnn"] and list(groups)[-1] == "tsddnet"
    assert groups["faster_rcnn"].extent == "1 of 2 folds" and groups["tsddnet"].extent == "2 folds"
    assert groups["faster_rcnn"].remark == " [1/2 folds]" and groups["tsddnet"].remark == ""
    assert [x.status for x in groups["faster_rcnn"].planned] == ["finished", "failed"]


def test_a_fold_without_one_of_its_seeds_is_said():
    (x,) = groups_of(random_entry("retinanet"), missing("retinanet", seed=1))
    assert (x.extent, x.remark) == ("1 fold, 1 of 2 runs", " [1/2 runs]")


def test_entries_of_a_folder(run):
    other = run._replace(fold=2)
    write_predictions(run)
    write_predictions(other, youden_threshold=None)
    runs = [run._replace(fold=3), other, run]
    found = read_entries(runs)
    assert [(x.run.fold, x.status, x.threshold) for x in found] == [
        (1, "finished", 0.5), (2, "finished", 0.5), (3, "missing", 0.5)
    ]  # fmt: skip
    first, second, _ = read_entries(runs, "youden-val")
    assert first.threshold == 0.4 and second.result is None and second.status != "finished"


def test_cases():
    x = cases(entry("retinanet", [0.2, 0.5, 0.5, 0.9], [0, 0, 1, 1]))
    assert x.image_ids.tolist() == [100, 101, 102, 103] and x.labels.tolist() == [0, 0, 1, 1]
    assert x.right.tolist() == [True, False, True, True]
    assert len(set(x.patient_ids)) == 2


def test_an_overlap_of_exactly_a_threshold_reaches_it():
    """65 of 100 rows: 0.65 in double precision, and less in single."""
    record = {**prediction(1, 0, 0.2), "box": [0.0, 0.0, 100.0, 65.0], "roi": [0.0, 0.0, 100.0, 100.0]}
    assert cases_of([record]).overlaps[0] >= 0.65


def test_other_test_sets_are_external():
    x = random_entry("retinanet")
    x.result.predictions["clinic_all"] = [prediction(1, 0, 0.2)]
    assert external_sets(groups_of(x)) == ["clinic_all"]
    with pytest.raises(InputError, match="tiny_fold2_test"):
        cases(x, "tiny_fold2_test")
