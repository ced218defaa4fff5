"""The optimizer, and what the ranks of a run do together."""

import types

from torch import nn

from detectron2.config import CfgNode
from detectron2.engine import launch
from detectron2.utils import comm
from tsdd_d2.data.files import read_json, write_json
from tsdd_d2.engine import Trainer, final_evaluation


def validate_on_a_rank(folder):
    """Validates a network whose statistics are those of its rank: a mean of 3 on rank 0, of 4 on rank 1."""
    network = nn.BatchNorm1d(1)
    network.running_mean.fill_(3.0 + comm.get_rank())
    final_evaluation.evaluate = lambda cfg, network, name, output_dir: {name: {"mean": network.running_mean.item()}}
    cfg = CfgNode({"DATASETS": {"VAL": ("val",)}, "TEST": {"BOOTSTRAP": 9}, "OUTPUT_DIR": folder})
    trainer = types.SimpleNamespace(cfg=cfg, network=network, test=Trainer.test)
    write_json(f"{folder}/{comm.get_rank()}.json", Trainer.validate(trainer))


def test_detectron2s_keys_for_biases_hold(tiny_cfg):
    tiny_cfg.merge_from_list(["SOLVER.BIAS_LR_FACTOR", 2.0, "SOLVER.WEIGHT_DECAY_BIAS", 0.5])
    optimizer = Trainer.build_optimizer(tiny_cfg, nn.Linear(3, 1))
    groups = {group["params"][0].shape: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups}
    rate, decay = tiny_cfg.SOLVER.BASE_LR, tiny_cfg.SOLVER.WEIGHT_DECAY
    assert groups == {(1, 3): (rate, decay), (1,): (2 * rate, 0.5)}


def test_all_ranks_validate_with_the_statistics_of_rank_0(tmp_path):
    launch(validate_on_a_rank, 2, dist_url="auto", args=(str(tmp_path),))
    assert [read_json(tmp_path / f"{rank}.json") for rank in (0, 1)] == [{"val": {"mean": 3.0}}] * 2
