#!/usr/bin/env python
"""Makes tables and figures of the paper: trains what is missing, and renders them from the predictions of the runs.

The plan is printed first. A finished run is never repeated, an interrupted one goes on, a failed one is reported and
does not stop the others. The same command goes on where it was stopped, also on another machine that has the folder of
the runs; two machines at the same time share what is to be done. All experiments can have one folder of runs in common.

A run is a folder <method>_<data>_<profile>_fold<K>_p<p>_seed<seed>: config.yaml, console.log and log.txt, metrics.json,
predictions.json (all that rendering needs), experiment.json (attempts, package versions, git revision), the model.
"""

import time

START = time.time()  # what follows takes seconds, which count

import argparse
import dataclasses
import functools
import os
import re
import sys

import yaml
from tabulate import tabulate
from tqdm import tqdm

from tsdd_d2.errors import InputError, reports_errors
from tsdd_d2.experiments.catalogue import EXPERIMENTS, View, render
from tsdd_d2.experiments.checks import check_plan
from tsdd_d2.experiments.execution import execute
from tsdd_d2.experiments.executors import EXECUTORS, Resources
from tsdd_d2.experiments.groups import THRESHOLDS, read_entries
from tsdd_d2.experiments.page import write_report
from tsdd_d2.experiments.plan import compared_methods, duration, expected_times, planned_runs, runs_to_train
from tsdd_d2.experiments.predictions import keep_predictions
from tsdd_d2.experiments.training import Outcome, evaluate_run_on, train_run, training_environment
from tsdd_d2.method import METHODS, PROFILES
from tsdd_d2.plugins import load_plugins

ARCHIVE = "predictions.tar.xz"

EPILOG = """
Examples:

What Table I needs, and how long it will take:
    $ python tools/reproduce.py --experiment table1 --data busbra --dry-run

The same with two runs at a time; then Table III, which shares runs with it:
    $ python tools/reproduce.py --experiment table1 --data busbra --jobs 2
    $ python tools/reproduce.py --experiment table3 --data busbra --jobs 2

On Slurm, and on a Ray cluster that is up:
    $ python tools/reproduce.py --experiment table1 --profile paper --executor slurm --cpus 8 --gpus 1 \\
        --executor-options slurm_partition=gpu timeout_min=720
    $ python tools/reproduce.py --experiment table1 --profile paper --executor ray --cpus 8 --gpus 1 \\
        --executor-options address=auto

Every model of Table I on another data set, without training:
    $ python tools/reproduce.py --experiment table1 --data busbra --no-train --test-data busi_all

Keep tables, figures and predictions, and render all experiments from the kept predictions alone:
    $ python tools/reproduce.py --experiment table1 --data busbra --no-train --results results
    $ python tools/reproduce.py --experiment all --no-train --output results/predictions.tar.xz --results results
"""


def defaults() -> str:
    def describe(x):
        folds = "all folds" if x.folds is None else f"fold {' '.join(map(str, x.folds))}"
        p, seeds = (" ".join(map(str, values)) for values in (x.p, x.seeds))
        return f"  {x.name:12} p {p}, {folds}, seeds {seeds}: {', '.join(x.methods or compared_methods())}"

    return "\n".join(map(describe, EXPERIMENTS.values()))


def parse(argv):
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=f"{__doc__}\nWithout --methods, --folds, --p and --seeds:\n{defaults()}\n",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--experiment", required=True, nargs="+", choices=[*EXPERIMENTS, "all"], metavar="NAME", help="one or more, or all")
    add("--data", default="busbra", metavar="NAME", help="see datasets/README.md (default: busbra)")
    add(
        "--profile",
        default="cpu",
        choices=PROFILES,
        help="cpu: from ImageNet weights; scratch: from random ones; paper: its values (default: cpu)",
    )
    add("--methods", nargs="+", choices=[x.name for x in METHODS.values() if not x.is_part], metavar="NAME")
    add(
        "--folds",
        nargs="+",
        type=int,
        metavar="K",
        help="test folds; where the list above says all folds: those with a test split in the data set's annotations/ or, "
        "with --no-train, those with a run",
    )
    add("--p", nargs="+", type=float, help="shares of the training patients that keep their ROIs")
    add("--seeds", nargs="+", type=int, metavar="SEED")
    add(
        "--threshold",
        default="0.5",
        choices=THRESHOLDS,
        help="malignancy from which on an image is called malignant; youden-val: the best on a run's validation split",
    )
    add(
        "--test-data",
        nargs="+",
        default=[],
        metavar="NAME",
        help="evaluate the models on these too: busi_all; for the tables and roc",
    )
    add(
        "--output",
        default="output/experiments",
        metavar="DIR",
        help="folder of the runs, or with --no-train an archive of predictions (default: %(default)s)",
    )
    add(
        "--results",
        metavar="DIR",
        help=f"folder of tables and figures (default: OUTPUT/results); if given, its {ARCHIVE} takes the predictions",
    )
    add("--also", nargs="+", default=[], choices=["tex", "pdf", "json"], help="beside Markdown, CSV and PNG")
    add("--dry-run", action="store_true", help="print the plan, and stop")
    add("--no-train", action="store_true", help="render what is finished; the rest is shown as missing")
    add("--overrides", nargs="+", default=[], metavar="KEY VALUE", help="of the configuration, for every run")
    add("--executor", default="local", choices=EXECUTORS, help="where the runs take place (default: local)")
    add("--jobs", type=int, default=1, metavar="N", help="runs at a time here, or on a local Ray (default: 1)")
    add("--cpus", type=int, metavar="N", help="CPU cores of a run (default: those of this machine / JOBS)")
    add("--gpus", type=int, default=0, choices=[0, 1], help="that Slurm or Ray reserves for a run (default: 0)")
    add("--retries", type=int, default=2, metavar="N", help="of a run whose Slurm or Ray node is lost (default: 2)")
    add(
        "--executor-options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="submitit's parameters of a Slurm job, or those of ray.init",
    )
    args = parser.parse_args(argv)
    if args.jobs < 1 or args.retries < 0 or args.cpus is not None and args.cpus < 1:
        parser.error("--jobs and --cpus must be 1 or more, and --retries 0 or more")
    if len(args.overrides) % 2:
        parser.error(f"--overrides takes KEY VALUE pairs with a blank between, not '=': {args.overrides[-1]!r} has no value")
    args.experiment = list(EXPERIMENTS) if "all" in args.experiment else list(dict.fromkeys(args.experiment))
    alone = [name for name in args.experiment if not EXPERIMENTS[name].external]
    if args.test_data and alone:
        parser.error(f"--test-data is not shown by {', '.join(alone)}")
    if os.path.isfile(args.output) and not (args.no_train and args.results):
        parser.error("of an archive --output needs --no-train and --results")
    if not all("=" in x for x in args.executor_options):
        parser.error("--executor-options takes KEY=VALUE")
    return args


@reports_errors
def main(argv=None) -> int:
    try:
        load_plugins()
        return reproduce(parse(argv))
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on.", file=sys.stderr)
        return 130


def reproduce(args) -> int:
    plans = {}
    chosen = {"methods": args.methods, "folds": args.folds, "p": args.p, "seeds": args.seeds}
    for name in args.experiment:
        experiment = dataclasses.replace(EXPERIMENTS[name], **{key: tuple(x) for key, x in chosen.items() if x})
        runs = planned_runs(experiment, args.output, args.data, args.profile, args.overrides, not args.no_train)
        if not runs:
            raise InputError(f"{args.output} has no run of {name}: leave out --no-train, or name its --folds.")
        plans[experiment] = runs
    runs = list(dict.fromkeys(run for planned in plans.values() for run in planned))
    to_train = [] if args.no_train else runs_to_train(runs)
    check_plan(runs, to_train, args.test_data)
    print_plan(list(dict.fromkeys((*to_train, *runs))), to_train)
    if args.dry_run:
        return 0
    outcomes = train_and_evaluate(args, runs, to_train)
    print_times(outcomes, time.time() - START)
    print(f"Written: {render_all(args, plans)}")
    failed = {run.id: outcome.error for run, outcome in outcomes.items() if outcome.error}
    for name, error in failed.items():
        print(f"failed: {name}: {error}", file=sys.stderr)
    return int(bool(failed))


def render_all(args, plans) -> str:
    """Writes the files of the experiments; returns the path of the page."""
    folder = args.results or os.path.join(args.output, "results")
    sections = []
    for experiment, runs in plans.items():
        view = View(experiment, read_entries(runs, args.threshold), folder, args.threshold, "pdf" in args.also)
        sections.append(render(view))
        sections[-1].write(folder, args.also)
    if args.results and os.path.isdir(args.output):  # what comes from an archive is kept
        runs = [run for planned in plans.values() for run in planned]
        first_stages = [run.needs for run in runs if run.needs is not None]
        keep_predictions(dict.fromkeys((*runs, *first_stages)), os.path.join(folder, ARCHIVE))
    return write_report(sections, folder, view.bootstrap.resamples)


def train_and_evaluate(args, runs, to_train):
    """Run -> :class:`Outcome` of what was trained and, where that is finished, evaluated on other data sets."""
    cpus = args.cpus or max(1, len(os.sched_getaffinity(0)) // args.jobs)
    resources = Resources(jobs=args.jobs, cpus=cpus, gpus=args.gpus, retries=args.retries)
    options = dict(executor_option(x) for x in args.executor_options)
    environment = training_environment(cpus)
    outcomes = {}
    if not to_train and not args.test_data:
        return outcomes
    executor = EXECUTORS[args.executor](resources, os.path.abspath(args.output), options)
    try:
        if to_train:
            with Progress(to_train, "Training") as progress:
                function = functools.partial(train_run, environment=environment)
                outcomes.update(execute(to_train, function, executor, progress.ended))
        if args.test_data:
            finished = [run for run in runs if run.status == "finished"]
            with Progress(finished, f"Testing on {', '.join(args.test_data)}") as progress:
                function = functools.partial(evaluate_run_on, names=args.test_data, environment=environment)
                evaluated = execute(finished, function, executor, progress.ended, after_needs=False)
            outcomes.update({run: x for run, x in evaluated.items() if x.error})
    finally:
        executor.close()
    return outcomes


def executor_option(text: str):
    """Key and value of KEY=VALUE: a number, true or false, a YAML list or mapping, or else the text.

    YAML alone would make 43200 of the time 12:00:00, and 5349 of the account 012345.
    """
    key, value = text.split("=", 1)
    return key, yaml.safe_load(value) if re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?|true|false|[\[{].*", value) else value


class Progress:
    """A bar over runs, with the time that the unfinished ones will take as far as finished ones tell."""

    def __init__(self, runs, title):
        self.left = list(runs)
        self.bar = tqdm(total=len(runs), desc=title, unit="run")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()

    def ended(self, run, outcome: Outcome) -> None:
        if outcome.error:
            tqdm.write(f"{run.id}: {outcome.error}", file=sys.stderr)
        self.left.remove(run)
        self.bar.update()
        if self.bar.desc.startswith("Training"):
            known = [x.seconds for x in expected_times(self.left).values() if x is not None]
            self.bar.set_postfix_str(f"about {duration(sum(known))} of training left for {len(known)} of {len(self.left)}")


def print_plan(runs, to_train) -> None:
    expected = expected_times(runs)
    rows = [
        [
            run.id,
            "fa, pa" if run.definition.sees.pa_images else "fa",
            run.status,
            duration(expected[run].seconds) if run in to_train and expected[run] else "",
        ]
        for run in runs
    ]
    print(tabulate(rows, headers=["run", "trains on", "status", "estimated time"]))
    print(f"{len(runs)} runs, {len(to_train)} to train: {total_time(to_train)}")


def total_time(runs) -> str:
    """Of runs one after the other."""
    expected = expected_times(runs)
    known = [x.seconds for x in expected.values() if x is not None]
    elsewhere = dict.fromkeys(run.method for run, x in expected.items() if x is not None and not x.here)
    unknown = dict.fromkeys(run.method for run, x in expected.items() if x is None)
    parts = [f"about {duration(sum(known))} one after the other"] if known else []
    parts += [f"as long as in results/, on another machine, for {', '.join(elsewhere)}"] if elsewhere else []
    parts += [f"unknown for {', '.join(unknown)}: none has finished yet"] if unknown else []
    return "; ".join(parts) or "nothing"


def print_times(outcomes, wall: float) -> None:
    """What the training processes took, and how much of the time none of them ran."""
    busy = sorted(x.busy for x in outcomes.values() if x.busy is not None)
    if not busy:
        return
    covered, end = 0.0, 0.0
    for first, last in busy:
        covered += max(0.0, last - max(first, end))
        end = max(end, last)
    total = sum(last - first for first, last in busy)
    print(
        f"{len(busy)} training processes took {duration(total)}, the whole {duration(wall)}; none of them ran in "
        f"{(wall - covered) / wall:.1%} of it."
    )


if __name__ == "__main__":
    sys.exit(main())
