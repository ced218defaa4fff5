"""Reading and writing files that matter: a reader never sees a half-written one."""

import contextlib
import errno
import json
import math
import os
import secrets
from typing import IO, Any, Iterator, Mapping, TextIO, Union

from ..errors import InputError

__all__ = ["read_json", "replacing", "text_file", "write_bytes", "write_json", "write_json_files", "write_text"]


def read_json(path: Union[str, os.PathLike]) -> Any:
    """
    Read a JSON file in UTF-8.

    Raises:
        FileNotFoundError: the file does not exist.
        InputError: the file is not JSON; the message names the file and the position.
    """
    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
            raise InputError(f"{os.fspath(path)} is not a JSON file: {error}") from error


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
    with _temporary_file(path) as temporary:
        with open(temporary, mode, **options) as file:
            yield file
            _flush_to_disk(file)
        os.replace(temporary, path)


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
