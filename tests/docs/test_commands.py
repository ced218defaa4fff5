"""Every command that README, docs/ and the --help of the tools show can be given as it stands there.

The tools' own parsers read it, configuration files and keys exist, and so do the targets of make.
"""

import argparse
import glob
import os
import re
import runpy
import shlex
import sys

import pytest

from tsdd_d2.engine.setup import load_config

from ..conftest import ROOT

PAGES = ["README.md", "datasets/README.md", *sorted(glob.glob("docs/*.md", root_dir=ROOT))]
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

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    with pytest.raises(Parsed) as parsed:
        runpy.run_path(os.path.join(ROOT, script), run_name="__main__")
    return parsed.value.args[0]


def test_the_pages_show_commands():
    """So that a change of the pages' form does not leave the test below with nothing to do."""
    pages = [page for page, _ in shown_commands()]
    assert pages.count("README.md") >= 10 and {"tools/train_net.py", "tools/reproduce.py"} <= set(pages)


@pytest.mark.parametrize("page, command", shown_commands())
def test_a_shown_command_can_be_given(page, command, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        with open("Makefile", encoding="utf-8") as file:
            targets = re.findall(r"^([a-z-]+):", file.read(), flags=re.MULTILINE)
        assert set(word for word in words[1:] if "=" not in word) <= set(targets)
    elif words[0] == "pip":
        assert all(os.path.isfile(words[i + 1]) for i, word in enumerate(words) if word == "-c")
    elif words[0] == "python" and len(words) == 2:
        assert os.path.isfile(words[1])  # it may take no options and have no parser
    elif words[0] == "python":
        args = parse(words[1], words[2:], monkeypatch)
        if getattr(args, "config_file", ""):
            load_config(args.config_file, getattr(args, "opts", []))
        assert all(os.path.isfile(word) for word in words if word.startswith("configs/"))
    else:
        assert words[0] == "export"


def test_a_command_that_has_rotted_is_noticed(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit):
        parse("tools/review_rois.py", ["--runs", "output/p02"], monkeypatch)
