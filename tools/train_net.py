#!/usr/bin/env python
"""Trains and evaluates TSDDNet, with the conventions of Detectron2's own tools/train_net.py."""

import os
import sys

from detectron2.engine import default_argument_parser, default_setup, launch
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

import tsdd_d2  # noqa: F401 (registers our parts)
from tsdd_d2.data import ensure_registered
from tsdd_d2.data.files import write_json
from tsdd_d2.engine import TRAINERS, load_trained_weights
from tsdd_d2.engine.final_evaluation import evaluate_model, evaluate_run
from tsdd_d2.engine.memory import keep_freed_memory
from tsdd_d2.engine.run_folder import remove_run
from tsdd_d2.engine.setup import (
    check_config,
    check_data,
    check_network,
    check_output_dir,
    data_sets,
    load_config,
)
from tsdd_d2.errors import InputError
from tsdd_d2.evaluation.tables import results_table

EPILOG = """
Examples (the data set is looked up below $DETECTRON2_DATASETS; datasets/README.md tells how to prepare it):

Train the first stage on two CPU cores, with the ROIs of a fifth of the patients:
    $ python tools/train_net.py --config-file configs/tsdd_stage1_cpu.yaml DATASETS.P 0.2 OUTPUT_DIR output/p02

Go on after an interruption:
    $ python tools/train_net.py --config-file configs/tsdd_stage1_cpu.yaml --resume DATASETS.P 0.2 OUTPUT_DIR output/p02

Train the second stage on the networks and the ROIs of a first-stage run:
    $ python tools/train_net.py --config-file configs/tsdd_stage2_cpu.yaml DATASETS.P 0.2 \\
        MODEL.WEIGHTS output/p02 OUTPUT_DIR output/p02_stage2

Evaluate a checkpoint on another data set:
    $ python tools/train_net.py --config-file configs/tsdd_stage1_cpu.yaml --eval-only \\
        MODEL.WEIGHTS output/p02/model_final.pth DATASETS.TEST "('busi_fold1_test',)" OUTPUT_DIR output/p02_busi

Evaluate the last checkpoint of a run:
    $ python tools/train_net.py --config-file configs/tsdd_stage1_cpu.yaml --eval-only --resume OUTPUT_DIR output/p02

Two processes (on two GPUs, or on the CPU where MODEL.DEVICE is cpu):
    $ python tools/train_net.py --config-file configs/tsdd_stage1_cpu.yaml --num-gpus 2 OUTPUT_DIR output/two_processes
"""


def main(args):
    cfg = load_config(args.config_file, args.opts)
    for name in data_sets(cfg, training=not args.eval_only):
        ensure_registered(name)  # a process that was spawned knows none; the data themselves are checked before
    keep_freed_memory()
    if args.eval_only:
        # a training run's own config.yaml and log stay as they are
        set_up(cfg_with_output_dir(cfg, os.path.join(cfg.OUTPUT_DIR, "inference")), args)
        model = build_model(cfg)
        weights = load_trained_weights(model, cfg, args.resume)
        results = evaluate_model(cfg, model, os.path.join(cfg.OUTPUT_DIR, "inference"))
        if comm.is_main_process():
            write_json(os.path.join(cfg.OUTPUT_DIR, "inference", "results.json"), results)
            print(results_table({weights: results}))
        return results
    if args.overwrite:
        if comm.is_main_process():
            remove_run(cfg.OUTPUT_DIR)
        comm.synchronize()  # the other ranks open log files of their own there
    set_up(cfg, args)
    trainer = TRAINERS[cfg.MODEL.META_ARCHITECTURE](cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()
    return evaluate_run(cfg)


def set_up(cfg, args):
    """Detectron2's ``default_setup``, and this package's messages in the same ``log.txt``."""
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="tsdd_d2")


def cfg_with_output_dir(cfg, output_dir):
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = output_dir
    cfg.freeze()
    return cfg


def run(argv=None) -> int:
    parser = default_argument_parser(EPILOG)
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="start again in an OUTPUT_DIR that holds a run; all that the run wrote is removed",
    )
    args = parser.parse_args(argv)
    if args.overwrite and (args.resume or args.eval_only):
        parser.error("--overwrite removes the run that --resume and --eval-only need")
    # without launch(), so that an error of a training keeps its traceback
    try:
        cfg = load_config(args.config_file, args.opts)
        # evaluation takes no minibatches; 0 GPUs are one process
        num_processes = 1 if args.eval_only else max(1, args.num_gpus * args.num_machines)
        check_config(cfg, num_processes, training=not args.eval_only)
        check_output_dir(cfg, args.resume, args.overwrite, training=not args.eval_only)
        check_data(cfg, training=not args.eval_only)
        check_network(cfg, training=not args.eval_only, resume=args.resume)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if cfg.MODEL.DEVICE == "cpu":
        # launch() lets its processes talk by NCCL, which has no tensors on the CPU, wherever they see a GPU
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    launch(
        main,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )
    return 0


if __name__ == "__main__":
    sys.exit(run())
