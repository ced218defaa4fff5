"""The tiny data set and sizes as overrides of a shipped configuration."""


def tiny_overrides(p: float = 0.5, iterations: int = 4) -> list:
    values = {
        "DATASETS.TRAIN": "('tiny_fold1_train',)",
        "DATASETS.VAL": "('tiny_fold1_val',)",
        "DATASETS.TEST": "('tiny_fold1_test',)",
        "DATASETS.P": p,
        "INPUT.MIN_SIZE_TRAIN": "(64,)",
        "INPUT.MIN_SIZE_TEST": 64,
        "INPUT.MAX_SIZE_TRAIN": 96,
        "INPUT.MAX_SIZE_TEST": 96,
        "MODEL.CNET.INPUT_SIZE": 32,
        "DATALOADER.NUM_WORKERS": 0,
        "SOLVER.AMP.ENABLED": False,
        "SOLVER.IMS_PER_BATCH": 4,
        "SOLVER.MAX_ITER": iterations,
        "SOLVER.WARMUP_ITERS": 1,
        "SOLVER.CHECKPOINT_PERIOD": 2,
        "TEST.EVAL_PERIOD": iterations,
        "TEST.BOOTSTRAP": 5,
    }
    return [str(x) for pair in values.items() for x in pair]


def images_trained_on(trainer) -> list:
    """The dataset dicts that a trainer hands to its streams, round 0 of its ROIs being there."""
    seen, streams = [], trainer.streams
    trainer.streams = lambda images: seen.extend(images) or streams(images)
    trainer.before_train()
    return seen
