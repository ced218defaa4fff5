#!/usr/bin/env python
"""Writes the tables of README.md and results/README.md from the files in results/.

A table stands between two markers; text around them stays as it is:
    <!-- table: NAME -->          what tools/collect_results.py, compare_rankings.py or explain_selection.py wrote to
                                  results/NAME.json, or the tables of an experiment that tsdd_d2.report rendered there
    <!-- table: NAME rounds -->   what every round of refinement did, in the same file
    <!-- table: NAME short -->    of an experiment, its first table, less the paper's rows and most columns
    <!-- end of table -->
"""

import argparse
import itertools
import os
import re
import sys
from typing import Optional

from tsdd_d2.data.files import read_json, write_text
from tsdd_d2.errors import InputError, reports_errors
from tsdd_d2.report.paper import MARK
from tsdd_d2.evaluation.tables import explanation_tables, markdown_table, rankings_table, rounds_table, summary_table

EPILOG = """
Examples:
    $ python tools/update_readme.py
    $ python tools/update_readme.py --check     # exit code 1 if a table is not what results/ says
"""

END = "<!-- end of table -->"
MARKER = re.compile(r"<!-- table: (?P<name>\S+)(?: (?P<form>rounds|short))? -->")
PAGES = ("README.md", os.path.join("results", "README.md"))
SHORT = ("method", "p", "AUC", "accuracy (%)", "YI (%)", "folds")


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--readme", nargs="+", default=PAGES, metavar="FILE", help=f"default: {' and '.join(PAGES)}")
    parser.add_argument("--results", default="results", metavar="DIR", help="default: results")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 if a table is not up to date"
    )
    args = parser.parse_args(argv)
    old = []  # (page, what it should be)
    for page in args.readme:
        try:
            with open(page, encoding="utf-8") as file:
                text = file.read()
            updated = update_tables(text, args.results)
        except InputError as error:
            raise InputError(f"{page}: {error}") from error
        if updated != text:
            old.append((page, updated))
    for page, updated in old:
        if args.check:
            print(f"{page} is not up to date with {args.results}: run tools/update_readme.py", file=sys.stderr)
        else:
            write_text(page, updated)
    return int(args.check and bool(old))


def update_tables(text: str, results_dir: str) -> str:
    """
    Returns:
        ``text`` with every table between two markers made anew.

    Raises:
        InputError: a marker without its counterpart, or one that names a file which cannot be used.
    """
    markers = re.findall(r"<!-- (?:end of )?table\b.*", text)
    for start, end in itertools.zip_longest(markers[::2], markers[1::2]):
        if not MARKER.fullmatch(start) or end != END:
            raise InputError(
                f"{start} is followed by {end or 'no other marker'}. A table has two markers, each on a line "
                f"of its own: <!-- table: NAME --> and {END}"
            )

    def rewrite(match: re.Match) -> str:
        return f"{match['start']}\n\n{render(results_dir, match['name'], match['form'])}\n\n{END}"

    return re.sub(rf"(?P<start>{MARKER.pattern}).*?{END}", rewrite, text, flags=re.DOTALL)


def render(results_dir: str, name: str, form: Optional[str]) -> str:
    path = os.path.join(results_dir, f"{name}.json")
    try:
        content = read_json(path)
    except FileNotFoundError as error:
        raise InputError(
            f"{path}, which a marker names, does not exist; tools/collect_results.py writes it."
        ) from error
    except ValueError as error:
        raise InputError(error) from error
    if not isinstance(content, dict):
        content = {}
    if form == "rounds" and "rounds" in content:
        return rounds_table(content["rounds"])
    if form == "short" and "tables" in content:
        rows = [x for x in content["tables"][0]["rows"] if MARK not in x.get("method", MARK)]
        if rows:
            return markdown_table([{title: row[title] for title in SHORT if title in row} for row in rows])
    if form is None and "results" in content:
        return summary_table(content["results"])
    if form is None and "tables" in content:
        return "\n\n".join(f"{x['caption']}\n\n{markdown_table(x['rows'])}" for x in content["tables"])
    if form is None and "margins" in content:
        return explanation_tables(content["candidates"], content["margins"])
    rankings = {name: row for name, row in content.items() if isinstance(row, dict) and "mean IoU" in row}
    if form is None and rankings:
        return rankings_table(rankings)
    wanted = {"rounds": "rounds", "short": "table of methods"}.get(form, "results, rankings, explanation or tables")
    raise InputError(
        f"{path} holds no {wanted}. A table is made of what tools/collect_results.py, compare_rankings.py, "
        "explain_selection.py or tsdd_d2.report wrote."
    )


if __name__ == "__main__":
    sys.exit(main())
