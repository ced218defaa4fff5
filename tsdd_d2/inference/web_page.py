"""A page that diagnoses images in a browser: one HTML file with the network and the runtime in it."""

import base64
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from typing import TYPE_CHECKING, Dict, Iterable

from ..data.files import write_bytes, write_text
from ..errors import InputError
from ..templates import environment
from .export import to_onnx

if TYPE_CHECKING:
    from .input_images import InputImage
    from .model_file import ModelFile

__all__ = ["fetch_runtime", "write_web_page"]

# The npm package that runs ONNX files in a browser (MIT licence), and what npm calls its integrity, without "sha512-".
RUNTIME = "onnxruntime-web@1.30.0"
RUNTIME_SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
# Of the package: the smallest build for CPUs, and its binary.
SCRIPT, BINARY = "package/dist/ort.wasm.bundle.min.mjs", "package/dist/ort-wasm-simd-threaded.wasm"


def write_web_page(path: str, model_file: "ModelFile", calibration: Iterable["InputImage"] = ()) -> None:
    """
    Exports a model file and writes the page around it, completely or not at all.

    It loads nothing, and its content security policy forbids that it sends anything. An image is resized there as Pillow
    does it; the rest is in the graph.

    Args:
        path: ends in ``.html``.
        calibration: see :func:`~tsdd_d2.inference.export.to_onnx`.

    Raises:
        InputError: another suffix; the runtime is neither in the cache nor to be had; or see
            :func:`~tsdd_d2.inference.export.to_onnx`.
    """
    if not os.fspath(path).endswith(".html"):
        raise InputError(f"{path}: pages end in .html.")
    runtime = fetch_runtime()
    page = (
        environment("tsdd_d2.inference")
        .get_template("page.html")
        .render(
            facts={
                "format": model_file.preprocessing["format"],
                "min_size": model_file.preprocessing["min_size"],
                "max_size": model_file.preprocessing["max_size"],
                "threshold": model_file.threshold,
                "class_names": model_file.class_names,
            },
            training_set=model_file.training_set["name"],
            package_version=model_file.package_version,
            threshold=model_file.threshold,
            runtime=RUNTIME,
            script=_packed(runtime[SCRIPT]),
            binary=_packed(runtime[BINARY]),
            network=_packed(to_onnx(model_file, calibration=calibration).SerializeToString()),
        )
    )
    write_text(path, page)


def fetch_runtime() -> Dict[str, bytes]:
    """
    The files :data:`SCRIPT` and :data:`BINARY` of the npm package, which npm fetches the first time.

    It stays in the folder that the message of the error names, by ``XDG_CACHE_HOME`` or below ``~/.cache``.

    Raises:
        InputError: the package is not there and npm is missing or cannot fetch it, or it is another one.
    """
    archive = os.path.join(_cache(), RUNTIME.replace("@", "-") + ".tgz")
    if not os.path.isfile(archive):
        write_bytes(archive, _packed_by_npm(archive))
    with open(archive, "rb") as file:
        content = file.read()
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != RUNTIME_SHA512:
        raise InputError(f"{archive} is not npm's {RUNTIME} (another SHA-512): remove it, and it is fetched again.")
    with tarfile.open(fileobj=io.BytesIO(content)) as package:
        return {name: package.extractfile(name).read() for name in (SCRIPT, BINARY)}


def _cache() -> str:
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "tsdd_d2")


def _packed_by_npm(archive: str) -> bytes:
    npm = shutil.which("npm")
    remedy = f"put what `npm pack {RUNTIME}` writes, where there is npm and a network, to {archive}."
    if npm is None:
        raise InputError(
            f"The page needs the npm package {RUNTIME}, and npm is not installed: install it (Debian: npm), or {remedy}"
        )
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run([npm, "pack", RUNTIME, "--pack-destination", folder], capture_output=True, text=True)
        packed = os.listdir(folder)
        if result.returncode != 0 or len(packed) != 1:
            reason = next((x for x in result.stderr.splitlines() if "error" in x.lower()), "no file")
            raise InputError(f"npm cannot fetch {RUNTIME} ({reason}): try again, or {remedy}")
        with open(os.path.join(folder, packed[0]), "rb") as file:
            return file.read()


def _packed(content: bytes) -> str:
    """What the page's ``unpack`` reads."""
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()
