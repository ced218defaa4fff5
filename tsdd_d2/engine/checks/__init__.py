"""Whatever can be refused of a run is refused before anything is written."""

from .data import check_data, data_sets
from .network import build_network, check_network, check_smallest_images
from .output_dir import check_output_dir
from .values import check_config


def check_run(
    cfg,
    *,
    training: bool = True,
    num_processes: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    weights_come_later: bool = False,
) -> None:
    """All checks of a run of tools/train_net.py, the quick ones first.

    Args:
        training: False for an evaluation alone.
        weights_come_later: MODEL.WEIGHTS is a run that is still to be trained.
    Raises:
        InputError: what is wrong of the values, OUTPUT_DIR, the data sets, the network and its weights.
    """
    check_config(cfg, num_processes if training else 1, training)  # evaluation takes no minibatches
    check_output_dir(cfg, resume, overwrite, training)
    check_data(cfg, training)
    if weights_come_later:
        build_network(cfg)
    else:
        check_network(cfg, training, resume)
    check_smallest_images(cfg, training)
