#!/usr/bin/env python
"""Writes the tables of the README from the files in results/.

A table stands between two markers; text around them stays as it is:
    <!-- table: NAME -->          what tools/collect_results.py, compare_rankings.py or explain_selection.py wrote to
                                  results/NAME.json, or the tables of an experiment that tsdd_d2.report rendered there
    <!-- table: NAME rounds -->   what every round of refinement did, in the same file
    <!-- end of table -->
"""

import argparse
import itertools
import os
import re
import sys

from tsdd_d2.data.files import read_json, write_text
from tsdd_d2.errors import InputError
from tsdd_d2.tables import explanation_tables, markdown_table, rankings_table, rounds_table, summary_table

EPILOG = """
Examples:
    $ python tools/update_readme.py
    $ python tools/update_readme.py --check     # exit code 1 if a table is not what results/ says
"""

END = "<!-- end of table -->"
MARKER = re.compile(r"<!-- table: (?P<name>\S+)(?P<rounds> rounds)? -->")


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--readme", default="README.md", metavar="FILE", help="default: README.md")
    parser.add_argument("--results", default="results", metavar="DIR", help="default: results")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 if a table is not up to date"
    )
    args = parser.parse_args(argv)
    try:
        with open(args.readme, encoding="utf-8") as file:
            text = file.read()
        updated = update_tables(text, args.results)
    except (InputError, OSError) as error:
        print(f"error: {args.readme}: {error}", file=sys.stderr)
        return 2
    if args.check:
        if updated != text:
            message = f"{args.readme} is not up to date with {args.results}: run tools/update_readme.py"
            print(message, file=sys.stderr)
        return int(updated != text)
    if updated != text:
        write_text(args.readme, updated)
    return 0


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
        return f"{match['start']}\n\n{render(results_dir, match['name'], bool(match['rounds']))}\n\n{END}"

    return re.sub(rf"(?P<start>{MARKER.pattern}).*?{END}", rewrite, text, flags=re.DOTALL)


def render(results_dir: str, name: str, rounds: bool) -> str:
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
    if rounds and "rounds" in content:
        return rounds_table(content["rounds"])
    if not rounds and "results" in content:
        return summary_table(content["results"])
    if not rounds and "tables" in content:
        return "\n\n".join(f"{x['caption']}\n\n{markdown_table(x['rows'])}" for x in content["tables"])
    if not rounds and "margins" in content:
        return explanation_tables(content["candidates"], content["margins"])
    rankings = {name: row for name, row in content.items() if isinstance(row, dict) and "mean IoU" in row}
    if not rounds and rankings:
        return rankings_table(rankings)
    raise InputError(
        f"{path} holds no {'rounds' if rounds else 'results, rankings, explanation or tables'}: it is none of the files "
        "that tools/collect_results.py, compare_rankings.py, explain_selection.py and tsdd_d2.report write."
    )


if __name__ == "__main__":
    sys.exit(main())
