"""One compressed archive in the place of a folder: ``predictions.tar.xz/<run>/predictions.json`` is read as a path."""

import functools
import io
import lzma
import os
import tarfile
from typing import Dict, List, Mapping, Optional, Tuple

from ..data.files import write_bytes
from ..errors import InputError


def read_file(path: str) -> Optional[bytes]:
    """The content of a file, which may lie in an archive; None if there is none.

    Raises:
        InputError: the archive is damaged.
    """
    archive, name = _split(path)
    if archive is not None:
        return _members(archive, os.stat(archive).st_mtime_ns).get(name)
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        return file.read()


def list_folder(path: str) -> List[str]:
    """The sorted names in a folder, which may be an archive or lie in one; none if it is not there."""
    archive, folder = _split(path)
    if archive is None:
        return sorted(os.listdir(path)) if os.path.isdir(path) else []
    start = f"{folder}/" if folder else ""
    names = (name[len(start) :] for name in _members(archive, os.stat(archive).st_mtime_ns) if name.startswith(start))
    return sorted({name.split("/")[0] for name in names})


def add_to_archive(path: str, files: Mapping[str, bytes]) -> None:
    """Writes an archive anew with more files, name -> content, in the place of those that have the same name.

    The same files give the same bytes.
    """
    before = _members(path, os.stat(path).st_mtime_ns) if os.path.isfile(path) else {}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz", preset=9, format=tarfile.USTAR_FORMAT) as archive:
        for name, data in sorted({**before, **files}.items()):
            entry = tarfile.TarInfo(name)  # no owner, no time
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    write_bytes(path, content.getvalue())


def _split(path: str) -> Tuple[Optional[str], str]:
    """The archive that a path leads into, or None, and the name in it."""
    head, names = os.path.abspath(path), []
    while not os.path.lexists(head):
        head, name = os.path.split(head)
        names.insert(0, name)
    inside = os.path.isfile(head) and (names or head.endswith(".tar.xz"))
    return (head, "/".join(names)) if inside else (None, "")


@functools.lru_cache(maxsize=4)
def _members(path: str, _changed: int) -> Dict[str, bytes]:
    try:
        with open(path, "rb") as file:
            content = io.BytesIO(lzma.decompress(file.read()))  # tarfile would not notice that the end is missing
        with tarfile.open(fileobj=content) as archive:
            return {x.name: archive.extractfile(x).read() for x in archive if x.isfile()}
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError, ValueError) as error:
        raise InputError(f"{path} is no archive of predictions: {error}. Copy it again, or remove it.") from error
