"""Reading and writing files that matter: a reader never sees a half-written one."""

import contextlib
import errno
import json
import math
import os
import re
import secrets
from collections import Counter
from typing import IO, Any, Dict, Iterator, List, Mapping, Optional, Sequence, TextIO, Tuple, Union

import yaml

from ..errors import InputError

__all__ = [
    "named_errors", "parse_yaml", "read_json", "read_yaml", "remove_leftovers", "replacing", "text_file", "write_bytes",
    "walk", "write_json", "write_json_files", "write_text",
]  # fmt: skip


# Beyond any file of ours: a larger one is another kind of file, and would only be found to be one after minutes.
MOST_JSON_BYTES = 2**30
MOST_YAML_BYTES = 2**18
MOST_YAML_NODES = 50_000  # with what aliases repeat
DEEPEST = 64  # lists and objects in each other

# What the name of a mask has, without suffix, after that of its image.
MASK_SUFFIX = re.compile(r"_(?:mask|seg|segmentation)(_\d+)?$", re.IGNORECASE)

# The name of a file while :func:`replacing` writes it.
TEMPORARY = re.compile(r"\.(.+)\.\d+\.tmp")


def read_json(path: Union[str, os.PathLike]) -> Any:
    """
    Read a JSON file in UTF-8.

    Raises:
        FileNotFoundError: the file does not exist.
        InputError: the file is not JSON, or is larger or nested deeper than any of ours; the message names the file and,
            where there is one, the position.
    """
    text = _read_text(path, MOST_JSON_BYTES, "JSON")
    try:
        content = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{os.fspath(path)} is not a JSON file: {_reason(error)}") from error
    if _is_deeper(content, DEEPEST):
        raise InputError(
            f"{os.fspath(path)} is none of our JSON files: more than {DEEPEST} lists and objects in each other."
        )
    return content


def read_yaml(path: Union[str, os.PathLike]) -> Any:
    """
    Read a YAML file in UTF-8 with plain values, by the safe loader.

    Raises:
        FileNotFoundError: the file does not exist.
        InputError: see :func:`read_json`; also if its aliases expand to more than a configuration has.
    """
    return parse_yaml(_read_text(path, MOST_YAML_BYTES, "YAML"), os.fspath(path))


def parse_yaml(text: str, source: str) -> Any:
    """:func:`read_yaml` with a text; the messages begin with `source`."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _yaml_nodes(node, {}) > MOST_YAML_NODES:
            raise InputError(f"{source} is no YAML file of ours: it expands to more than {MOST_YAML_NODES} values.")
        content = loader.construct_document(node)
    except InputError:
        raise
    # the safe loader's errors, and those of the values that it makes: a date without a month, a number without end
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, LookupError, AttributeError, RecursionError) as error:
        raise InputError(f"{source} is not a YAML file: {_reason(error)}") from error
    if _is_deeper(content, DEEPEST):
        raise InputError(f"{source} is no YAML file of ours: more than {DEEPEST} lists and mappings in each other.")
    return content


def _read_text(path: Union[str, os.PathLike], most_bytes: int, kind: str) -> str:
    name = os.fspath(path)
    size = os.stat(path).st_size
    if not os.path.isfile(path):  # a folder, a device
        raise InputError(f"{name} is no file.")
    if size > most_bytes:
        raise InputError(f"{name} is no {kind} file of ours: it has {size} bytes, more than {most_bytes}.")
    with open(path, "rb") as file:
        content = file.read(most_bytes + 1)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not a {kind} file: its text is not UTF-8: {error}") from error


def _object(pairs: Sequence[Tuple[str, Any]]) -> Dict[str, Any]:
    """Raises ValueError if a key is there twice: which of them is meant?"""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"an object has two keys {next(x for x, n in Counter(x for x, _ in pairs).items() if n > 1)!r}")
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "its lists and objects are nested too deeply"
    return f"{type(error).__name__}: {error}" if not isinstance(error, (ValueError, yaml.YAMLError)) else str(error)


def _is_deeper(content: Any, depth: int) -> bool:
    level = [content]
    for _ in range(depth + 1):
        level = [
            item
            for value in level
            if isinstance(value, (dict, list))
            for item in (value.values() if isinstance(value, dict) else value)
            if isinstance(item, (dict, list))
        ]
        if not level:
            return False
    return True


def _yaml_nodes(node: yaml.Node, known: Dict[yaml.Node, Optional[int]]) -> int:
    """How many values a node and those below it become; `known` are those of the nodes so far, None of an open one."""
    if node in known:
        if known[node] is None:
            raise yaml.YAMLError("an alias stands within its own anchor, so that it would have no end")
        return known[node]
    known[node] = None
    below = []
    if isinstance(node, yaml.MappingNode):
        below = [x for pair in node.value for x in pair]
        keys = Counter((key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for (_, key), number in keys.items():
            if number > 1:
                raise yaml.YAMLError(f"a mapping has two keys {key!r}")
    elif isinstance(node, yaml.SequenceNode):
        below = node.value
    known[node] = 1 + sum(_yaml_nodes(x, known) for x in below)
    return known[node]


def write_json(path: Union[str, os.PathLike], obj: Any) -> None:
    """
    Write `obj` as JSON under `path`, completely or not at all; missing folders are made.

    The text goes to a temporary file in the same folder, is flushed to the disk and then renamed, so
    a process killed at any moment leaves either the old content or the new one. The same `obj` always
    gives the same bytes. JSON knows neither nan nor inf: they become null.
    """
    write_text(path, _dumps(_finite_or_none(obj)))


def write_json_files(contents: Mapping[Union[str, os.PathLike], Any]) -> None:
    """
    Write several files, path -> object, as :func:`write_json` does: if one of them cannot be written, all stay as
    they were.

    Raises:
        OSError: a file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        temporaries = {}
        for path, obj in contents.items():
            path = os.path.abspath(path)
            stack.enter_context(named_errors(path))
            temporaries[path] = stack.enter_context(_temporary_file(path))
            with open(temporaries[path], "w", encoding="utf-8", newline="\n") as file:
                file.write(_dumps(_finite_or_none(obj)))
                _flush_to_disk(file)
        # The one thing that a rename after a complete write still fails at.
        for path in temporaries:
            if os.path.isdir(path):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        for path, temporary in temporaries.items():
            os.replace(temporary, path)


def write_text(path: Union[str, os.PathLike], text: str) -> None:
    """Write `text` in UTF-8 under `path`, completely or not at all; missing folders are made."""
    with text_file(path) as file:
        file.write(text)


def write_bytes(path: Union[str, os.PathLike], content: bytes) -> None:
    """Write `content` under `path`, completely or not at all; missing folders are made."""
    with replacing(path, "wb") as file:
        file.write(content)


@contextlib.contextmanager
def text_file(path: Union[str, os.PathLike]) -> Iterator[TextIO]:
    """A file to write text to in UTF-8, see :func:`replacing`."""
    with replacing(path, "w", encoding="utf-8", newline="\n") as file:
        yield file


@contextlib.contextmanager
def replacing(path: Union[str, os.PathLike], mode: str, **options) -> Iterator[IO]:
    """
    A file to write to in a mode of :func:`open`, which appears under `path` when the context ends without an error,
    and not at all otherwise; missing folders are made.

    Until then it is a temporary file in the same folder, which is flushed to the disk and renamed.
    """
    path = os.path.abspath(path)
    with named_errors(path), _temporary_file(path) as temporary:
        with open(temporary, mode, **options) as file:
            yield file
            _flush_to_disk(file)
        os.replace(temporary, path)


def remove_leftovers(folder: Union[str, os.PathLike], *names: str) -> None:
    """Removes what :func:`replacing` was writing into a folder when its process was killed.

    Args:
        names: of the files that were to be written; by default all.
    """
    for temporary in os.listdir(folder):
        match = TEMPORARY.fullmatch(temporary)
        if match and (match[1] in names or not names):
            os.remove(os.path.join(folder, temporary))


@contextlib.contextmanager
def named_errors(path: str) -> Iterator[None]:
    """In this context errors of the system name `path`, not its temporary file, and not nothing, as where the disk is full."""
    try:
        yield
    except OSError as error:
        folder, name = os.path.split(path)
        # an error of another file, such as one that is written at the same time, has its name already
        is_ours = error.filename is None or str(error.filename).startswith(os.path.join(folder, f".{name}."))
        if error.errno is not None and error.filename2 is None and is_ours:
            error.filename = path
        raise


@contextlib.contextmanager
def _temporary_file(path: str) -> Iterator[str]:
    """The path of a new empty file in the folder of `path`, which is removed at the end unless it was renamed."""
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    # Not the process id: two containers that share a folder may both have it.
    temporary = os.path.join(folder, f".{name}.{secrets.randbits(64)}.tmp")
    open(temporary, "xb").close()
    try:
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def _flush_to_disk(file: IO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _finite_or_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite_or_none(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite_or_none(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _dumps(obj: Any) -> str:
    """JSON text in which the lists of a COCO file have one entry on a line, for `grep` and `diff`."""
    if not isinstance(obj, dict):
        return json.dumps(obj) + "\n"
    fields = []
    for key, value in obj.items():
        if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            text = "[\n" + ",\n".join(json.dumps(entry) for entry in value) + "\n]"
        else:
            text = json.dumps(value)
        fields.append(f"{json.dumps(str(key))}: {text}")
    return "{\n" + ",\n".join(fields) + "\n}\n"


def walk(root: str) -> List[Tuple[str, List[str]]]:
    """
    All folders from `root` down, with the names of their files, sorted. Links are followed; each folder is there once, and
    by a link only if it has no other path below `root`.
    """
    found, seen, starts = [], set(), [root]
    for start in starts:
        for folder, subfolders, names in os.walk(start):
            if os.path.realpath(folder) in seen:
                subfolders.clear()
                continue
            seen.add(os.path.realpath(folder))
            found.append((folder, sorted(names)))
            # os.walk does not enter them by itself
            starts += [x for name in sorted(subfolders) if os.path.islink(x := os.path.join(folder, name))]
    return sorted(found)
