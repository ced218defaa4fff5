"""Every command that the README.md files, docs/ and the --help of the tools show can be given as it stands there.

The tools' own parsers read it, configuration files and keys exist, and so do the targets of make.
"""

import argparse
import glob
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys

import pytest

from tsdd_d2.engine.configuration import load_config

from ..conftest import ROOT

PAGES = ["README.md", "results/README.md", "datasets/README.md", *sorted(glob.glob("docs/*.md", root_dir=ROOT))]
PAGES.remove("docs/new_method.md")  # its commands need the package that it makes: test_new_method.py runs them
TOOLS = sorted(glob.glob("tools/*.py", root_dir=ROOT))
BLOCK = re.compile(r"^```bash\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:python|make|pip) [^`]+)`")
EXAMPLE = re.compile(r"^ +\$ (python (?:.*\\\n)*.*)$", flags=re.MULTILINE)


def shown_commands():
    """(where, command) in the order of the pages; a command that goes on over several lines is one."""
    found = []
    for page in (*PAGES, *TOOLS):
        with open(os.path.join(ROOT, page), encoding="utf-8") as file:
            text = file.read()
        if page in TOOLS:  # the backslash is escaped in the string
            lines = [re.sub(r"\\+\n", " ", example) for example in EXAMPLE.findall(text)]
        else:
            lines = [line for block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
            lines += [command.replace("\n", " ") for command in INLINE.findall(text)]
        for line in lines:
            found += [(page, command.strip()) for command in line.split("&&") if command.split("#")[0].strip()]
    return list(dict.fromkeys(found))


class Parsed(Exception):
    """Raised instead of what a tool does after its command line was read."""


def parse(script, arguments, monkeypatch):
    """The namespace that the tool's own parser makes of the arguments."""
    original = argparse.ArgumentParser.parse_args

    def parse_args(parser, args=None, namespace=None):
        raise Parsed(original(parser, args, namespace))

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        patch.setattr(sys, "argv", [script, *arguments])
        patch.chdir(ROOT)
        with pytest.raises(Parsed) as parsed:
            runpy.run_path(os.path.join(ROOT, script), run_name="__main__")
    return parsed.value.args[0]


def check_python(words, monkeypatch):
    """That a script takes its arguments, and that the configurations in them are there and have the keys."""
    args = parse(words[0], words[1:], monkeypatch)
    if getattr(args, "config_file", ""):
        load_config(os.path.join(ROOT, args.config_file), getattr(args, "opts", []))
    for method in ("tsddnet_stage1", "tsddnet", "retinanet") if hasattr(args, "overrides") else ():
        load_config(opts=args.overrides, method=method)
    assert all(os.path.isfile(os.path.join(ROOT, word)) for word in words if word.startswith("configs/"))


def test_the_pages_show_commands():
    """So that a change of the pages' form does not leave the test below with nothing to do."""
    pages = [page for page, _ in shown_commands()]
    assert {"README.md", "results/README.md", "tools/train_net.py", "tools/reproduce.py"} <= set(pages)


@pytest.mark.parametrize("page, command", shown_commands())
def test_a_shown_command_can_be_given(page, command, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        with open("Makefile", encoding="utf-8") as file:
            targets = re.findall(r"^([a-z-]+):", file.read(), flags=re.MULTILINE)
        assert set(word for word in words[1:] if "=" not in word) <= set(targets)
    elif words[0] == ".":  # what make makes need not be there
        with open("Makefile", encoding="utf-8") as file:
            (venv,) = re.findall(r"^VENV \?= (.+)$", file.read(), flags=re.MULTILINE)
        assert words[1:] == [f"{venv}/bin/activate"]
    elif words[0] == "pip":
        assert all(os.path.isfile(words[i + 1]) for i, word in enumerate(words) if word == "-c")
    elif words[0] == "python" and len(words) == 2:
        assert os.path.isfile(words[1])  # it may take no options and have no parser
    elif words[0] == "python":
        check_python(words[1:], monkeypatch)
    else:
        assert words[0] == "export"


@pytest.mark.parametrize("target", ["demo", "experiments", "reproduce-small"])
def test_the_commands_of_make_can_be_given(target, tmp_path, monkeypatch):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    (tmp_path / ".installed").touch()
    make = ["make", "-C", ROOT, "--no-print-directory", "--dry-run", target, f"VENV={tmp_path}"]
    printed = subprocess.run(make, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True).stdout
    commands = [shlex.split(line) for line in printed.replace("\\\n", " ").splitlines()]
    assert len(commands) >= 2
    for python, *words in commands:
        assert python == f"{tmp_path}/bin/python"
        check_python(words, monkeypatch)


def test_a_command_that_has_rotted_is_noticed(monkeypatch):
    with pytest.raises(SystemExit):
        parse("tools/review_rois.py", ["--runs", "output/p02"], monkeypatch)
