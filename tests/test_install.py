"""Which Detectron2 is installed, what of it reaches site-packages, and that make installs only once."""

import importlib.util
import os
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tsdd_d2.config import config_file, get_tsdd_cfg
from tsdd_d2.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def installer():
    """tools/install_detectron2.py as a module of its own, since tools/ is not a package."""
    specification = importlib.util.spec_from_file_location(
        "install_detectron2", REPOSITORY / "tools" / "install_detectron2.py"
    )
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def machine(installer, monkeypatch):
    """
    A pretended machine: the tests set what it has, the installer's own functions decide.

    Attributes: dependencies, imports, git_answers, builds, pip_succeeds (bool), and done (list of str), the
    steps that would have changed the environment.
    """
    state = SimpleNamespace(dependencies=True, imports=False, git_answers=False, builds=False, pip_succeeds=True, done=[])

    def import_error(modules):
        if modules is installer.DEPENDENCY_MODULES:
            return None if state.dependencies else "ModuleNotFoundError: No module named 'fvcore'"
        return None if state.imports else "ModuleNotFoundError: No module named 'detectron2'"

    def build_official():
        state.done.append("git")
        state.imports = state.builds
        return state.builds

    def install_redistribution():
        state.done.append("pypi")
        state.imports = state.pip_succeeds
        return state.pip_succeeds

    monkeypatch.setattr(installer, "import_error", import_error)
    monkeypatch.setattr(installer, "git_host_answers", lambda: state.git_answers)
    monkeypatch.setattr(installer, "build_official", build_official)
    monkeypatch.setattr(installer, "install_redistribution", install_redistribution)
    monkeypatch.setattr(installer, "remove_broken", lambda: None)
    return state


@pytest.mark.parametrize(
    "facts, done, said",
    [
        ({"imports": True, "git_answers": True}, [], "kept"),
        ({"git_answers": True, "builds": True}, ["git"], "built the official source at commit"),
        ({"git_answers": True, "builds": False}, ["git", "pypi"], "installed the redistribution"),
        ({"git_answers": False}, ["pypi"], "installed the redistribution"),
    ],
)
def test_first_possible_way_is_taken_and_said(installer, machine, capsys, facts, done, said):
    vars(machine).update(facts)
    assert installer.main([]) == 0
    assert machine.done == done
    assert said in capsys.readouterr().out.splitlines()[-1]


def test_dry_run_changes_nothing(installer, machine, capsys):
    machine.git_answers = True
    assert installer.main(["--dry-run"]) == 0
    assert machine.done == []
    assert "Would take: git." in capsys.readouterr().out


def test_missing_dependencies_stop_before_anything_is_replaced(installer, machine, capsys):
    machine.dependencies = False
    assert installer.main([]) == 2
    assert machine.done == []
    message = capsys.readouterr().err
    assert "fvcore" in message and "pip install -c constraints.txt -e ." in message


def test_no_way_left_is_an_error(installer, machine, capsys):
    machine.pip_succeeds = False
    assert installer.main([]) == 1
    assert "sal-detectron2==0.7.2" in capsys.readouterr().err


def test_import_error_names_what_failed(installer):
    assert installer.import_error(["json", "os.path"]) is None
    assert installer.import_error(["json", "no_such_module"]).endswith("No module named 'no_such_module'")


@pytest.mark.parametrize("failure", [FileNotFoundError("git"), subprocess.TimeoutExpired("git", 5)])
def test_no_git_or_a_silent_host_is_no_answer(installer, monkeypatch, failure):
    def run(command, timeout, **_):
        assert command[:2] == ["git", "ls-remote"] and 0 < timeout <= 10
        raise failure

    monkeypatch.setattr(installer.subprocess, "run", run)
    assert installer.git_host_answers() is False


@pytest.mark.parametrize("return_code, answers", [(0, True), (128, False)])
def test_git_exit_code_decides(installer, monkeypatch, return_code, answers):
    monkeypatch.setattr(installer.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, return_code))
    assert installer.git_host_answers() is answers


def test_official_source_is_pinned_to_a_commit(installer, monkeypatch):
    calls = []
    monkeypatch.setattr(installer, "pip", lambda *arguments: calls.append(arguments))
    assert not installer.build_official()
    address, commit = calls[0][-1].split("@")
    assert address == "git+https://github.com/facebookresearch/detectron2"
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert "--no-build-isolation" in calls[0]


def test_redistribution_is_pinned_by_hash_and_leaves_strays_out(installer, monkeypatch, tmp_path):
    info = "sal_detectron2-0.7.2.dist-info"
    wanted = ["detectron2/__init__.py", "detectron2/layers/nms.py", f"{info}/METADATA", f"{info}/RECORD"]
    strays = ["tools/__init__.py", "detectron2/_C.cpython-310-x86_64-linux-gnu.so"]
    requirements = []

    def pip(*arguments):
        requirements.append(Path(arguments[arguments.index("--requirement") + 1]).read_text())
        staged = Path(arguments[arguments.index("--target") + 1])
        for name in wanted + strays:
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).write_text("new")
        (staged / info / "RECORD").write_text("".join(f"{name},,\n" for name in wanted + strays))
        return True

    site_packages = tmp_path / "site-packages"
    (site_packages / "tools").mkdir(parents=True)
    (site_packages / "tools" / "__init__.py").write_text("another package's")
    monkeypatch.setattr(installer, "pip", pip)
    monkeypatch.setattr(installer.sysconfig, "get_paths", lambda: {"purelib": str(site_packages)})

    assert installer.install_redistribution()
    assert requirements == [
        "sal-detectron2==0.7.2 --hash=sha256:491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561\n"
    ]
    files = {p.relative_to(site_packages).as_posix() for p in site_packages.rglob("*") if p.is_file()}
    assert files == {*wanted, "tools/__init__.py"}
    assert (site_packages / "tools" / "__init__.py").read_text() == "another package's"
    assert (site_packages / info / "RECORD").read_text() == "".join(f"{name},,\n" for name in wanted)


def installed_requirements():
    """The installed package's requirements that hold on this Python, with the extra "test"."""
    requirements = map(Requirement, metadata.requires("tsdd_d2"))
    return [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": "test"})]


def test_package_installs_beside_any_detectron2():
    """Neither distribution's name is required: pip would fail, or fetch a stranger's, beside the other."""
    assert not [r.name for r in installed_requirements() if "detectron2" in r.name]


def test_every_requirement_has_a_tested_version_within_its_bounds():
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = map(Requirement, (line for line in lines if line and not line.startswith("#")))
    pinned = {canonicalize_name(r.name): r for r in pins if r.marker is None or r.marker.evaluate()}
    for requirement in installed_requirements():
        (pin,) = pinned[canonicalize_name(requirement.name)].specifier
        assert pin.operator == "==" and requirement.specifier.contains(pin.version), requirement.name


def test_configurations_are_part_of_the_package(monkeypatch, tmp_path):
    """For another project, which has no clone of this one as its working directory."""
    monkeypatch.chdir(tmp_path)
    cfg = get_tsdd_cfg()
    cfg.merge_from_file(config_file("tsdd_stage1_cpu.yaml"))
    assert cfg.MODEL.META_ARCHITECTURE == "TSDDStage1"  # of the file that it is based on
    assert os.listdir(os.path.dirname(config_file("tsdd_stage2.yaml"))) == os.listdir(REPOSITORY / "configs")
    with pytest.raises(InputError, match="no configuration file tsdd_stage3.yaml"):
        config_file("tsdd_stage3.yaml")


@pytest.fixture
def dry_make(tmp_path):
    """A copy of what the installation depends on, and ``make`` that only prints its commands there."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    for name in ("Makefile", "setup.py", "constraints.txt", "tools/install_detectron2.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(REPOSITORY / name, tmp_path / name)

    def make(*arguments):
        command = ["make", "-C", str(tmp_path), "--no-print-directory", "--dry-run", *arguments]
        # Without the variables of the make that may be running these tests.
        environment = {"PATH": os.environ["PATH"]}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    return make


def test_make_installs_once(dry_make, tmp_path):
    stamp = tmp_path / ".venv" / ".installed"
    assert "pip" in dry_make("test")
    stamp.parent.mkdir()
    stamp.touch()
    assert ".venv/bin/python -m pytest" in dry_make("test") and "pip" not in dry_make("test")

    os.utime(tmp_path / "constraints.txt", (stamp.stat().st_mtime + 1,) * 2)
    assert "pip" in dry_make("test")
