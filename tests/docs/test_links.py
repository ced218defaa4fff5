"""Links of the documentation to files and headings that are there."""

import os
import re
import subprocess

import pytest

from ..conftest import ROOT

LINK = re.compile(r"\]\(([^)\s]+)\)|href=\"([^\"{]+)\"")


def committed_pages():
    listed = subprocess.run(["git", "ls-files", "*.md", "results/*.html"], cwd=ROOT, capture_output=True, text=True)
    # without git, as in a released archive
    return listed.stdout.split() or ["README.md"]


def anchors(path):
    """Of the headings of a page, as GitHub makes them."""
    with open(path, encoding="utf-8") as file:
        headings = re.findall(r"^#+ (.+)$", file.read(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", committed_pages())
def test_links_lead_somewhere(page):
    with open(os.path.join(ROOT, page), encoding="utf-8") as file:
        links = {first or second for first, second in LINK.findall(file.read())}
    for link in links:
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link) or (page.endswith(".html") and not target):
            continue
        path = os.path.normpath(os.path.join(ROOT, os.path.dirname(page), target)) if target else os.path.join(ROOT, page)
        assert os.path.exists(path), link
        assert not anchor or anchor in anchors(path), link
