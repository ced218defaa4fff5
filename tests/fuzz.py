"""Damaged files of every kind that is read: each must be refused in one message, or be used, and soon.

python -m tests.fuzz --seed 0 --files 10000

An input is a right one with one to three changes of its values, names, order, length or bytes. The counts are printed, and
of each traceback its last line and the folder that holds the input. The exit code is 1 after a traceback or a hang.
"""

import argparse
import collections
import contextlib
import copy
import io
import json
import logging
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import torch
import yaml

SECONDS = 20  # of a processor: an input that takes longer hangs, however busy the machine is
MOST_SECONDS = 300  # of the clock: one that waits for something
ACCEPTED, REFUSED, TRACEBACK, HANG = "accepted", "refused", "tracebacks", "hangs"

# What stands where something else should.
ODD = (
    None, True, False, 0, -1, 1, 2, 3, 7, 0.5, -0.5, 1e308, -1e308, float("nan"), float("inf"), 2**31, 2**53, -(2**63), 2**64,
    10**400, "", " ", "0", "1", "nope", "\0", "\ud800", "ä", "a\nb", "../..", "/", "${HOME}", "!!python/object:os.system", "[",
    "(1, (2,", "()", "x" * 5000, [], {}, [[]], [{}], {"": None}, [None], [1, 2], (3,), {"a": {"b": [1]}}, [0.0] * 4,
)  # fmt: skip


class Kind(NamedTuple):
    """
    Attributes:
        content: of a right file: plain values, which `dump` writes, or bytes.
        read: everything that the package does with the file at a path.
        weight: how many inputs it gets beside the others; fewer where reading takes long.
    """

    content: Any
    dump: Callable[[Any], bytes]
    read: Callable[[str], Any]
    name: str = "file"
    weight: int = 10


class Hang(BaseException):
    """No Exception: nothing shall catch it on its way."""


def mutated(right: Any, dump: Callable[[Any], bytes], rng: random.Random) -> bytes:
    """A right file with one to three changes, of its values or of its bytes."""
    by_bytes = isinstance(right, bytes) or rng.random() < 0.3
    if not by_bytes:
        content = copy.deepcopy(right)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            content = _with_another_value(content, rng)
        with contextlib.suppress(RecursionError):  # of the writer: nested too deeply
            return dump(content)
    data = right if isinstance(right, bytes) else dump(right)
    for _ in range(rng.randint(1, 3)):
        data = _with_other_bytes(data, rng)
    return data


def _with_another_value(content: Any, rng: random.Random) -> Any:
    places = list(_places(content))
    if not places or rng.random() < 0.03:
        return rng.choice(ODD)
    # one of few names as often as one of many entries
    node, key = rng.choice(rng.choice(list(_by_name(places).values())))
    change = rng.randrange(14)
    if change <= 2:
        node[key] = rng.choice(ODD)
    elif change >= 8:
        node[key] = _nearby(node[key], rng)
    elif change == 3:
        del node[key]
    elif change == 4:
        other, place = rng.choice(places)
        node[key] = copy.deepcopy(other[place])
    elif change == 5:
        node[key] = [node[key]] if rng.random() < 0.5 else {"value": node[key]}
    elif change == 6:
        for _ in range(rng.choice((3, 70, 200))):
            node[key] = [node[key]]
    elif isinstance(node, dict):
        node[rng.choice(("", "id", "nope", "\0", 3, None, True))] = node.pop(key)
    else:
        node.append(copy.deepcopy(node[key]))
    return content


def _nearby(value: Any, rng: random.Random) -> Any:
    """Another value of the same kind, or the same in another type."""
    if isinstance(value, bool):
        return rng.choice((not value, int(value), str(value)))
    if isinstance(value, (int, float)) and abs(value) < 2**53:
        return rng.choice((-value, value + 1, value - 1, value * 2, value / 2, value * 1e6, float(value), str(value)))
    if isinstance(value, str):
        return rng.choice(
            (value + " ", value.upper(), value[:-1], value * 2, value + "\u200b", [value], value.encode("utf-8", "replace"))
        )
    if isinstance(value, torch.Tensor):
        return rng.choice(
            (value.double(), value.flatten()[:1], value.flatten(), value * float("nan"), value.tolist(), value.bool())
        )
    return list(value) * 2 if isinstance(value, (list, tuple)) else value


def _places(content: Any):
    stack = [content]
    while stack:
        node = stack.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            yield node, key
            stack.append(node[key])


def _by_name(places: List[Tuple[Any, Any]]) -> Dict[str, List[Tuple[Any, Any]]]:
    found = collections.defaultdict(list)
    for node, key in places:
        found[str(key) if isinstance(node, dict) else "entry"].append((node, key))
    return found


def _with_other_bytes(data: bytes, rng: random.Random) -> bytes:
    start = rng.randint(0, len(data))
    end = min(len(data), start + rng.choice((0, 1, 2, 10, 1000)))
    change = rng.randrange(7)
    if change == 0:
        return data[:start]
    if change == 1:
        return data[:start] + data[end:]
    if change == 2:
        return data[:start] + data[start:end] * 3 + data[end:]
    if change == 3:
        return data[:start] + rng.randbytes(end - start) + data[end:]
    if change == 4:
        return data[:start] + rng.choice((b"\xff", b"\0", b"[", b"{", b'"', b"\n", b"&a [*a]", b"NaN", b"- ")) + data[end:]
    if change == 5:
        return rng.choice((b"", b"\xef\xbb\xbf" + data, data.decode("latin-1").encode("utf-16"), data + data))
    return rng.choice((b"[", b"{", b'{"a":', b"- ", b"[[", b"\n")) * rng.choice((10, 1000, 20_000))


def dump_json(content: Any) -> bytes:
    return json.dumps(content, skipkeys=True, default=repr).encode("utf-8")


def dump_yaml(content: Any) -> bytes:
    return yaml.dump(content).encode("utf-8", "replace")


def dump_torch(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def dump_lines(content: Any) -> bytes:
    lines = content if isinstance(content, list) else [content]
    return b"".join(dump_json(x) + b"\n" for x in lines)


def dump_words(content: Any) -> bytes:
    """The words of a command line, one on a line."""
    return "\n".join(map(str, content if isinstance(content, list) else [content])).encode("utf-8", "replace")


def kinds(folder: pathlib.Path) -> Dict[str, Kind]:
    """Every kind of file, beginning with right ones; `folder` is empty, and holds a data set and a run afterwards."""
    from detectron2.data import MetadataCatalog
    from tsdd_d2.config_values import RANGES
    from tsdd_d2.data import ensure_registered
    from tsdd_d2.data.bbui import load_bbui_json
    from tsdd_d2.data.files import read_json, write_json
    from tsdd_d2.data.folds import keep_rois
    from tsdd_d2.data.validation import validate_bbui
    from tsdd_d2.engine.checkpoint import TSDDCheckpointer, read_checkpoint, require_resumable
    from tsdd_d2.engine.checks import build_network, check_config
    from tsdd_d2.engine.configuration import load_config
    from tsdd_d2.engine.run_folder import RunRecord, read_rounds, read_run_config
    from tsdd_d2.engine.seen_patients import check_independence
    from tsdd_d2.errors import InputError
    from tsdd_d2.evaluation import load_youden_threshold
    from tsdd_d2.experiments.archive import add_to_archive, list_folder
    from tsdd_d2.experiments.run import Run
    from tsdd_d2.experiments.training import train_run
    from tsdd_d2.inference.model_file import load_model, save_model
    from tsdd_d2.refinement import round_history
    from tsdd_d2.refinement.vetoes import apply_veto_file, veto
    from tsdd_d2.review import write_review_page

    from .conftest import TINY_CONFIG, make_tiny_dataset
    from .data.test_coco_readers import average_precision

    make_tiny_dataset(folder / "tiny")
    os.environ["DETECTRON2_DATASETS"] = str(folder)
    for split in ("train", "val", "test"):
        ensure_registered(f"tiny_fold1_{split}")
    train = "tiny_fold1_train"
    root, train_json = MetadataCatalog.get(train).image_root, MetadataCatalog.get(train).json_file
    bbui = read_json(train_json)
    cfg = load_config(TINY_CONFIG, ["OUTPUT_DIR", str(folder / "run")])

    network = build_network(cfg)
    small = small_trainer(cfg)
    small.checkpointer.save("model_final", iteration=9)
    checkpoint = read_checkpoint(os.path.join(cfg.OUTPUT_DIR, "model_final.pth"))
    refined = copy.deepcopy(bbui)
    for annotation in refined["annotations"][:4]:
        annotation.update(roi_source="refined", manual_bbox=annotation["bbox"], roi_round=1, roi_score=0.8)
        annotation.update(roi_score_before=0.5, bbox=[1.0, 2.0, 20.0, 30.0])
    refined["annotations"][5].update(roi_source="pseudo", roi_round=1, roi_score=0.75)
    refined["info"] = {"round": 1, "statistics": {"replaced_fa": 3, "iou_with_manual": 0.5}}
    rois = folder / "run" / "rois"
    write_json(rois / "round_00.json", bbui)
    write_json(rois / "round_01.json", refined)
    save_model(str(folder / "model.pth"), cfg, network, threshold=0.5, training_set={"name": train, "sha256": "0" * 64})
    model_file = torch.load(folder / "model.pth", weights_only=True)
    vetoes = [veto(refined["images"][i], refined["annotations"][i]) for i in (0, 5)]
    with open(TINY_CONFIG, encoding="utf-8") as file:
        tiny = {
            **yaml.safe_load(file),
            "_BASE_": os.path.join(os.path.dirname(TINY_CONFIG), "../configs/tsdd_stage1_cpu.yaml"),
        }
    run = Run(str(folder / "runs"), "retinanet", "tiny", "cpu", 1, 0.5, 0)
    image = {"image_id": 21, "file_name": "images/021.png", "patient_id": "p10", "label": 0, "malignancy": 0.1}
    result = {
        **run.descriptor, "overrides": [], "seconds": 3.0, "versions": {"torch": "2"}, "git_revision": None,
        "youden_threshold": 0.4, "annotation_sha256": {"tiny_fold1_test": "0" * 64},
        "predictions": {"tiny_fold1_test": [{**image, "box": [1.0, 2, 3, 4], "score": 0.1, "roi": None}] * 3},
    }  # fmt: skip
    diagnosis = {"youden_threshold": 0.4, "threshold": 0.5, "predictions": [{**image, "box": None, "score": None}] * 2}
    reports = {
        "results.json": {},
        "inference/diagnosis_tiny_fold1_val.json": diagnosis,
        "inference/model_final/found_box/diagnosis_tiny_fold1_test.json": diagnosis,
    }
    attempt = {"started": 1.0, "host": "a", "seconds": 2.0, "exit_code": 0, "versions": {}, "git_revision": None}
    experiment = {**run.descriptor, "attempts": [attempt, attempt], "overrides": []}
    reports["experiment.json"] = experiment
    add_to_archive(str(folder / "kept.tar.xz"), {f"{run.id}/predictions.json": dump_json(result)})

    def read_annotation(path):
        validate_bbui(path, root, decode_images=False)
        keep_rois(read_json(path), 0.5)
        if load_bbui_json(path, root):
            precision = average_precision(path, root)  # nan without a ROI
            assert not precision < 99.9, f"COCO's AP of the file's own boxes is {precision}"

    def read_configuration(path):
        check_config(load_config(path))

    def read_options(path):
        with open(path, encoding="utf-8", errors="replace") as file:
            check_config(load_config(TINY_CONFIG, file.read().split("\n")))

    def read_record(path):
        RunRecord.read(os.path.dirname(path))

    def read_round(path):
        for name in ("round_00.json", "round_01.json"):
            if not path.endswith(name):
                shutil.copy(rois / name, os.path.join(os.path.dirname(path), name))
        rounds = read_rounds(os.path.dirname(os.path.dirname(path)))
        round_history(rounds, bbui)
        write_review_page(f"{path}.html", rounds, train, root)

    def read_weights(path):
        read_checkpoint(path)
        require_resumable(path)
        small_trainer(cfg).checkpointer.load(path)

    def read_model(path):
        load_model(path, "cpu")
        check_independence(path, ["tiny_fold1_test"])

    def read_threshold(path):
        try:
            load_youden_threshold(path)
        except ValueError as error:  # its callers say for which run
            raise InputError(str(error)) from error

    def read_result(path):
        found = run._replace(output=os.path.dirname(os.path.dirname(path)))
        return found.status, found.result, found.record

    def read_attempts(path):
        """As where what started the training process was lost, and the process went on to its end."""
        found = run._replace(output=os.path.dirname(path).partition(run.id)[0])
        for name, content in reports.items():
            if not os.path.exists(os.path.join(found.folder, name)):
                write_json(os.path.join(found.folder, name), content)
        train_run(found, {})
        return found.status, found.result

    def read_archive(path):
        return list_folder(path), run._replace(output=path).result

    def read_lines(path):
        predict.finished_lines(os.path.dirname(path), str(folder))

    def read_settings(path):
        predict._settings_of(os.path.dirname(path))

    def read_tag(path):
        shutil.copy(folder / "run" / "model_final.pth", os.path.dirname(path))
        TSDDCheckpointer(torch.nn.Linear(1, 1), os.path.dirname(path)).get_checkpoint_file()

    predict = _tool("predict")
    line = {"file_name": "a.png", "frame": None, "picture": "a.png", "box": [1, 2, 3, 4], "malignancy": 0.5}
    frame = {**line, "file_name": "tiny/images/021.png", "frame": 1}
    pairs = [x for key in RANGES for x in (key, _value(cfg, key))]
    return {
        "annotation": Kind(bbui, dump_json, read_annotation, weight=30),
        "configuration": Kind(tiny, dump_yaml, read_configuration, "config.yaml", 20),
        "options": Kind(pairs, dump_words, read_options, weight=10),
        "config.yaml of a run": Kind(
            yaml.safe_load(cfg.dump()), dump_yaml, lambda x: read_run_config(os.path.dirname(x)), "config.yaml", 4
        ),
        "run.json": Kind(RunRecord.of(cfg)._asdict(), dump_json, read_record, "run.json"),
        "last_checkpoint": Kind(b"model_final.pth", bytes, read_tag, "last_checkpoint", 3),
        "round 0": Kind(bbui, dump_json, read_round, "run/rois/round_00.json"),
        "round 1": Kind(refined, dump_json, read_round, "run/rois/round_01.json"),
        "checkpoint": Kind(checkpoint, dump_torch, read_weights, "model.pth", 5),
        "model file": Kind(model_file, dump_torch, read_model, "model.pth", 1),
        "vetoes": Kind(
            {"data_set": train, "vetoes": vetoes}, dump_json, lambda x: apply_veto_file(refined, x, train), weight=10
        ),
        "threshold": Kind(diagnosis, dump_json, read_threshold, weight=3),
        "predictions.json": Kind(result, dump_json, read_result, f"{run.id}/predictions.json"),
        "experiment.json": Kind(experiment, dump_json, read_attempts, f"{run.id}/experiment.json"),
        **{
            f"report {i}": Kind(diagnosis, dump_json, read_attempts, f"{run.id}/{name}", 3)
            for i, name in enumerate(list(reports)[1:3])
        },
        "archive": Kind((folder / "kept.tar.xz").read_bytes(), bytes, read_archive, "kept.tar.xz", 5),
        "predictions.jsonl": Kind([line, frame], dump_lines, read_lines, "predictions.jsonl", 5),
        "settings.json": Kind({"model_sha256": "0", "folder": "/"}, dump_json, read_settings, "settings.json", 3),
    }


def small_trainer(cfg: Any) -> Any:
    """A trainer of two weights with the hooks that keep something in a checkpoint."""
    from detectron2.engine import DefaultTrainer, SimpleTrainer, TrainerBase, hooks
    from tsdd_d2.engine.checkpoint import TSDDCheckpointer
    from tsdd_d2.engine.hooks import ResumableBestCheckpointer, WeightAveraging

    class Small(DefaultTrainer):
        def __init__(self):
            TrainerBase.__init__(self)
            model = torch.nn.Linear(2, 1)
            optimizer = torch.optim.Adam(model.parameters())
            model(torch.zeros(1, 2)).sum().backward()
            optimizer.step()
            self._trainer = SimpleTrainer(model, None, optimizer)
            self.scheduler = self.build_lr_scheduler(cfg, optimizer)
            self.checkpointer = TSDDCheckpointer(model, cfg.OUTPUT_DIR, trainer=self)
            self.iter = 9
            best = ResumableBestCheckpointer(1, self.checkpointer, "diagnosis/AUC")
            best.best_metric, best.best_iter = 0.5, 4
            self.register_hooks([hooks.LRScheduler(optimizer, self.scheduler), WeightAveraging(model, 0.9), best])

    return Small()


def _value(cfg: Any, key: str) -> Any:
    for name in key.split("."):
        cfg = cfg[name]
    return cfg


def _tool(name: str) -> Any:
    import importlib.util

    path = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tools", f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"tool_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def outcome(kind: Kind, path: str) -> str:
    """What comes of reading a file; a traceback is printed."""
    from tsdd_d2.errors import InputError

    def ring(*_):
        raise Hang

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, SECONDS), signal.SIGALRM: (signal.ITIMER_REAL, MOST_SECONDS)}
    before = {x: signal.signal(x, ring) for x in timers}
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind.read(path)
        return ACCEPTED
    except InputError as error:
        if not str(error).strip() or len(str(error)) > 100_000:
            print(f"a message of {len(str(error))} characters")
            return TRACEBACK
        return REFUSED
    except Hang:
        return HANG
    except Exception:
        print("".join(traceback.format_exc().splitlines(keepends=True)[-13:]), end="")
        return TRACEBACK
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def fuzz(files: int, seed: int, folder: pathlib.Path, only: str = "") -> Dict[str, collections.Counter]:
    """
    Args:
        folder: an empty one; the inputs that end in a traceback or a hang stay there.
        only: the name of one kind.
    Returns:
        kind -> what came of its files.
    """
    found = {name: kind for name, kind in kinds(folder).items() if only in ("", name)}
    counts = {name: collections.Counter() for name in found}
    for name, kind in found.items():
        path = folder / "right" / name / kind.name
        path.parent.mkdir(parents=True)
        path.write_bytes(kind.content if isinstance(kind.content, bytes) else kind.dump(kind.content))
        kind.read(str(path))  # or every input would be refused for the same reason
    rng = random.Random(seed)
    names = rng.choices(list(found), [x.weight for x in found.values()], k=files)
    for number, name in enumerate(names):
        own = random.Random(f"{seed} {number}")  # an input by itself can be made again
        kind = found[name]
        path = folder / "inputs" / str(number) / kind.name
        path.parent.mkdir(parents=True)
        path.write_bytes(mutated(kind.content, kind.dump, own))
        result = outcome(kind, str(path))
        counts[name][result] += 1
        if result in (TRACEBACK, HANG):
            print(f"{result}: {name}, {path}", flush=True)
        else:
            shutil.rmtree(folder / "inputs" / str(number))
    return counts


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", default="", help="one kind of file alone")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    start = time.time()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="fuzz_"))
    counts = fuzz(args.files, args.seed, folder, args.kind)
    total = sum(counts.values(), collections.Counter())
    columns = (ACCEPTED, REFUSED, TRACEBACK, HANG)
    for name, found in {**counts, "all": total}.items():
        print(f"{name:22}" + "".join(f"{found[x]:8} {x}" for x in columns))
    print(f"{args.files} files in {time.time() - start:.0f} s")
    failed = bool(total[TRACEBACK] or total[HANG])
    if not failed:
        shutil.rmtree(folder)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
