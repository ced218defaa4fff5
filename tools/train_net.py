#!/usr/bin/env python
"""Trains and evaluates TSDDNet and the methods that it is compared with, with the conventions of Detectron2's own tool."""

import argparse
import contextlib
import functools
import logging
import os
import sys
import threading
from typing import Union

import tsdd_d2  # noqa: F401 (registers our parts)
from detectron2.engine import default_argument_parser, default_setup, launch
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from tsdd_d2.data import ensure_registered
from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.data.folds import ALL
from tsdd_d2.engine import load_trained_weights
from tsdd_d2.engine.checkpoint import read_checkpoint
from tsdd_d2.engine.checks import check_network, check_run, data_sets
from tsdd_d2.engine.configuration import load_config
from tsdd_d2.engine.final_evaluation import evaluate_model, evaluate_run
from tsdd_d2.engine.processes import ENDS_WITH, as_rank, end_with, lock_folder, one_message
from tsdd_d2.engine.run_folder import RESULTS, is_finished, remove_leftovers, remove_run, warn_of_other_evaluation_data
from tsdd_d2.engine.trainer import trainer_of
from tsdd_d2.errors import InputError, WithoutTraceback, kept_warnings, reports_errors, without_traceback
from tsdd_d2.evaluation.tables import results_table
from tsdd_d2.memory import keep_freed_memory
from tsdd_d2.method import METHODS, PROFILES

EPILOG = """
Examples (the data set is looked up below $DETECTRON2_DATASETS; datasets/README.md tells how to prepare it):

Train TSDDNet, both stages one after the other, on two CPU cores, with the ROIs of a fifth of the patients:
    $ python tools/train_net.py --data busbra --fold 1 DATASETS.P 0.2 OUTPUT_DIR output/p02

KEY VALUE holds for both stages; to set it for one, train them one by one as below. Go on after an interruption:
    $ python tools/train_net.py --data busbra --fold 1 --resume DATASETS.P 0.2 OUTPUT_DIR output/p02

Train on all patients but a tenth, which validates, once the folds have told what that is worth:
    $ python tools/train_net.py --data busbra --fold all OUTPUT_DIR output/all

Train another method, or the first stage alone:
    $ python tools/train_net.py --method retinanet --data busbra --fold 1 DATASETS.P 0.2
    $ python tools/train_net.py --method tsddnet_stage1 --data busbra --fold 1 DATASETS.P 0.2 OUTPUT_DIR output/stage1

Train the second stage on the networks and the ROIs of a first-stage run:
    $ python tools/train_net.py --data busbra --fold 1 DATASETS.P 0.2 MODEL.WEIGHTS output/stage1 OUTPUT_DIR output/stage2

Evaluate a checkpoint, or a model file at its own threshold, on another data set:
    $ python tools/train_net.py --eval-only MODEL.WEIGHTS output/p02/model_final.pth \\
        DATASETS.TEST "('busi_all',)" OUTPUT_DIR output/p02_busi

Two processes (on two GPUs, or on the CPU where MODEL.DEVICE is cpu), with the paper's values:
    $ python tools/train_net.py --profile paper --data busbra --fold 1 --num-gpus 2 OUTPUT_DIR output/two_processes
"""


def main(args):
    runs = configurations(args)
    for cfg in runs:
        for name in data_sets(cfg, training=not args.eval_only):
            ensure_registered(name)  # a process that was spawned knows none; the data themselves are checked before
    keep_freed_memory()
    if args.eval_only:
        return evaluate(runs[0], args)
    *earlier, last = runs
    for cfg in earlier:
        if not (args.resume and is_finished(cfg)):
            train(cfg, args)
    if args.resume and is_finished(last):
        return finished(last, args)
    if earlier:  # only now is there what it starts from
        check_network(last, resume=args.resume)
    return train(last, args)


def finished(cfg, args):
    """The results of a run that has no iteration left; its files stay as they are."""
    results, table = (os.path.join(cfg.OUTPUT_DIR, name) for name in RESULTS)
    if comm.is_main_process():
        print("".join(f"warning: {x}\n" for x in dict.fromkeys(args.warnings)), end="", file=sys.stderr)
        print(f"{cfg.OUTPUT_DIR} is finished; --eval-only evaluates it anew. {table}:")
        with open(table, encoding="utf-8") as file:
            print(file.read())
    return read_json(results)


def train(cfg, args):
    if comm.is_main_process():
        # before anything is written: with another configuration earlier results would pass for this one's
        (remove_run if args.overwrite else remove_leftovers)(cfg.OUTPUT_DIR)
    comm.synchronize()  # the other ranks open log files of their own there
    set_up(cfg, args)
    trainer = trainer_of(cfg)(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()
    return evaluate_run(cfg, args.warnings)


def evaluate(cfg, args):
    folder = os.path.join(cfg.OUTPUT_DIR, "inference")
    # a training run's own config.yaml and log stay as they are
    set_up(with_output_dir(cfg, folder), args)
    model = build_model(cfg)
    weights = load_trained_weights(model, cfg, args.resume)
    # a model file has an operating point of its own
    results = evaluate_model(cfg, model, folder, read_checkpoint(weights).get("threshold", 0.5))
    if comm.is_main_process():
        write_json(os.path.join(folder, "results.json"), results)
        print(results_table({weights: results}))
    return results


def set_up(cfg, args):
    """Detectron2's ``default_setup``, and this package's messages in the same ``log.txt``, those of the checks too."""
    end_logs()
    default_setup(cfg, args)
    logger = setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="tsdd_d2")
    for name in ("detectron2", "tsdd_d2"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(WithoutTraceback())
    logging.raiseExceptions = False  # a log that cannot be written, as on a full disk, is no error of its own
    threading.excepthook = without_traceback  # nor TensorBoard's, whose thread tells this one
    for warning in dict.fromkeys(args.warnings):
        logger.warning(warning)


def end_logs():
    """So that the log of a run before, in this process, does not take in what follows."""
    for name in ("detectron2", "fvcore", "tsdd_d2"):
        for handler in list(logging.getLogger(name).handlers):
            logging.getLogger(name).removeHandler(handler)
    setup_logger.cache_clear()  # or a folder that had a log gets none


def with_output_dir(cfg, output_dir):
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = output_dir
    cfg.freeze()
    return cfg


def configurations(args):
    """What is trained one after the other: the run that the method starts from, unless MODEL.WEIGHTS names one, and its own."""
    method = args.method or (None if args.config_file else "tsddnet")
    return _with_first_run(args, method, args.opts)


def _with_first_run(args, method, opts):
    def load(*more):
        return load_config(
            args.config_file, [*opts, *more], method=method, profile=args.profile, data=args.data, fold=args.fold
        )

    cfg = load()
    first = METHODS[method].starts_from if method else None
    if first is None or cfg.MODEL.WEIGHTS or args.eval_only:
        return [cfg]
    if args.config_file:
        raise InputError(
            f"--config-file {args.config_file} is of one run, and {method} goes on from one of {first}: train that first, with a "
            "file of its own, and name it in MODEL.WEIGHTS."
        )
    folder = os.path.join(cfg.OUTPUT_DIR, first)
    return [*_with_first_run(args, first, [*opts, "OUTPUT_DIR", folder]), load("MODEL.WEIGHTS", folder)]


def parse(argv):
    parser = default_argument_parser(EPILOG)
    parser.allow_abbrev = False
    add = parser.add_argument
    add(
        "--overwrite",
        action="store_true",
        help="start again in an OUTPUT_DIR that holds a run; all that the run wrote is removed",
    )
    add("--method", metavar="NAME", help="what is trained (default: tsddnet, unless there is a --config-file)")
    add("--profile", choices=PROFILES, help="small compute, or the paper's values (default: cpu)")
    add("--data", metavar="NAME", help="the data set, a folder below $DETECTRON2_DATASETS")
    add(
        "--fold",
        type=fold_or_all,
        metavar="K",
        help="its fold: <NAME>_fold<K>_train, _val and _test (default: 1); all: no test",
    )
    args = parser.parse_args(argv)
    if args.overwrite and (args.resume or args.eval_only):
        parser.error("--overwrite removes the run that --resume and --eval-only need")
    if args.num_gpus < 0 or args.num_machines < 1 or not 0 <= args.machine_rank < args.num_machines:
        parser.error("--num-gpus must be 0 or more, --num-machines 1 or more, and --machine-rank below it")
    if args.fold is not None and args.data is None:
        parser.error("--fold is of a --data set")
    if args.config_file and args.profile:
        parser.error("--profile chooses a file, and --config-file names one")
    args.profile = args.profile or "cpu"
    args.fold = args.fold or 1
    return args


def fold_or_all(text: str) -> Union[int, str]:
    """The value of --fold."""
    if text == ALL:
        return ALL
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"1 or more, or {ALL}, not {text}")
    return int(text)


@reports_errors
def run(argv=None) -> int:
    if ENDS_WITH in os.environ:
        end_with(int(os.environ.pop(ENDS_WITH)))
    args = parse(argv)
    with kept_warnings() as args.warnings:
        try:
            runs = configurations(args)
            for number, cfg in enumerate(runs):
                check_run(
                    cfg,
                    training=not args.eval_only,
                    num_processes=max(1, args.num_gpus * args.num_machines),  # 0 GPUs are one process
                    resume=args.resume,
                    overwrite=args.overwrite,
                    weights_come_later=number > 0,
                )
                if args.resume and not args.eval_only:
                    warn_of_other_evaluation_data(cfg)
        except InputError:
            print("".join(f"warning: {x}\n" for x in dict.fromkeys(args.warnings)), end="", file=sys.stderr)
            raise
    if runs[0].MODEL.DEVICE == "cpu":
        # launch() lets its processes talk by NCCL, which has no tensors on the CPU, wherever they see a GPU
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    in_ranks = args.num_gpus * args.num_machines > 1
    with contextlib.ExitStack() as stack:
        if not args.eval_only and args.machine_rank == 0:
            for cfg in runs:
                stack.enter_context(lock_folder(cfg.OUTPUT_DIR))
        stack.enter_context(one_message())
        launch(
            functools.partial(as_rank, main, os.getpid()) if in_ranks else main,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    return 0


if __name__ == "__main__":
    sys.exit(run())
