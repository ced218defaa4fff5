#!/usr/bin/env python
"""Compares the predictions of finished runs: with those of other runs on the same images, or on some images with the rest.

Each run is an OUTPUT_DIR of tools/train_net.py or tools/reproduce.py, or a folder in an archive of predictions. Metrics are
means over the folds, with 95% intervals from a bootstrap over patients, which the difference has too. AP is COCO's, of the one
box of each image; further ROIs of the image are missed.

Two models on the same images differ by their training. Two groups of images of one model differ by whatever comes with the
group: class and size of the lesions stand beside the metrics, but scanner, reader and the choice of the images do not.
"""

import argparse
import os
import sys
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from tsdd_d2.data.files import write_text
from tsdd_d2.errors import InputError, reports_errors
from tsdd_d2.evaluation.comparison import delong_test, mcnemar_test
from tsdd_d2.evaluation.localisation import average_precision_of_one_box
from tsdd_d2.evaluation.statistics import diagnosis_metrics
from tsdd_d2.evaluation.tables import markdown_table
from tsdd_d2.experiments.groups import Cases, cases_of
from tsdd_d2.experiments.metrics import Bootstrap, estimate, localisation_metrics, pair_cases
from tsdd_d2.experiments.paper import finds_boxes, title
from tsdd_d2.experiments.predictions import predictions_of_training
from tsdd_d2.experiments.run import PREDICTIONS
from tsdd_d2.experiments.schema import read_result
from tsdd_d2.experiments.tables import fraction_text, interval_text

EPILOG = """
Examples:

Two runs of tools/train_net.py on the same fold:
    $ python tools/compare_predictions.py output/p02 --with output/retinanet

Images with burnt-in calipers beside those without:
    $ python datasets/calipers.py --root data/busbra --list calipers.txt
    $ python tools/compare_predictions.py results/predictions.tar.xz/tsddnet_busbra_cpu_fold1_p1.0_seed0 --images calipers.txt

A model that was trained on painted images, tested on them, with one that was trained and tested on those as they are:
    $ python tools/compare_predictions.py output/experiments/tsddnet_busbra_painted_cpu_fold1_p1.0_seed0 \\
        --with output/experiments/tsddnet_busbra_cpu_fold1_p1.0_seed0

One model on both, after tools/reproduce.py --test-data busbra_painted_fold1_test:
    $ python tools/compare_predictions.py output/experiments/tsddnet_busbra_cpu_fold1_p1.0_seed0 --data busbra_painted \\
        --with output/experiments/tsddnet_busbra_cpu_fold1_p1.0_seed0 --with-data busbra
"""

METRICS = ("AUC", "AP", "mean IoU", "IoU ≥ 0.5")
FIRST, SECOND, DIFFERENCE = "the first side", "the second side", "the first less the second"


class Tested(NamedTuple):
    """A run on one test set.

    Attributes:
        of: what tells it from others, without its fold.
        folder: as it was named.
        records: of the images, see :class:`~tsdd_d2.experiments.run.Result`.
        finds_boxes: whether the method does; it may be given them.
    """

    fold: int
    of: str
    folder: str
    records: List[Dict]
    finds_boxes: bool

    @property
    def cases(self) -> Cases:
        """Without a measure of the boxes that the method was given."""
        found = cases_of(self.records)
        if self.finds_boxes:
            return found
        nothing = np.full(len(found.labels), np.nan)
        return found._replace(overlaps=nothing, scores=nothing)


class Sides(NamedTuple):
    """What is compared on one fold.

    Attributes:
        first, second: N cases each, of the same patients in the same order.
        of_first, of_second: (N,) whether an image counts there.
    """

    first: Cases
    second: Cases
    of_first: np.ndarray
    of_second: np.ndarray

    @property
    def patient_ids(self) -> np.ndarray:
        return self.first.patient_ids


def read_run(folder: str, data: Optional[str]) -> Tested:
    """
    Args:
        data: name of the data set whose test split of the run's fold is meant; None: the run's own.

    Raises:
        InputError: the run is not finished, or was not tested there.
    """
    content = read_result(os.path.join(folder, PREDICTIONS), {})
    if content is None:
        content = predictions_of_training(folder)
    own, fold = content.get("data"), content.get("fold")
    test_set = f"{data or own}_fold{fold}_test"
    records = content["predictions"].get(test_set)
    if not records:
        raise InputError(f"{folder} has no predictions for {test_set}, only for {', '.join(content['predictions'])}.")
    model = f"{title(content['method'])}, p = {content.get('p')}, trained on {own}"
    return Tested(int(fold), f"{model}, tested on {data or own}", folder, records, finds_boxes(content["method"]))


def side_metrics(x: Cases, weights: np.ndarray) -> Dict[str, np.ndarray]:
    """Name in :data:`METRICS` -> (...) array, for (..., N) weights of the images."""
    return {
        "AUC": diagnosis_metrics(x.labels, x.probabilities, weights=weights)["AUC"],
        "AP": average_precision_of_one_box(x.overlaps, x.scores, x.num_rois, weights),
        **localisation_metrics(x, weights),
    }


def contrast(x: Sides, weights: Optional[np.ndarray]) -> Dict[str, np.ndarray]:
    """ "<metric> of <row>" -> (...) array."""
    weights = np.ones(len(x.patient_ids)) if weights is None else weights
    first, second = side_metrics(x.first, weights * x.of_first), side_metrics(x.second, weights * x.of_second)
    return {
        f"{name} of {row}": value
        for name in METRICS
        for row, value in ((FIRST, first[name]), (SECOND, second[name]), (DIFFERENCE, first[name] - second[name]))
    }


def comparison_table(names: Sequence[str], items: Sequence[tuple], records: Sequence[Sequence[Dict]], bootstrap: Bootstrap):
    """
    Markdown.

    Args:
        names: of the two sides.
        items: (fold, Sides) of each run.
        records: all of each side.
    """
    found = estimate(contrast, items, bootstrap)
    descriptions = [describe(x) for x in records]
    rows = []
    for row, name, description in zip(
        (FIRST, SECOND, DIFFERENCE), (*names, "difference"), (*descriptions, dict.fromkeys(descriptions[0], ""))
    ):
        texts = {"": name, **description}
        for metric in METRICS:
            x = found[f"{metric} of {row}"]
            texts[metric] = fraction_text(x.mean, "+" * (row == DIFFERENCE)) + interval_text(x.low, x.high, ".3f")
        rows.append(texts)
    return markdown_table(rows)


def describe(records: Sequence[Dict]) -> Dict[str, str]:
    """What an image of a group is like."""
    sides = [np.sqrt((x["roi"][2] - x["roi"][0]) * (x["roi"][3] - x["roi"][1])) for x in records if x["roi"]]
    return {
        "images": str(len(records)),
        "patients": str(len({x["patient_id"] for x in records})),
        "malignant (%)": f"{100 * np.mean([x['label'] for x in records]):.1f}",
        "ROI, root of its area (pixels)": f"{np.mean(sides):.0f}" if sides else "",
    }


def require_each_fold_once(runs: Sequence[Tested]) -> None:
    """Of one model: the images of a fold would count twice, as if they were independent."""
    folds = [x.fold for x in runs]
    if len(set(folds)) < len(folds):
        raise InputError(f"The runs must be of different folds, not of {', '.join(map(str, folds))}.")
    models = sorted({x.of for x in runs})
    if len(models) > 1:
        raise InputError(f"The runs of one side must differ in their fold alone, not be of: {'; '.join(models)}.")


def compare_groups(runs: Sequence[Tested], path: str, same_patients: bool, bootstrap: Bootstrap) -> str:
    """The images that a file lists, a name on each line, beside the others, perhaps of patients alone who have both."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            listed = {line.strip() for line in file} - {""}
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8: {error}.") from error
    name = os.path.splitext(os.path.basename(path))[0]
    items, records, left_out = [], ([], []), []
    for run in runs:
        if same_patients:
            sides = [{x["patient_id"] for x in run.records if (x["file_name"] in listed) is side} for side in (True, False)]
            run = run._replace(records=[x for x in run.records if x["patient_id"] in set.intersection(*sides)])
        chosen = np.array([x["file_name"] in listed for x in run.records], bool)
        if len(set(chosen)) < 2:
            left_out.append(run.fold)
            continue
        cases = run.cases
        items.append((run.fold, Sides(cases, cases, chosen, ~chosen)))
        for side, is_there in zip(records, (chosen, ~chosen)):
            side += [x for x, here in zip(run.records, is_there) if here]
    if not items:
        example = runs[0].records[0]["file_name"]
        whose = "of patients with images on both sides " * same_patients
        raise InputError(
            f"{path} lists all or none of the images {whose}of each run; they are named as {example!r}. There is nothing to "
            "compare."
        )
    table = comparison_table((name, f"not {name}"), items, records, bootstrap)
    remark = f" Without images on both sides, and left out: fold {', '.join(map(str, left_out))}." if left_out else ""
    return f"{table}\n\n{len(records[0])} of the {len(listed)} listed images are in these sets.{remark}"


def compare_models(runs: Sequence[Tested], others: Sequence[Tested], bootstrap: Bootstrap) -> str:
    """Runs beside others on the same images, fold by fold, with DeLong's and McNemar's tests over all of them."""
    if sorted(x.fold for x in runs) != sorted(x.fold for x in others):
        raise InputError("The runs and those after --with must be of the same folds.")
    items, records = [], ([], [])
    for run, other in zip(*(sorted(x, key=lambda x: x.fold) for x in (runs, others))):
        of = f"{run.of}, and {other.of}, fold {run.fold},"
        a, b = pair_cases(run.cases, other.cases, of)
        everywhere = np.ones(len(a.labels), bool)
        items.append((run.fold, Sides(a, b, everywhere, everywhere)))
        both = {x["image_id"] for x in run.records} & {x["image_id"] for x in other.records}
        for side, x in zip(records, (run, other)):
            side += [y for y in x.records if y["image_id"] in both]
    labels = np.concatenate([x.first.labels for _, x in items])
    scores = [np.concatenate([x[side].probabilities for _, x in items]) for side in (0, 1)]
    right = [np.concatenate([x[side].right for _, x in items]) for side in (0, 1)]
    delong, mcnemar = delong_test(labels, *scores), mcnemar_test(*right)
    sides = runs, others
    names = [side[0].of for side in sides]
    if names[0] == names[1]:  # they differ in their settings, which the folder may tell
        names = [f"{side[0].of} ({side[0].folder})" for side in sides]
    table = comparison_table(names, items, records, bootstrap)
    return (
        f"{table}\n\nOver all {len(labels)} images that both have, taken as independent: DeLong's p = {delong.p_value:.3f}; "
        f"right alone at 0.5: {mcnemar.only_a} and {mcnemar.only_b}, McNemar's p = {mcnemar.p_value:.3f}."
    )


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of finished runs, one for each fold")
    parser.add_argument("--data", help="test on this data set's split of the fold (default: that of the run)")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--with", dest="others", nargs="+", metavar="RUN", help="compare with these, on the same images")
    how.add_argument("--images", metavar="FILE", help="compare the images that it lists, a name on each line, with the rest")
    parser.add_argument(
        "--same-patients", action="store_true", help="with --images: only patients who have images on both sides"
    )
    parser.add_argument("--with-data", metavar="DATA", help="as --data, for the runs after --with")
    parser.add_argument("--bootstrap", type=int, default=Bootstrap().resamples, help="resamples (default: %(default)s)")
    parser.add_argument("--output", metavar="FILE.md", help="write the table here too")
    args = parser.parse_args(argv)
    if args.same_patients and not args.images or args.with_data and not args.others:
        parser.error("--same-patients is of --images, and --with-data of --with")
    if args.bootstrap < 0:
        parser.error(f"--bootstrap is {args.bootstrap}: 0 (no intervals) or more")
    runs, bootstrap = [read_run(x, args.data) for x in args.runs], Bootstrap(args.bootstrap)
    require_each_fold_once(runs)
    if args.images:
        text = compare_groups(runs, args.images, args.same_patients, bootstrap)
    else:
        others = [read_run(x, args.with_data) for x in args.others]
        require_each_fold_once(others)
        text = compare_models(runs, others, bootstrap)
    print(text)
    if args.output:
        write_text(args.output, f"{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
