"""Give this Python a Detectron2, whatever the network allows.

The first of these that works is taken, and the last line printed says which one it was:

1. keep: a Detectron2 that imports stays as it is, official or not;
2. git:  the official source at a pinned commit is built, if its git host answers within seconds;
3. pypi: the redistribution on PyPI is installed, its file checked against a pinned SHA-256.

Nothing in this project needs the compiled ``detectron2._C``, which the third way does not have.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

SOURCE_URL = "https://github.com/facebookresearch/detectron2"
SOURCE_COMMIT = "02b5c4e295e990042a714712c21dc79b731e8833"  # main on 2026-06-06; there are no recent tags
GIT_TIMEOUT_SECONDS = 5

REDISTRIBUTION = "sal-detectron2==0.7.2"
REDISTRIBUTION_SHA256 = "491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561"

# Together these import every part of Detectron2 this project uses. model_zoo is not among them: if it fails,
# then for want of pkg_resources, and another Detectron2 would not help.
DETECTRON2_MODULES = ("detectron2", "detectron2.engine", "detectron2.utils.visualizer")
# What Detectron2 imports itself; setup.py installs them.
DEPENDENCY_MODULES = (
    "torch", "torchvision", "cv2", "fvcore.nn", "iopath", "pycocotools", "matplotlib", "omegaconf", "hydra",
    "PIL", "cloudpickle", "packaging", "tabulate", "tensorboard", "termcolor", "tqdm", "yacs", "setuptools",
)  # fmt: skip

EXAMPLES = """\
examples:
  pip install -e . && python tools/install_detectron2.py    dependencies first, then Detectron2
  python tools/install_detectron2.py --dry-run              only say which of the three it would be
"""


def import_error(modules):
    """
    Import modules in a fresh process of this interpreter, as a half-imported torch cannot be unloaded again.

    Args:
        modules (iterable of str): dotted module names.

    Returns:
        str or None: the last line of the traceback, None if all of them import.
    """
    process = subprocess.run(
        [sys.executable, "-c", f"import {', '.join(modules)}"], capture_output=True, text=True, check=False
    )
    if process.returncode == 0:
        return None
    # A crash in a compiled module leaves no traceback.
    return (process.stderr.strip() or f"exit code {process.returncode}").splitlines()[-1]


def git_host_answers():
    """Returns: bool: whether git is here and reaches the official source within ``GIT_TIMEOUT_SECONDS``."""
    try:
        process = subprocess.run(
            ["git", "ls-remote", "--exit-code", SOURCE_URL, "HEAD"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # A proxy that asks for a password is no answer, and must not wait for one.
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
            timeout=GIT_TIMEOUT_SECONDS,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return process.returncode == 0


def choose_method():
    """Returns: str: "keep", "git" or "pypi", as the module's docstring defines them."""
    error = import_error(DETECTRON2_MODULES)
    if error is None:
        return "keep"
    print(f"No Detectron2 that imports ({error}).", flush=True)
    if git_host_answers():
        return "git"
    print(f"{SOURCE_URL} does not answer git within {GIT_TIMEOUT_SECONDS} s.", flush=True)
    return "pypi"


def pip(*arguments):
    """Returns: bool: whether ``pip arguments...`` of this interpreter succeeded; its output is shown."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, check=False).returncode == 0


def remove_broken():
    """Uninstall a Detectron2 that does not import: both distributions own the folder ``detectron2``."""
    pip("uninstall", "--yes", "-qq", "detectron2", "sal-detectron2")


def build_official():
    """
    Build and install the official source at ``SOURCE_COMMIT``.

    Returns:
        bool: whether it was built and imports.
    """
    # No isolation: its setup.py imports torch, and the extension must be compiled for the torch that is here.
    # No dependencies: this project's setup.py brings them, and they must not move torch or numpy again.
    built = pip("install", "--no-deps", "--no-build-isolation", "--use-pep517", f"git+{SOURCE_URL}@{SOURCE_COMMIT}")
    return built and import_error(DETECTRON2_MODULES) is None


def is_stray(path):
    """
    Whether a file of the redistribution must not reach site-packages: its top-level package ``tools`` would
    shadow other people's, and its ``_C`` was compiled for one Python 3.10 and another torch.

    Args:
        path (str): relative to site-packages, as in the wheel's RECORD.
    """
    return path.startswith(("tools/", "detectron2/_C."))


def copy_without_strays(staged, site_packages):
    """
    Copy an unpacked redistribution into site-packages, without strays, and drop these from its RECORD too, so
    that a later ``pip uninstall`` does not reach for another package's ``tools``.

    Args:
        staged (Path): the folder that ``pip install --target`` filled.
        site_packages (Path):
    """
    for source in sorted(path for path in staged.rglob("*") if path.is_file()):
        relative = source.relative_to(staged)
        if is_stray(relative.as_posix()):
            continue
        target = site_packages / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        if relative.match("*.dist-info/RECORD"):
            lines = source.read_text().splitlines(keepends=True)
            target.write_text("".join(line for line in lines if not is_stray(line)))
        else:
            shutil.copy2(source, target)


def install_redistribution():
    """
    Install ``REDISTRIBUTION``, refused by pip unless its file has ``REDISTRIBUTION_SHA256``.

    Returns:
        bool: whether pip could get it.
    """
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder, "requirements.txt")  # pip takes hashes from a file only
        requirements.write_text(f"{REDISTRIBUTION} --hash=sha256:{REDISTRIBUTION_SHA256}\n")
        staged = Path(folder, "staged")
        # The wheel is plain Python but tagged for 3.10 alone: pip installs it elsewhere only when told that
        # the target is a 3.10, which it allows only together with --target.
        downloaded = pip(
            "install", "--no-deps", "--no-compile", "--python-version", "3.10", "--only-binary", ":all:",
            "--target", str(staged), "--requirement", str(requirements),
        )  # fmt: skip
        if downloaded:
            copy_without_strays(staged, Path(sysconfig.get_paths()["purelib"]))
    return downloaded


def main(arguments=None):
    """
    Returns:
        int: the exit code: 0 if a Detectron2 imports, 1 if none could be had, 2 if dependencies are missing.
    """
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry-run", action="store_true", help="install nothing, only say what would be done")
    options = parser.parse_args(arguments)

    error = import_error(DEPENDENCY_MODULES)
    if error is not None:
        print(f"What Detectron2 itself needs does not import: {error}", file=sys.stderr)
        print("Install it first: pip install -c constraints.txt -e .", file=sys.stderr)
        if "libGL" in error:
            print(
                "libGL is a system library (libgl1 on Debian); opencv-python-headless does without it: "
                "pip uninstall opencv-python && pip install opencv-python-headless",
                file=sys.stderr,
            )
        return 2

    method = choose_method()
    if options.dry_run:
        print(f"Would take: {method}.")
        return 0
    if method == "keep":
        print("Detectron2: kept the one installed, it imports.")
        return 0

    if method == "git":
        print(f"Building the official source at {SOURCE_COMMIT}: a few minutes.", flush=True)
        remove_broken()
        if build_official():
            print(f"Detectron2: built the official source at commit {SOURCE_COMMIT}.")
            return 0
        print("The build failed: taking the redistribution instead.", flush=True)

    remove_broken()
    if not install_redistribution():
        print(f"Detectron2: none. pip could not get {REDISTRIBUTION}, see above.", file=sys.stderr)
        return 1
    error = import_error(DETECTRON2_MODULES)
    if error is not None:
        print(f"Detectron2: {REDISTRIBUTION} is installed but does not import: {error}", file=sys.stderr)
        return 1
    print(f"Detectron2: installed the redistribution {REDISTRIBUTION} (SHA-256 checked, no detectron2._C).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
