"""CSV tables: of all images of a data set, or of what another format lacks."""

import csv
import io
import os
import re
from collections import Counter, defaultdict
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from source_image import Box, SourceImage, plain_number

from tsdd_d2.errors import BBUIError, listed

__all__ = ["BOX_COLUMNS", "COLUMNS", "Row", "Table", "read_csv", "read_images"]

COLUMNS = ("file_name", "patient_id", "class")
BOX_COLUMNS = ("x", "y", "w", "h")
# Spreadsheets write semicolons where decimals have a comma.
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
# Names of other conventions, such as xmin, bbox_x and "ROI width", whose boxes would be lost in silence.
OTHER_BOX_COLUMNS = re.compile(
    r"(b?box|roi)?[\W_]*(x[12c]|y[12c]|c[xy]|[xy]_?(min|max|cent(er|re))|left|top|right|bottom|width|height)"
    r"|(.*[\W_])?(b?box|roi)[\W_]*([xywh]|\d)?"
)
# With anything before or after all four, as lesion_x.
FOUR_COLUMNS = (
    ("x", "y", "w", "h"),
    ("x", "y", "width", "height"),
    ("left", "top", "width", "height"),
    ("x1", "y1", "x2", "y2"),
    ("x0", "y0", "x1", "y1"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("minx", "miny", "maxx", "maxy"),
    ("left", "top", "right", "bottom"),
    ("cx", "cy", "w", "h"),
    ("cx", "cy", "width", "height"),
)


class Row(NamedTuple):
    """A line of a table: column -> text, with None in the last columns of a line that is too short."""

    line: int
    fields: Dict[str, Optional[str]]

    def __getitem__(self, column):  # the names of the columns, rather than places
        return self.fields[column] if isinstance(column, str) else tuple.__getitem__(self, column)


def read_csv(path: str, columns: Sequence[str]) -> Tuple[List[str], List[Row]]:
    """
    Returns:
        all columns of a CSV file, those in `columns` as they are written there, whatever their case in the file;
        and its rows. Columns may be separated by any of `SEPARATORS`; but for commas, `BOX_COLUMNS` may have decimal
        commas, which become points.

    Raises:
        BBUIError: the file is missing, is no CSV file in UTF-8, has two columns of one name, no rows, not all `columns`, or
            decimals of two kinds, or a row has more fields than there are columns.
    """
    if not os.path.isfile(path):
        what = "is no file" if os.path.exists(path) else "does not exist"
        raise BBUIError(f"{path} {what}. It must be the table of the images.")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            text = file.read()
        headers = {x: _header(text, x, columns) for x in SEPARATORS}
        # the first of those that fit best
        separator = min(headers, key=lambda x: len(set(columns) - set(headers[x])))
        header, reader = headers[separator], _reader(text, separator)
        next(reader, [])
        # spreadsheets write rows of nothing but commas
        lines = [(reader.line_num, fields) for fields in reader if any(x.strip() for x in fields)]
    except (UnicodeDecodeError, csv.Error) as error:
        message = f"{path} is no CSV file in UTF-8 ({error}). Spreadsheets save it as 'CSV UTF-8 (comma delimited)'."
        raise BBUIError(message) from error
    missing = [column for column in columns if column not in header]
    if missing:
        shown = separator.join(header)
        shown = shown if len(shown) <= 200 else f"{shown[:200]} ..."
        raise BBUIError(f"{path} has no column {', '.join(missing)}. Its header line is {shown!r}.")
    twice = sorted(name for name, number in Counter(header).items() if name and number > 1)
    if twice:
        raise BBUIError(f"{path} has two columns {listed(list(map(repr, twice)))}; which of them is meant?")
    if not lines:
        raise BBUIError(f"{path} has no rows.")
    too_long = [
        f"line {line}: it has more fields than the header line" + "; decimals are written with a point" * (separator == ",")
        for line, fields in lines
        if any(x.strip() for x in fields[len(header) :])
    ]
    if too_long:
        raise BBUIError(f"{path} cannot be used; correct these rows:", too_long)
    rows = [Row(line, dict(zip(header, fields + [None] * (len(header) - len(fields))))) for line, fields in lines]
    if separator != ",":
        with_commas = _make_points_of_commas(path, rows)
        decimals = ", and decimals by a comma" * with_commas
        print(f"{os.path.basename(path)}: columns are separated by {SEPARATORS[separator]}{decimals}.")
    return header, rows


def _reader(text: str, separator: str):
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator)


def _header(text: str, separator: str, columns: Sequence[str]) -> List[str]:
    asked = {name.casefold(): name for name in (*columns, *BOX_COLUMNS)}
    names = [name.strip() for name in next(_reader(text, separator), [])]
    return [asked.get(name.casefold(), name) for name in names]


def _make_points_of_commas(path: str, rows: Sequence[Row]) -> bool:
    """Whether decimals in `BOX_COLUMNS` are separated by a comma; the rows have points then."""
    sides = [(row.fields, column) for row in rows for column in BOX_COLUMNS if row.fields.get(column)]
    with_commas = any("," in fields[column] for fields, column in sides)
    # one of them may be that of thousands
    if with_commas and any("." in fields[column] for fields, column in sides):
        raise BBUIError(f"{path} has numbers with a point and with a comma in x, y, w, h; write decimals in one way.")
    for fields, column in sides:
        fields[column] = fields[column].replace(",", ".")
    return with_commas


def read_images(path: str) -> Tuple[List[SourceImage], List[str]]:
    """
    The images of a table with `COLUMNS` and, for those that have a ROI, `BOX_COLUMNS`. An image with several ROIs has
    several rows.

    Returns:
        list[SourceImage]: in the order of their first rows; and the problems of all rows.

    Raises:
        BBUIError: see :func:`read_csv`.
    """
    header, rows = read_csv(path, COLUMNS)
    _check_box_columns(path, header)
    unused = [name for name in header if name and name not in COLUMNS + BOX_COLUMNS]
    if unused:
        print(f"Columns of {os.path.basename(path)} that are not used: {', '.join(unused)}.")
    images: Dict[str, SourceImage] = {}
    rows_of, problems = defaultdict(list), []
    for row in rows:
        text = {column: (row.fields.get(column) or "").strip() for column in COLUMNS + BOX_COLUMNS}
        problems += [f"line {row.line}: {column} is empty" for column in COLUMNS if not text[column]]
        if "\\" in text["file_name"]:
            problems.append(f"line {row.line}: {text['file_name']!r} has a backslash; folders are separated by '/'")
        try:
            box = parse_box([text[column] for column in BOX_COLUMNS])
        except ValueError as error:
            problems.append(f"line {row.line}: {error}")
            box = None
        if not all(text[column] for column in COLUMNS):
            continue
        image = images.setdefault(
            text["file_name"],
            SourceImage(text["file_name"], f"line {row.line}", class_name=text["class"], patient=text["patient_id"]),
        )
        if box:
            image.boxes.append(box)
            image.labels.append("")
            image.places.append(f"line {row.line}")
        rows_of[os.path.normpath(text["file_name"])].append((row.line, text))
    return list(images.values()), problems + _disagreements(rows_of)


def _check_box_columns(path: str, header: Sequence[str]) -> None:
    has_box = set(BOX_COLUMNS) & set(header)
    missing = [column for column in BOX_COLUMNS if column not in header]
    others = [name for name in header if OTHER_BOX_COLUMNS.fullmatch(name.casefold())] or _four_columns(header)
    if has_box and missing:
        raise BBUIError(f"{path} has no column {', '.join(missing)}. A box is x,y,w,h: left, top, width, height in pixels.")
    if others and not has_box:
        raise BBUIError(
            f"{path} has boxes in columns that are not known: {', '.join(others)}. A box is x,y,w,h: left, top, width and "
            "height in pixels. Rename what is something else."
        )


def _four_columns(header: Sequence[str]) -> List[str]:
    """The first four columns that are named as the sides of a box but for one text before or after all of them."""
    columns = {re.sub(r"[\W_]", "", name.casefold()): name for name in header}
    for four in FOUR_COLUMNS:
        for name in columns:
            before, after = name.removesuffix(four[0]), name.removeprefix(four[0])
            for found in ([before + side for side in four], [side + after for side in four]):
                if columns.keys() >= set(found):
                    return [columns[x] for x in found]
    return []


def parse_box(values: List[str]) -> Optional[List[float]]:
    """
    XYWH from four texts, or None if all are empty.

    Raises:
        ValueError: some are no numbers.
    """
    if not any(values):
        return None
    try:
        return [plain_number(value) for value in values]
    except ValueError:
        raise ValueError(f"x, y, w, h must be four numbers or all empty, found {','.join(values)}") from None


def _disagreements(rows_of: Dict[str, List[Tuple[int, Dict[str, str]]]]) -> List[str]:
    """The rows of one image must name one patient and one class, and its file in one way."""
    problems = []
    for file_name, rows in rows_of.items():
        for column in COLUMNS:
            values = sorted({text[column] if column != "class" else text[column].casefold() for _, text in rows})
            if len(values) > 1:
                lines = ", ".join(str(line) for line, _ in rows)
                problems.append(
                    f"line {rows[0][0]}: {file_name}: its rows disagree on {column}: {', '.join(values)} (lines {lines})"
                )
    return problems


class Table:
    """
    Patients and classes of images, by `file_name`: the path below the folder of the data set, or its end, with or without the
    suffix of the name, where only one row has it.
    """

    def __init__(self, path: str):
        """
        Raises:
            BBUIError: see :func:`read_csv`; there is neither `patient_id` nor `class`, or an image has two of one.
        """
        self.path = path
        header, rows = read_csv(path, ("file_name",))
        by_name = {name.casefold(): name for name in header}
        self.columns = {x: by_name[x] for x in ("patient_id", "class") if x in by_name}
        if not self.columns:
            raise BBUIError(f"{path} has no column patient_id or class. Its header line is {','.join(header)!r}.")
        _check_box_columns(path, header)
        self._rows: Dict[str, Dict[str, str]] = {}
        self._boxes: Dict[str, List[Tuple[str, Box]]] = defaultdict(list)
        self._used: Dict[str, str] = {}
        self._short: Dict[str, List[str]] = defaultdict(list)
        problems = []
        for row in rows:
            name = _slashes(row["file_name"])
            fields = {x: (row.fields[column] or "").strip() for x, column in self.columns.items()}
            if not name:
                problems.append(f"line {row.line}: file_name is empty")
            elif self._rows.setdefault(name, fields) != fields:
                problems.append(f"line {row.line}: {name} has another patient or class in an earlier line")
            try:
                box = parse_box([(row.fields.get(column) or "").strip() for column in BOX_COLUMNS])
            except ValueError as error:
                problems.append(f"line {row.line}: {error}")
                continue
            if box:
                frame = (row.fields.get(by_name.get("frame")) or "").strip()
                # spreadsheets make 2.0 of a number in a column with gaps
                self._boxes[name].append((frame.removesuffix(".0"), box))
        if problems:
            raise BBUIError(f"{path} cannot be used; correct these rows:", problems)
        for name in self._rows:
            base = name.rsplit("/", 1)[-1]
            for short in {base, os.path.splitext(base)[0]} - {name}:
                self._short[short].append(name)

    @property
    def has_boxes(self) -> bool:
        return bool(self._boxes)

    def boxes(self, file_name: str) -> List[Tuple[str, Box]]:
        """(the text in the column `frame`, XYWH box) of each row of an image that has a box."""
        row = self._row_of(file_name)
        return self._boxes.get(row, []) if row else []

    def find(self, file_name: str, column: str) -> Optional[str]:
        """
        "patient_id" or "class" of an image, or None if the table does not have it.

        Raises:
            BBUIError: several rows may be meant, or a row without folders means several images.
        """
        row = self._row_of(file_name)
        return self._rows[row].get(column) or None if row else None

    def _row_of(self, file_name: str) -> Optional[str]:
        parts = file_name.split("/")
        for name in (*("/".join(parts[i:]) for i in range(len(parts))), os.path.splitext(parts[-1])[0]):
            rows = [name] if name in self._rows else [x for x in self._short.get(name, []) if _folders_agree(x, file_name)]
            if len(rows) > 1:
                raise BBUIError(f"{self.path}: {file_name} may be any of {listed(rows)}; give its folders too.")
            if rows:
                other = self._used.setdefault(rows[0], file_name)
                if other != file_name and rows[0] != file_name:
                    raise BBUIError(f"{self.path}: {rows[0]} may be {other} or {file_name}; give its folders too.")
                return rows[0]
        return None

    def account(self) -> List[str]:
        """What to tell of the table when all images were looked up."""
        left = [name for name in self._rows if name not in self._used]
        if not left:
            return []
        return [f"{len(left)} rows of {self.path} are of no image here: {listed(left)}"]


def _folders_agree(name: str, other: str) -> bool:
    """Whether the folders of one path are the last ones of the other's."""
    folders, others = name.split("/")[:-1], other.split("/")[:-1]
    common = min(len(folders), len(others))
    return folders[len(folders) - common :] == others[len(others) - common :]


def _slashes(name: Optional[str]) -> str:
    return (name or "").strip().replace("\\", "/").removeprefix("./")
