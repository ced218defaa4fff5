"""What is refused of the values of a configuration."""

import contextlib
from typing import Iterator, Tuple

from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.registry import Registry

from ...config_values import value_problems
from ...errors import BBUIError, InputError
from ...method import method_of
from ...modeling.contract import ScoresCandidates, supports
from ...modeling.fnet import DNET_POOLING_REGISTRY
from ...modeling.ranking import RANKING_REGISTRY
from ...refinement import SELECTION_RULE_REGISTRY, build_selection_rule
from ...refinement.selection import check_rule
from ..trainer import OPTIMIZER_REGISTRY, trainer_of
from .data import keys_of_data_sets


def check_config(cfg, num_processes: int = 1, training: bool = True) -> None:
    """Raises InputError with every problem of the configuration's values, for training in so many processes."""
    problems = value_problems(cfg)
    for requirements in (
        _requirements_of_data(cfg, training),
        _requirements_of_training(cfg, num_processes, _batch_unit(cfg) if training else 1),
        _requirements_of_networks(cfg),
        _requirements_of_refinement(cfg),
        _requirements_of_evaluation(cfg),
    ):
        try:
            problems += [message for fulfilled, message in requirements if not fulfilled]
        except (TypeError, ValueError) as error:  # of values that are told above
            if not problems:
                raise InputError(f"The configuration cannot be run: {error}") from error
    if problems:
        raise BBUIError("The configuration cannot be run:", problems)
    if cfg.REFINEMENT.ENABLED:
        check_rule(build_selection_rule(cfg))  # a rule knows what its own keys may be


# Whether it is fulfilled, and what is said if not.
Requirements = Iterator[Tuple[bool, str]]


def _requirements_of_data(cfg, training: bool) -> Requirements:
    yield len(cfg.DATASETS.TRAIN) == 1, "DATASETS.TRAIN must name one training set."
    yield len(cfg.DATASETS.VAL) <= 1, "DATASETS.VAL must name one validation set or none."
    for name, keys in keys_of_data_sets(cfg).items():
        yield not training or len(keys) == 1, f"{name} stands in {' and '.join(keys)}: they must not share patients."
    range_is_one = cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING != "range" or len(cfg.INPUT.MIN_SIZE_TRAIN) == 2
    yield range_is_one, "INPUT.MIN_SIZE_TRAIN must be two sizes with INPUT.MIN_SIZE_TRAIN_SAMPLING range."


def _batch_unit(cfg) -> int:
    with contextlib.suppress(InputError):  # of a method that is not known, which is told with the networks
        return trainer_of(cfg).batch_unit(cfg)
    return 1


def _requirements_of_training(cfg, num_processes: int, batch_unit: int) -> Requirements:
    solver = cfg.SOLVER
    of_method = f" times {batch_unit}, for {cfg.METHOD}" if batch_unit > 1 else ""
    yield (
        solver.IMS_PER_BATCH > 0 and solver.IMS_PER_BATCH % (num_processes * batch_unit) == 0,
        f"SOLVER.IMS_PER_BATCH must be a multiple of the number of processes ({num_processes}){of_method}, not "
        f"{solver.IMS_PER_BATCH}.",
    )
    cnet = cfg.MODEL.CNET
    yield (
        cnet.NORM != "BN" or cnet.INPUT_SIZE > 32 or solver.IMS_PER_BATCH != num_processes,
        f"SOLVER.IMS_PER_BATCH must be 2 or more for each process with MODEL.CNET.NORM BN and INPUT_SIZE {cnet.INPUT_SIZE}, of "
        "which the last layer of C-Net has one pixel.",
    )
    yield (
        solver.OPTIMIZER in OPTIMIZER_REGISTRY,
        f"SOLVER.OPTIMIZER must be one of {names_in(OPTIMIZER_REGISTRY)}, not {solver.OPTIMIZER}.",
    )
    yield (
        not solver.RESCALE_INTERVAL or solver.WARMUP_ITERS < solver.MAX_ITER,
        "SOLVER.WARMUP_ITERS must be below SOLVER.MAX_ITER with SOLVER.RESCALE_INTERVAL.",
    )
    yield (
        solver.LR_SCHEDULER_NAME != "WarmupCosineLR" or solver.BASE_LR_END <= solver.BASE_LR,
        f"SOLVER.BASE_LR_END must not be above SOLVER.BASE_LR, {solver.BASE_LR}, not {solver.BASE_LR_END}.",
    )


def _requirements_of_networks(cfg) -> Requirements:
    try:
        method = method_of(cfg)
        yield (
            method.architecture in META_ARCH_REGISTRY,
            f"METHOD {method.name} names {method.architecture}, which is not in Detectron2's META_ARCH_REGISTRY.",
        )
    except InputError as error:
        yield False, str(error)
    yield (
        cfg.MODEL.DNET.RANKING in RANKING_REGISTRY,
        f"MODEL.DNET.RANKING must be one of {names_in(RANKING_REGISTRY)}, not {cfg.MODEL.DNET.RANKING}.",
    )
    fnet = cfg.MODEL.FNET
    yield (
        fnet.DNET_POOLING in DNET_POOLING_REGISTRY,
        f"MODEL.FNET.DNET_POOLING must be one of {names_in(DNET_POOLING_REGISTRY)}, not {fnet.DNET_POOLING}.",
    )


def _requirements_of_refinement(cfg) -> Requirements:
    refinement, architecture = cfg.REFINEMENT, cfg.MODEL.META_ARCHITECTURE
    # also without rounds: of the first stage that the second one goes on from
    yield (
        refinement.RULE in SELECTION_RULE_REGISTRY,
        f"REFINEMENT.RULE must be one of {names_in(SELECTION_RULE_REGISTRY)}, not {refinement.RULE}.",
    )
    if not refinement.ENABLED:
        return
    yield supports(architecture, ScoresCandidates), f"{architecture} has no rounds: REFINEMENT.ENABLED must be False."
    for key in ("ROUNDS", "CANDIDATES_PER_ROUND", "IMS_PER_BATCH"):
        yield (
            refinement[key] > 0,
            f"REFINEMENT.{key} must be above 0 with refinement on; REFINEMENT.ENABLED False switches it off.",
        )
    yield (
        0 <= refinement.WARMUP_ITER <= cfg.SOLVER.MAX_ITER - max(refinement.ROUNDS, 1),
        "REFINEMENT.WARMUP_ITER and at least one iteration for each round must fit in SOLVER.MAX_ITER.",
    )


def _requirements_of_evaluation(cfg) -> Requirements:
    yield not cfg.TEST.YOUDEN_THRESHOLD or bool(cfg.DATASETS.VAL), "TEST.YOUDEN_THRESHOLD needs DATASETS.VAL."


def names_in(registry: Registry) -> str:
    """The names of a registry, in the order in which they were registered."""
    return ", ".join(name for name, _ in registry)
