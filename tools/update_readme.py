#!/usr/bin/env python
"""Writes the tables of README.md, results/README.md and docs/model_card.md from the Markdown files in results/.

A table stands between two markers; text around them stays as it is:
    <!-- table: NAME -->          the first table of results/NAME.md
    <!-- table: NAME short -->    less the paper's rows, those without runs, and most columns, with the paired differences
    <!-- table: NAME short p=0.2 -->    of one p, the AUC alone, without its standard deviation
    <!-- end of table -->
Likewise what is said of a model file:
    <!-- model: PATH -->  ...  <!-- end of model -->
"""

import argparse
import itertools
import os
import re
import sys
from typing import Dict, List, Optional

from tsdd_d2 import load_model
from tsdd_d2.data.files import write_text
from tsdd_d2.engine.run_folder import sha256_of_file
from tsdd_d2.errors import InputError, reports_errors
from tsdd_d2.evaluation.tables import markdown_table
from tsdd_d2.experiments.paper import MARK

EPILOG = """
Examples:
    $ python tools/update_readme.py
    $ python tools/update_readme.py --check     # exit code 1 if a table is not what results/ says
"""

END = "<!-- end of table -->"
MARKER = re.compile(r"<!-- table: (?P<name>\S+)(?: (?P<form>short)(?: p=(?P<p>\S+))?)? -->")
MODEL = re.compile(r"(?P<start><!-- model: (?P<path>\S+) -->).*?<!-- end of model -->", flags=re.DOTALL)
# Title of the column -> text, for each row of a table.
Rows = List[Dict[str, str]]
PAGES = ("README.md", "results/README.md", "results/scratch/README.md", "docs/model_card.md")
SHORT = ("method", "p", "AUC", "YI (%)", "folds")
# The column of a table of tests, see comparisons_table.
DIFFERENCE = "difference in AUC (95% interval)"


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--readme", nargs="+", default=PAGES, metavar="FILE", help=f"default: {', '.join(PAGES)}")
    parser.add_argument("--results", default="results", metavar="DIR", help="default: results")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a table is not up to date")
    args = parser.parse_args(argv)
    old = {}
    for page in args.readme:
        try:
            with open(page, encoding="utf-8") as file:
                text = file.read()
            updated = update_models(update_tables(text, args.results))
        except InputError as error:
            raise InputError(f"{page}: {error}") from error
        if updated != text:
            old[page] = updated
    for page, updated in old.items():
        if args.check:
            print(f"{page} is not up to date with {args.results}: run tools/update_readme.py", file=sys.stderr)
        else:
            write_text(page, updated)
    return int(args.check and bool(old))


def update_tables(text: str, results_dir: str) -> str:
    """``text`` with every table between two markers made anew.

    Raises:
        InputError: a marker without its counterpart, or one that names a file without a table.
    """
    markers = re.findall(r"<!-- (?:end of )?table\b.*", text)
    for start, end in itertools.zip_longest(markers[::2], markers[1::2]):
        if not MARKER.fullmatch(start) or end != END:
            raise InputError(
                f"{start} is followed by {end or 'no other marker'}. A table has two markers, each on a line "
                f"of its own: <!-- table: NAME --> and {END}"
            )

    def rewrite(match: re.Match) -> str:
        rows, *others = read_tables(os.path.join(results_dir, f"{match['name']}.md"))
        if match["form"]:
            rows = shortened(rows, [row for other in others for row in other if DIFFERENCE in row], match["p"])
        return f"{match['start']}\n\n{markdown_table(rows)}\n\n{END}"

    return re.sub(rf"(?P<start>{MARKER.pattern}).*?{END}", rewrite, text, flags=re.DOTALL)


def shortened(rows: Rows, comparisons: Rows, p: Optional[str]) -> Rows:
    """Our rows of one ``p`` (or of all), each beside what the method of the comparisons has more than it."""
    differences = {(x["methods"].split(" – ", 1)[1], x["p"]): x[DIFFERENCE] for x in comparisons}
    titles = [x for x in SHORT if x in rows[0] and not (p and x in ("p", "YI (%)"))]
    left_out = r" folds?$| ± [\d.]+" if p else r" folds?$"  # the title says folds
    shown = []
    for row in rows:
        if "missing" in row.values() or any(MARK in x for x in row.values()) or p not in (None, row.get("p")):
            continue
        shown.append({x: re.sub(left_out, "", row[x]) for x in titles})
        if differences:
            better = comparisons[0]["methods"].split(" – ", 1)[0]
            shown[-1][f"{better}'s AUC less its"] = differences.get((row["method"], row.get("p")), "")
    return shown


def update_models(text: str) -> str:
    """``text`` with what is said of each model file made anew; the paths start here."""

    def rewrite(match: re.Match) -> str:
        path = match["path"]
        facts = markdown_table(model_facts(path)) if os.path.isfile(path) else f"There is no {path} yet."
        return f"{match['start']}\n\n{facts}\n\n<!-- end of model -->"

    return MODEL.sub(rewrite, text)


def model_facts(path: str):
    """What a model file says of itself, as the rows of a table."""
    content = load_model(path, device="cpu")
    cfg = content.cfg
    networks = [cfg.MODEL.BACKBONE.MODEL if "timm" in cfg.MODEL.BACKBONE.NAME else f"ResNet-{cfg.MODEL.RESNETS.DEPTH}"]
    networks.append(cfg.MODEL.CNET.BACKBONE or f"ResNet-{cfg.MODEL.CNET.DEPTH}")
    facts = {
        "file": f"`{path}`, {os.path.getsize(path) / 1e6:.1f} MB, SHA-256 `{sha256_of_file(path)}`",
        "network": f"{cfg.MODEL.META_ARCHITECTURE}, D-Net on {networks[0]}, C-Net on {networks[1]}",
        "parameters": f"{sum(x.numel() for x in content.model.parameters()) / 1e6:.1f} million",
        "input": f"{cfg.INPUT.FORMAT}, shorter side {cfg.INPUT.MIN_SIZE_TEST} pixels, longer one at most {cfg.INPUT.MAX_SIZE_TEST}",
        "training set": f"`{content.training_set['name']}`, SHA-256 of its annotation `{content.training_set['sha256']}`",
        "share of patients with ROIs": f"{cfg.DATASETS.P:g}",
        "called malignant from": f"a probability of {content.threshold:.3f} on",
        "made by": f"tsdd_d2 {content.package_version}",
    }
    return [{"": name, " ": fact} for name, fact in facts.items()]


def read_tables(path: str) -> List[Rows]:
    """The tables of a Markdown file."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}, which a marker names, cannot be read: {error}") from error
    tables = []
    for is_table, group in itertools.groupby(lines, lambda x: x.startswith("|")):
        if is_table:
            titles, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in group]
            tables.append([dict(zip(titles, row)) for row in rows])
    if not tables or not tables[0]:
        raise InputError(f"{path}, which a marker names, holds no table.")
    return tables


if __name__ == "__main__":
    sys.exit(main())
