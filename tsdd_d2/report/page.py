"""report.html: everything that was rendered into a folder, as one file that needs no network and no other file."""

import base64
import io
import os
from typing import Any, Dict, List, Mapping, Optional
from urllib.parse import quote

from PIL import Image

from ..data.files import read_json, write_text
from ..errors import InputError
from ..experiments import duration
from ..templates import environment
from .methods import stage_title, title
from .paper import MARK
from .runs import FINISHED, share

FILE_NAME = "report.html"
# In the order of the page.
SECTIONS = ("table1", "table2", "table3", "roc", "fig6", "fig8", "fig9")
# Of the photographs that wide figures consist of; plots lose nothing.
WEBP_QUALITY = 75


def write_report(output_dir: str, notice: Optional[str] = None) -> str:
    """
    Makes the page of all experiments whose ``<experiment>.json`` is in a folder.

    Args:
        notice: shown at the top, for example that the figures are made up.
    Returns:
        the path of the page, ``output_dir/report.html``.
    Raises:
        InputError: nothing was rendered into the folder, or one of its files is missing or damaged.
    """
    sections = {}
    for name in SECTIONS:
        path = os.path.join(output_dir, f"{name}.json")
        if os.path.isfile(path):
            sections[name] = _read(path)
    if not sections:
        raise InputError(f"{output_dir} holds no experiment to report.")
    for section in sections.values():
        for figure in section["figures"]:
            figure["source"] = _data_url(os.path.join(output_dir, f"{figure['name']}.png"), figure["wide"])
    runs = _all_runs(sections.values())
    page = environment("tsdd_d2.report").get_template("report.html").render(
        sections=sections,
        runs=runs,
        finished=[run for run in runs if run["status"] == FINISHED],
        missing=_missing(sections),
        total_seconds=sum(run["seconds"] or 0 for run in runs),
        bootstrap=max(section["bootstrap"] for section in sections.values()),
        notice=notice,
        paper_mark=MARK,
        duration=duration,
        exists=lambda name: os.path.isfile(os.path.join(output_dir, name)),
        log_link=log_link,
        share=share,
        stage_title=stage_title,
        title=title,
    )
    path = os.path.join(output_dir, FILE_NAME)
    write_text(path, page)
    return path


def log_link(log: Optional[str]) -> Optional[str]:
    """A link to a log by its relative path; None for anything else, so that no link leaves the disk."""
    return None if not log or os.path.isabs(log) else f"./{quote(log.replace(os.sep, '/'))}"


def _all_runs(sections) -> List[Dict[str, Any]]:
    """Every run once, as the section that was rendered last in order of the page shows it."""
    runs: Dict[tuple, Dict[str, Any]] = {}
    for section in sections:
        for run in section["runs"]:
            if _key(run) not in runs or runs[_key(run)]["status"] != FINISHED:
                runs[_key(run)] = run
    return list(runs.values())


def _missing(sections: Mapping[str, Mapping[str, Any]]) -> List[Dict[str, Any]]:
    """Every run that a section lacks, once; "stale": the sections that lack it though another one shows it, and were
    rendered before it was finished, or with another threshold."""
    missing: Dict[tuple, Dict[str, Any]] = {}
    lacking: Dict[tuple, List[str]] = {}
    shown = set()
    for name, section in sections.items():
        for run in section["runs"]:
            if run["status"] == FINISHED:
                shown.add(_key(run))
            else:
                missing.setdefault(_key(run), run)
                lacking.setdefault(_key(run), []).append(name)
    return [{**run, "stale": lacking[key] if key in shown else []} for key, run in missing.items()]


def _key(run: Mapping[str, Any]) -> tuple:
    return tuple(run[x] for x in ("data", "profile", "p", "method", "stage", "fold", "seed"))


def _read(path: str) -> Dict[str, Any]:
    try:
        return read_json(path)
    except ValueError as error:
        raise InputError(str(error)) from error


def _data_url(path: str, wide: bool) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise InputError(f"A figure of the report is missing: {error}. Render its experiment again.") from error
    webp = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").save(webp, "WEBP", lossless=not wide, quality=WEBP_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(webp.getvalue()).decode('ascii')}"
