"""Reading and writing files that matter: a reader never sees a half-written one."""

import contextlib
import json
import math
import os
from typing import IO, Any, Iterator, TextIO, Union

__all__ = ["read_json", "replacing", "text_file", "write_bytes", "write_json", "write_text"]


def read_json(path: Union[str, os.PathLike]) -> Any:
    """
    Read a JSON file in UTF-8.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not JSON; the message names the file and the position.
    """
    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
            raise ValueError(f"{os.fspath(path)} is not a JSON file: {error}") from error


def write_json(path: Union[str, os.PathLike], obj: Any) -> None:
    """
    Write `obj` as JSON under `path`, completely or not at all; missing folders are made.

    The text goes to a temporary file in the same folder, is flushed to the disk and then renamed, so
    a process killed at any moment leaves either the old content or the new one. The same `obj` always
    gives the same bytes. JSON knows neither nan nor inf: they become null.
    """
    write_text(path, _dumps(_finite_or_none(obj)))


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
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}.tmp")
    try:
        with open(temporary, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise


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
