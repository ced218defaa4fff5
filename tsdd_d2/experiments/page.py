"""The files of the experiments, and report.html: all of them on one page that needs no network and no other file."""

import base64
import io
import os
from typing import Any, Collection, Dict, List, NamedTuple, Optional, Sequence
from urllib.parse import quote

from PIL import Image

from ..data.files import write_json, write_text
from ..templates import environment
from .groups import Entry
from .paper import MARK, OURS, title
from .plan import duration
from .tables import Table

FILE_NAME = "report.html"
# Of the photographs that wide figures consist of; plots lose nothing.
WEBP_QUALITY = 75


class FigureFile(NamedTuple):
    """A figure in ``<name>.png``, perhaps ``.pdf``; ``wide`` if it must not be shrunk to the width of a phone."""

    name: str
    caption: str
    wide: bool = False


class Section(NamedTuple):
    """An experiment as it is shown.

    Attributes:
        name: of its files.
        entries: the runs of the plan.
    """

    name: str
    title: str
    tables: List[Table]
    figures: List[FigureFile]
    entries: Sequence[Entry]

    def write(self, folder: str, also: Collection[str] = ()) -> None:
        """
        ``<name>.md`` with all tables as people read them, and a CSV file of each with plain numbers.

        Args:
            also: "tex" for a LaTeX file of each table, "json" for ``<name>.json``.
        """
        if self.tables:
            write_text(os.path.join(folder, f"{self.name}.md"), "\n".join(table.markdown for table in self.tables))
        for table in self.tables:
            write_text(os.path.join(folder, f"{table.name}.csv"), table.csv)
            if "tex" in also:
                write_text(os.path.join(folder, f"{table.name}.tex"), table.latex)
        if "json" in also:
            content = {"title": self.title, "runs": [_row(x, folder) for x in self.entries]}
            content.update({name: [x._asdict() for x in getattr(self, name)] for name in ("tables", "figures")})
            write_json(os.path.join(folder, f"{self.name}.json"), content)


def write_report(sections: Sequence[Section], folder: str, resamples: int, notice: Optional[str] = None) -> str:
    """
    Makes the page of some experiments whose files are in a folder.

    Args:
        resamples: of the bootstrap.
        notice: shown at the top, for example that the numbers are made up.
    Returns:
        the path of the page, ``folder/report.html``.
    """
    runs = [_row(x, folder) for x in {x.run: x for section in sections for x in section.entries}.values()]
    page = (
        environment("tsdd_d2.experiments")
        .get_template("report.html")
        .render(
            sections=sections,
            runs=runs,
            finished=[run for run in runs if run["seconds"] is not None],
            missing=[run for run in runs if run["seconds"] is None],
            total_seconds=sum(run["seconds"] or 0 for run in runs),
            bootstrap=resamples,
            notice=notice,
            paper_mark=MARK,
            ours=title(OURS),
            duration=duration,
            exists=lambda name: os.path.isfile(os.path.join(folder, name)),
            source=lambda figure: _data_url(os.path.join(folder, f"{figure.name}.png"), figure.wide),
            title=title,
        )
    )
    path = os.path.join(folder, FILE_NAME)
    write_text(path, page)
    return path


def _row(entry: Entry, folder: str) -> Dict[str, Any]:
    """A run in the list of the page."""
    seconds, revision = (entry.result.seconds, entry.result.git_revision) if entry.result else (None, None)
    log = log_link(entry.run.log, entry.run.output, folder)
    return {**entry.run.descriptor, "status": entry.status, "seconds": seconds, "git_revision": revision, "log": log}


def log_link(log: str, output: str, folder: str) -> Optional[str]:
    """A relative link to a log; None where there is none, or where page and runs need not stay in one folder."""
    folders = [os.path.abspath(output), os.path.abspath(folder)]
    if not os.path.isfile(log) or os.path.commonpath(folders) not in folders:
        return None
    return f"./{quote(os.path.relpath(log, folder).replace(os.sep, '/'))}"


def _data_url(path: str, wide: bool) -> str:
    webp = io.BytesIO()
    Image.open(path).convert("RGB").save(webp, "WEBP", lossless=not wide, quality=WEBP_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(webp.getvalue()).decode('ascii')}"
