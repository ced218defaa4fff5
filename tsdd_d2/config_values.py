"""What the values of a configuration may be, and how they come from files and the command line: all problems at once."""

import ast
import copy
import difflib
import math
import os
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Sequence, Tuple

import torch

from detectron2.config import CfgNode

from .data.files import read_yaml
from .errors import BBUIError, InputError, listed

BASE = "_BASE_"
VERSION = 2  # of Detectron2's configurations
MOST_BASES = 20


class Allowed(NamedTuple):
    """
    Attributes:
        holds: whether a value of the key's type is allowed.
        words: what follows "must be" in the message.
    """

    holds: Callable[[Any], bool]
    words: str


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 2**63 and math.isfinite(value)


def at_least(low: float) -> Allowed:
    return Allowed(lambda x: _is_number(x) and x >= low, f"{low} or more")


def above(low: float) -> Allowed:
    return Allowed(lambda x: _is_number(x) and x > low, f"above {low}")


def within(low: float, high: float) -> Allowed:
    return Allowed(lambda x: _is_number(x) and low <= x <= high, f"in [{low}, {high}]")


def from_to_below(low: float, high: float) -> Allowed:
    return Allowed(lambda x: _is_number(x) and low <= x < high, f"in [{low}, {high})")


def one_of(*values: Any) -> Allowed:
    return Allowed(lambda x: x in values, f"one of {', '.join(map(repr, values))}")


def none_or(allowed: Allowed) -> Allowed:
    return Allowed(lambda x: x is None or allowed.holds(x), f"None, or {allowed.words}")


def each(allowed: Allowed, least: int = 1, most: float = math.inf) -> Allowed:
    """A list of so many such values."""
    number = f"{least} values" if least == most else f"{least} or more values"
    return Allowed(
        lambda x: isinstance(x, (list, tuple)) and least <= len(x) <= most and all(map(allowed.holds, x)),
        f"a list of {number}, each {allowed.words}",
    )


def a_range(allowed: Allowed) -> Allowed:
    """Two such values, the first not above the second."""
    return Allowed(
        lambda x: each(allowed, 2, 2).holds(x) and x[0] <= x[1], f"two values in their order, each {allowed.words}"
    )


NOTHING = Allowed(lambda x: not x, "empty")
A_NAME = Allowed(lambda x: isinstance(x, str) and bool(x.strip()) and "\0" not in x, "a name")
A_PATH = Allowed(lambda x: A_NAME.holds(x) and bool(os.fsencode(x)), "a path")  # which has no lone surrogates
A_TEXT = Allowed(lambda x: isinstance(x, str) and "\0" not in x, "a text")
# the order says nothing to yacs, which compares types alone
RISING = Allowed(
    lambda x: all(map(at_least(1).holds, x)) and list(x) == sorted(set(x)), "iterations from 1 on, each above the last one"
)
A_DEVICE = Allowed(lambda x: reason_against_device(x) is None, "a device that torch can use here")

# Dotted key -> what it may be, of all keys that were declared in this process.
RANGES: Dict[str, Allowed] = {}


def add_key(cfg: CfgNode, key: str, default: Any, allowed: Allowed = Allowed(lambda _: True, "")) -> None:
    """Adds a key to a configuration, in place, and states what it may be; plug-ins do the same in their ``add_config``.

    Args:
        key: dotted, such as "MODEL.DNET.ALPHA"; the sections are made where they are missing.
        default: its type is the key's, None apart.
        allowed: for every value of this type.
    """
    *sections, name = key.split(".")
    node = cfg
    for section in sections:
        if section not in node:
            node[section] = CfgNode()
        node = node[section]
    node[name] = default
    RANGES[key] = allowed


# What may be right on another machine: the configuration of a run that was trained there is read here.
PLACE_DEPENDENT = ("MODEL.DEVICE",)


def value_problems(cfg: CfgNode, except_for: Sequence[str] = ()) -> List[str]:
    """What is wrong with the values of the keys that state what they may be, but for some keys."""
    return [
        f"{key} must be {allowed.words}, not {value!r}."
        for key, allowed in RANGES.items()
        if key not in except_for
        for value in _value_of(cfg, key)
        if not _holds(allowed, value)
    ]


def _value_of(cfg: CfgNode, key: str) -> Iterator[Any]:
    """The value, or none: a configuration need not have the keys of a plug-in."""
    node = cfg
    for name in key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return
        node = node[name]
    yield node


def _holds(allowed: Allowed, value: Any) -> bool:
    try:
        return allowed.holds(value)
    except (TypeError, ValueError):  # of a comparison: a list where a number should be
        return False


def reason_against_device(device: Any) -> Any:
    """Why torch cannot use a device here, or None."""
    try:
        torch.zeros(1, device=device).item()  # the device "meta" holds tensors, and no values
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        return f"The device {device} cannot be used: {str(error).partition(chr(10))[0]}"
    return None


# Keys that older versions had, with the value that changed nothing: a configuration of a run or in a model file may have them.
ANY = object()
RETIRED = {
    "MODEL.CNET.DIFFERENTIABLE_CROP": False,
    "MODEL.FNET.SOFT_TARGET_WEIGHT": 0.0,
    "MODEL.FNET.TEMPERATURE": 3.0,
    "MODEL.FNET.ROI_LABEL_ITERS": 0,
    "TEST.AUG.SCALES": ANY,  # TEST.AUG.ENABLED decided whether it mattered
}


def without_retired_keys(values: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """The values of a configuration that an older version wrote, less the keys that are gone.

    Args:
        source: names its file, in errors.
    Raises:
        InputError: a key that is gone has a value that mattered.
    """
    values = copy.deepcopy(values)
    for key, harmless in RETIRED.items():
        *path, name = key.split(".")
        node: Any = values
        for part in path:
            node = node.get(part) if isinstance(node, Mapping) else None
        if not isinstance(node, Mapping) or name not in node:
            continue
        value = node.pop(name)
        if harmless is not ANY and value != harmless:
            raise InputError(f"{source}: {key} {value} is an option that tsdd_d2 no longer has.")
    return values


def merge_file(cfg: CfgNode, path: str) -> None:
    """Puts the values of a configuration file, and of those that it names as ``_BASE_``, into a configuration.

    Raises:
        InputError: a file is missing or malformed, or has a retired key with a value that mattered; with all keys that do
            not exist or have a value of another kind.
    """
    values = without_retired_keys(read_config_file(path), path)
    version = values.pop("VERSION", VERSION)
    if version != VERSION:
        raise InputError(f"{path}: VERSION must be {VERSION}, not {version!r}.")
    merge(cfg, values, f"The configuration file {path}")


def merge_options(cfg: CfgNode, options: Sequence[Any]) -> None:
    """Puts ``KEY VALUE`` pairs, as of a command line, into a configuration; see :func:`merge_file`."""
    _require_pairs(cfg, options)
    problems = []
    for key, value in zip(options[::2], options[1::2]):
        values = value
        for name in reversed(str(key).split(".")):
            values = {name: values}
        problems += _merge(cfg, values)
    _raise_if_any(problems, "The options")


def _require_pairs(cfg: CfgNode, options: Sequence[Any]) -> None:
    """Raises InputError unless KEY and VALUE stand in turn; a value may have an ``=``."""
    misplaced = [x[:100] for x in options if isinstance(x, str) and x.startswith("--")]
    if misplaced:
        raise InputError(f"Options stand before the first KEY VALUE pair, not after it: {listed(misplaced)}.")
    joined, words = [], iter(options)
    for word in words:
        key, separator, value = str(word).partition("=")
        if separator and list(_value_of(cfg, key)):
            joined.append(f"{key} {value}"[:100])
        else:
            next(words, None)  # its value
    if joined:
        raise InputError(f"A blank is needed between KEY and VALUE, not '=': {listed(joined)}.")
    if len(options) % 2:
        raise InputError(f"KEY VALUE pairs are needed: {str(options[-1])[:100]!r} has no value.")


def merge(cfg: CfgNode, values: Mapping[str, Any], source: str, ignore_unknown: bool = False) -> None:
    """Puts nested values into a configuration, in place.

    A text is read as Python's literals are, such as "(64, 96)"; a whole number is also taken for a float, and a list for a
    tuple.

    Args:
        ignore_unknown: leave out keys that do not exist, such as those of a plug-in that is not installed.

    Raises:
        InputError: with all keys that do not exist or have a value of another kind; `cfg` may have taken the others.
    """
    _raise_if_any(_merge(cfg, values, ignore_unknown=ignore_unknown), source)


def _raise_if_any(problems: List[str], source: str) -> None:
    if problems:
        raise BBUIError(f"{source} cannot be used:", problems)


def _merge(node: CfgNode, values: Mapping[str, Any], prefix: str = "", ignore_unknown: bool = False) -> List[str]:
    problems = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in node and not (isinstance(key, str) and node.is_new_allowed()):
            if not ignore_unknown:
                problems.append(f"{name}: there is no such key{_meant(key, node)}.")
        elif isinstance(node.get(key), CfgNode):
            if isinstance(value, Mapping):
                problems += _merge(node[key], value, f"{name}.", ignore_unknown)
            else:
                problems.append(f"{name} is a section with keys of its own, and has no value such as {value!r}.")
        else:
            try:
                node[key] = _of_its_kind(_literal(value), node.get(key))
            except ValueError as error:
                problems.append(f"{name} {error}")
    return problems


def _meant(key: Any, node: Mapping) -> str:
    found = difflib.get_close_matches(str(key), [str(x) for x in node], 1)
    return f"; {found[0]} is one" if found else ""


def _literal(value: Any) -> Any:
    if not isinstance(value, str) or len(value) > 10_000:
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def _of_its_kind(value: Any, default: Any) -> Any:
    if default is None or type(value) is type(default):
        if isinstance(value, (Mapping, set, bytes, complex)):
            raise ValueError(f"must not be {value!r}.")
        return value
    if isinstance(default, float) and type(value) is int and abs(value) < 2**63:
        return float(value)
    if isinstance(default, (list, tuple)) and isinstance(value, (list, tuple)):
        return type(default)(value)
    kinds = {bool: "True or False", int: "a whole number", float: "a number", str: "a text", list: "a list", tuple: "a list"}
    raise ValueError(
        f"must be {kinds.get(type(default), type(default).__name__)}, as its default {default!r}, not {value!r}."
    )


def read_config_file(path: str, chain: Tuple[str, ...] = ()) -> Dict[str, Any]:
    """
    The values of a YAML file over those of the files in its ``_BASE_``, a path or a list of them, from the folder of the file.

    Args:
        chain: the files that this one is a base of.
    Raises:
        InputError: naming the file; it is missing, is no mapping from keys to values, or is a base of itself.
    """
    try:
        values = read_yaml(path)
    except FileNotFoundError as error:
        raise InputError(f"The configuration file does not exist: {path}{_named_by(chain)}") from error
    except OSError as error:
        raise InputError(f"The configuration file {path} cannot be read{_named_by(chain)}: {error.strerror}") from error
    except InputError as error:
        raise InputError(f"{str(error).rstrip('.')}{_named_by(chain)}.") from error
    if not isinstance(values, dict):
        raise InputError(f"The configuration file {path} holds no keys with values.")
    bases = values.pop(BASE, [])
    bases = [bases] if isinstance(bases, str) else bases
    if not (isinstance(bases, list) and all(_holds(A_PATH, base) for base in bases)):
        raise InputError(f"{path}: {BASE} must be the path of a configuration file or a list of them, not {bases!r}.")
    chain = (*chain, os.path.realpath(path))
    merged: Dict[str, Any] = {}
    for base in bases:
        base = os.path.join(os.path.dirname(path), os.path.expanduser(base))
        if os.path.realpath(base) in chain or len(chain) > MOST_BASES:
            raise InputError(f"{path}: {BASE} {base} is this file, or has it for a base of its own.")
        _lay_over(read_config_file(base, chain), merged, base)
    _lay_over(values, merged, path)
    return merged


def _named_by(chain: Iterable[str]) -> str:
    return "".join(f", named by {path}" for path in list(chain)[-1:])


def _lay_over(values: Mapping[str, Any], below: Dict[str, Any], path: str) -> None:
    for key, value in values.items():
        if not isinstance(key, str):
            raise InputError(f"{path}: {key!r} is no key: keys are texts.")
        if isinstance(value, dict):
            below[key] = dict(below[key]) if isinstance(below.get(key), dict) else {}
            _lay_over(value, below[key], path)
        else:
            below[key] = value
