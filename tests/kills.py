"""A training that is killed again and again, beside one that is not: `python -m tests.kills --seed 0 --kills 40`.

Each start goes on from what the last one left, and is killed at a moment that chance chooses: before or after one of the
operations by which a file appears or goes, or before a step of the training. The last one is left alone. Both folders must
then hold the same files with the same content; times aside, and what each start logs (log.txt, TensorBoard's events).
"""

import argparse
import functools
import json
import os
import pathlib
import random
import re
import runpy
import shutil
import signal
import sys
import tempfile
import traceback
from typing import Any, Dict, List, Tuple, Union

import torch

from .conftest import TINY_CONFIG, make_tiny_dataset

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# a file for each start, or a line
LOGS = re.compile(r"log\.txt|events\.out\.tfevents\..*")
TIMES = {"time", "data_time", "rank_data_time", "eta_seconds"}
OPERATIONS = ("replace", "remove", "fsync", "truncate")


@functools.cache
def tool() -> Dict[str, Any]:
    """The training tool; whoever forks has imported it, so that a start takes no time for it."""
    import torch.utils.tensorboard  # noqa: F401 (otherwise with the first event)

    return runpy.run_path(os.path.join(ROOT, "tools", "train_net.py"))


SMALL = """_BASE_: {tiny}
MODEL:
  BACKBONE: {{NAME: build_retinanet_timm_fpn_backbone, MODEL: test_resnet}}
  CNET: {{BACKBONE: test_resnet}}
"""


def small_config(path: pathlib.Path) -> str:
    """Writes a configuration with networks of half a million weights, whose checkpoints take no time; returns its path."""
    path.write_text(SMALL.format(tiny=TINY_CONFIG))
    return str(path)


def start(folder: str, config_file: str, kill_at: Union[float, str]) -> Tuple[int, str]:
    """
    Starts, or goes on with, the training of a configuration in a process of its own, forked from this one.

    Args:
        kill_at: the number of the operation before which it is killed, from 0 on; after it with a half more; or such as
            "before replace model_final.pth".
    Returns:
        the number of operations, or -1 and where it was killed.
    """
    tool()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = _train(folder, config_file, kill_at, writer)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == -signal.SIGKILL:
        return -1, said
    if status != 0:
        raise RuntimeError(f"The training in {folder} ended with exit code {status}, see {folder}.txt")
    return int(said), "not at all"


def _train(folder: str, config_file: str, kill_at: Union[float, str], pipe: int) -> int:
    output = os.open(f"{folder}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    torch.set_num_threads(1)
    count = 0

    def kill(moment, where):
        if kill_at in (moment, where):
            os.write(pipe, where.encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(function):
        def call(*args, **kwargs):
            nonlocal count
            number, count = count, count + 1
            path = next((os.path.basename(x) for x in args[::-1] if isinstance(x, str)), "")
            what = f"{function.__name__} {path}".strip()
            kill(number, f"before {what}")
            result = function(*args, **kwargs)
            kill(number + 0.5, f"after {what}")
            return result

        return call

    for name in OPERATIONS:
        setattr(os, name, counted(getattr(os, name)))
    from detectron2.engine import SimpleTrainer

    SimpleTrainer.run_step = counted(SimpleTrainer.run_step)
    code = tool()["run"](["--config-file", config_file, "--resume", "OUTPUT_DIR", folder])
    os.write(pipe, str(count).encode())
    return code


def differences(one: str, other: str) -> List[str]:
    """What is in one folder and not in the other, or not with the same content."""
    names = [
        {str(x.relative_to(folder)) for x in pathlib.Path(folder).rglob("*") if x.is_file() and not LOGS.fullmatch(x.name)}
        for folder in (one, other)
    ]
    found = [f"{name} is in one folder alone" for name in sorted(names[0] ^ names[1])]
    return found + [
        f"{name} has another content"
        for name in sorted(names[0] & names[1])
        if not _is_same(*(_content(os.path.join(folder, name), folder) for folder in (one, other)))
    ]


def _content(path: str, folder: str) -> Any:
    """What a file holds but for times and the name of its folder."""
    if path.endswith(".pth"):
        return _without_times(torch.load(path, map_location="cpu", weights_only=True))
    with open(path, encoding="utf-8") as file:
        text = file.read().replace(folder, "OUTPUT_DIR")
    if not path.endswith(".json"):
        return text
    values = [json.loads(x) for x in text.splitlines()] if path.endswith("metrics.json") else json.loads(text)
    return _without_times(values)


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        # the size of metrics.json depends on the digits of the times in it
        return {key: _without_times(x) for key, x in value.items() if key not in TIMES | {"size"}}
    return [_without_times(x) for x in value] if isinstance(value, (list, tuple)) else value


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        # in the same order
        return isinstance(other, dict) and list(one) == list(other) and all(_is_same(one[x], other[x]) for x in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(_is_same, one, other))
    return one == other


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="kills_"))
    make_tiny_dataset(folder / "datasets" / "tiny")
    os.environ["DETECTRON2_DATASETS"] = str(folder / "datasets")
    config_file, whole = small_config(folder / "small.yaml"), str(folder / "whole")
    operations, _ = start(whole, config_file, -1)
    rng, kills, trainings, failed = random.Random(args.seed), 0, 0, False
    while kills < args.kills:
        killed, trainings = str(folder / f"killed_{trainings}"), trainings + 1
        for _ in range(min(args.kills - kills, rng.randint(1, 8))):
            # a start that goes on from a checkpoint has fewer operations, and may come to its end: small numbers are likelier
            _, where = start(killed, config_file, int(rng.triangular(0, 2 * operations, 0)) / 2)
            kills += where != "not at all"
            print(f"killed {where}", flush=True)
        start(killed, config_file, -1)
        found = differences(whole, killed)
        print("  ".join(found) or "the same files as without a kill", flush=True)
        if found:
            failed = True
        else:
            shutil.rmtree(killed)
    print(f"{kills} kills in {trainings} trainings of {operations} operations: {'see above' if failed else 'all the same'}")
    if not failed:
        shutil.rmtree(folder)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
