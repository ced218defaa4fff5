"""What the files of a run must hold: whatever stands in one, it is used or refused in one message."""

import json
import re
from typing import Any, Callable, Dict, Mapping, Optional

from ..errors import InputError
from .archive import read_file

Holds = Callable[[Any], bool]
NAME = re.compile(r"[\w.+-]{1,100}")


def _number(x: Any) -> bool:
    # false for nan and infinity, and for what no float can hold
    return isinstance(x, (int, float)) and not isinstance(x, bool) and -1e300 < x < 1e300


def _whole(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and abs(x) < 2**63


def _text(x: Any) -> bool:
    return isinstance(x, str) and not re.search("[\ud800-\udfff]", x)  # halves of characters, which no file can hold


def _or_none(holds: Holds) -> Holds:
    return lambda x: x is None or holds(x)


def _list_of(holds: Holds) -> Holds:
    return lambda x: isinstance(x, list) and all(map(holds, x))


def _dict_of(holds: Holds) -> Holds:
    return lambda x: isinstance(x, dict) and all(map(holds, x.values()))


def _box(x: Any) -> bool:
    return isinstance(x, list) and len(x) == 4 and all(map(_number, x))


RESULT: Dict[str, Holds] = {
    "seconds": _number,
    "git_revision": _or_none(_text),
    "youden_threshold": _or_none(_number),
    "overrides": _list_of(_text),
    "annotation_sha256": _dict_of(_text),
    # the names are parts of file names
    "predictions": lambda x: _dict_of(_list_of(lambda y: isinstance(y, dict)))(x) and all(map(NAME.fullmatch, x)),
    "pseudo_boxes": _dict_of(_list_of(lambda x: isinstance(x, list) and len(x) == 2 and all(map(_number, x)))),
}
REPORT: Dict[str, Holds] = {
    "youden_threshold": _or_none(_number),
    "predictions": _list_of(lambda x: isinstance(x, dict)),
}
PREDICTION: Dict[str, Holds] = {
    "image_id": _whole,
    "file_name": _text,
    "patient_id": _text,
    "label": lambda x: _whole(x) and x in (0, 1),
    "malignancy": lambda x: _number(x) and 0 <= x <= 1,
    "box": _or_none(_box),
    "roi": _or_none(_box),
}
ATTEMPT: Dict[str, Holds] = {
    "started": _number,
    "seconds": _or_none(_number),
    "exit_code": _or_none(_whole),
    "versions": _dict_of(_text),
    "git_revision": _or_none(_text),
}


def read_result(path: str, descriptor: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    """``predictions.json`` of a run, which may lie in an archive; None if there is none.

    Args:
        descriptor: of the run, with which the file must agree.

    Raises:
        InputError: the file is damaged, or of another run.
    """
    content = _read_object(path)
    if content is None:
        return None
    for name in ("annotation_sha256", "pseudo_boxes"):  # which earlier versions did not write
        content.setdefault(name, {})
    _demand(path, content, {**{name: _equals(value) for name, value in descriptor.items()}, **RESULT})
    for name, records in content["predictions"].items():
        for number, record in enumerate(records):
            any_roi = record.get("roi") is not None
            record.setdefault("num_rois", int(any_roi))  # as above
            fields = {**PREDICTION, "num_rois": lambda x: _whole(x) and x >= 0 and any_roi == (x > 0)}
            _demand(f"{path}: {name}: entry {number}", record, fields)
    return content


def read_report(path: str) -> Dict[str, Any]:
    """What the evaluator wrote about the diagnoses of one data set.

    Raises:
        InputError: the file is missing or damaged.
    """
    content = _read_object(path)
    if content is None:
        raise InputError(f"{path} is missing, which the evaluation of the run wrote. Remove results.json to repeat it.")
    _demand(path, content, REPORT)
    for number, entry in enumerate(content["predictions"]):
        _demand(f"{path}: entry {number}", entry, {key: PREDICTION[key] for key in PREDICTION if key != "roi"})
    return content


def read_record(path: str) -> Dict[str, Any]:
    """``experiment.json`` of a run, empty without the file; InputError if it is damaged."""
    content = _read_object(path)
    if content is None:
        return {}
    _demand(
        path, content, {"overrides": _list_of(_text), "attempts": lambda x: x and _list_of(lambda y: isinstance(y, dict))(x)}
    )
    for number, attempt in enumerate(content["attempts"]):
        _demand(f"{path}: attempt {number}", attempt, ATTEMPT)
    return content


def _equals(expected: Any) -> Holds:
    return lambda x: x == expected


def _read_object(path: str) -> Optional[Dict[str, Any]]:
    content = read_file(path)
    if content is None:
        return None
    try:
        found = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a JSON file: {error}. Copy it again, or remove it.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds {type(found).__name__}, no object. Copy it again, or remove it.")
    return found


def _demand(where: str, content: Mapping[str, Any], fields: Mapping[str, Holds]) -> None:
    for name, holds in fields.items():
        if name not in content:
            raise InputError(f"{where} lacks {name}. Copy the file again, or remove it.")
        if not holds(content[name]):
            raise InputError(f"{where}: {name} cannot be {str(content[name])[:80]!r}. Copy the file again, or remove it.")
