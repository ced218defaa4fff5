"""Patients whose ids look alike: one person may have been written in two ways."""

import re
import unicodedata
from typing import Dict, Iterable, List, Tuple

__all__ = ["clean_patient", "look_alikes"]


def clean_patient(patient: str) -> str:
    """A patient id without what a spreadsheet adds (``="002"``, a leading apostrophe) and what nobody sees."""
    text = unicodedata.normalize("NFKC", patient)
    text = "".join(x for x in text if unicodedata.category(x) not in ("Cf", "Cc"))
    text = re.sub(r'^\s*="?(.*?)"?\s*$', r"\1", text)
    return " ".join(text.removeprefix("'").split())


def look_alikes(patients: Iterable[str]) -> List[Tuple[str, ...]]:
    """
    Groups of ids that differ in invisible characters, case, leading zeros of a number or a decimal ``.0`` only.

    Returns:
        list[tuple[str]]: each group sorted, the shortest first; ids that are like no other are in none.
    """
    groups: Dict[str, List[str]] = {}
    for patient in sorted(set(patients), key=lambda x: (len(x), x)):
        key = re.sub(r"(?<![\d.])0+(?=\d)", "", re.sub(r"^(\d+)\.0+$", r"\1", clean_patient(patient).casefold()))
        groups.setdefault(key, []).append(patient)
    return [tuple(group) for group in groups.values() if len(group) > 1]
