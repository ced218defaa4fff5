"""Which rooms may import which: no circle, nothing upwards, and nothing imports the workshop."""

import ast
import os
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import tsdd_d2

PACKAGE = Path(tsdd_d2.__file__).parent
# room -> the rooms that it stands on; what is no folder (config.py, method.py, ...) serves all of them
ROOMS = {
    "data": set(),
    "evaluation": {"data"},
    "modeling": {"data"},
    "refinement": {"data", "modeling"},
    "engine": {"data", "evaluation", "modeling", "refinement"},
    "methods": {"data", "evaluation", "modeling", "refinement", "engine"},
    "inference": {"data", "evaluation", "modeling", "engine"},
    "experiments": {"data", "evaluation", "modeling", "refinement", "engine", "methods", "inference"},
    "review": {"data", "evaluation", "modeling", "refinement", "engine", "inference"},
}
# What serves all rooms, and so may import none of them but data.
SHARED = {"config", "config_values", "errors", "method", "plugins", "templates"}


def modules():
    """Name -> file of every module of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imported(module, path):
    """The modules of this package, or names in them, that a module imports when it is imported itself."""
    is_package = path.name == "__init__.py"
    for node in _at_import(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (x.name for x in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".") if node.level else []
            base = base[: len(base) - node.level + is_package]
            start = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{start}.{x.name}" for x in node.names)


def _at_import(node):
    """The statements that run at import: not those in functions, which may bridge a gap."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield child
            yield from _at_import(child)


def room_of(name):
    parts = name.split(".")
    return parts[1] if parts[0] == "tsdd_d2" and len(parts) > 1 else None


EDGES = {name: set(imported(name, path)) for name, path in modules()}


def test_the_rooms_are_those_of_the_list():
    assert {x.name for x in PACKAGE.iterdir() if (x / "__init__.py").is_file()} == set(ROOMS)


@pytest.mark.parametrize("room", [*ROOMS, *sorted(SHARED)])
def test_a_room_stands_on_what_lies_below_alone(room):
    allowed = ROOMS.get(room, {"data"}) | {room}
    for module, names in EDGES.items():
        if room_of(module) == room:
            found = {room_of(x) for x in names} & set(ROOMS)
            assert found <= allowed, f"{module} imports {', '.join(sorted(found - allowed))}"


def test_nothing_imports_the_tools():
    folders = [x.stem for x in (PACKAGE.parent / "tools").glob("*.py")] + ["tools"]
    assert not {x.split(".")[0] for names in EDGES.values() for x in names} & set(folders)


def test_there_is_no_circle():
    known = set(EDGES)

    def module_of(name):
        """The module that an imported name is or is in; that of a package is what the package imports from it."""
        while name not in known and "." in name:
            name = name.rpartition(".")[0]
        return name

    graph = {module: {module_of(x) for x in names} & known - {module} for module, names in EDGES.items()}
    # a package's __init__ imports its own modules, which then find it begun
    graph = {m: {x for x in found if not m.startswith(f"{x}.")} for m, found in graph.items() if m != "tsdd_d2"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_import_is_light():
    """``import tsdd_d2`` brings none of the packages of the workshop."""
    import subprocess
    import sys

    program = "import sys, tsdd_d2; print(*{'sklearn', 'pandas', 'submitit', 'ray', 'jinja2'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
