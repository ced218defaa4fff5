"""Frames of DICOM files as PNG images."""

import os
from typing import Dict, List, Optional, Tuple

import cv2
import numpy as np
import pydicom
from csv_table import Table
from source_image import SourceImage
from tqdm import tqdm

from tsdd_d2.data.files import write_bytes
from tsdd_d2.errors import InputError, listed
from tsdd_d2.inference.dicom import DICOM_SUFFIXES, WithoutImage, is_dicom_file, read_dicom
from tsdd_d2.inference.input_images import find_image_files

__all__ = ["read_images"]


def read_images(source: str, root: str, table: Optional[Table]) -> Tuple[List[SourceImage], List[str]]:
    """
    Writes every frame of the DICOM files below `source` to `<root>/images`, cut to its ultrasound region, and returns the
    images and the problems of all files. Reports are left out and counted.

    `st1/IM7.dcm` becomes `images/st1/IM7.png`, or `images/st1/IM7_frame0001.png` and so on. A picture that is there keeps its
    pixels, since earlier annotation files may name it: a frame that differs from it is a problem.

    A file is looked up in the table by its own name. Boxes there are in pixels of the whole frame; those of a file with
    several frames name theirs in the column `frame`.
    """
    if not os.path.isdir(source):
        raise InputError(f"{source} is no folder.")
    images: List[SourceImage] = []
    problems: List[str] = []
    reports: List[str] = []
    cines: List[str] = []
    taken: Dict[str, str] = {}
    files = [path for path in find_image_files([source]) if is_dicom_file(path)]
    for path in tqdm(files, "Reading DICOM files", unit="file", disable=None):
        name = os.path.relpath(path, source).replace(os.sep, "/")
        try:
            found = _read_file(path, name, root, table, taken)
        except WithoutImage:
            reports.append(name)
        except InputError as error:
            problems.append(str(error))
        else:
            images += found
            cines += [f"{name} ({len(found)})"] * (len(found) > 1)
    if reports:
        print(f"{len(reports)} DICOM files without image, such as reports, are left out: {listed(reports)}")
    if cines:
        print(f"{len(cines)} files have several frames, each of which is an image: {listed(cines)}")
    named_by_table = table is not None and "patient_id" in table.columns
    if any(image.patient for image in images) and not named_by_table:
        print(
            "Patients are named by PatientID, which the annotation files then hold: replace it in the table if it identifies."
        )
    pictures = os.path.join(root, "images")
    print(f"{len(images)} frames of {len(files) - len(reports)} files are in {pictures}.")
    there = [os.path.relpath(os.path.join(x, name), root) for x, _, names in os.walk(pictures) for name in names]
    others = sorted(x for x in there if x.replace(os.sep, "/").lower() not in taken)
    if others:
        print(f"{len(others)} files there are of none of them, and are left out: {listed(others)}")
    return images, problems


def _read_file(path: str, name: str, root: str, table: Optional[Table], taken: Dict[str, str]) -> List[SourceImage]:
    images = []
    patient = str(pydicom.dcmread(path, stop_before_pixels=True, force=True).get("PatientID") or "") or None
    boxes = table.boxes(name) if table else []
    for frame, pixels, (x0, y0, x1, y1) in read_dicom(path):
        stem = name[: -len(suffix)] if (suffix := os.path.splitext(name)[1]).lower() in DICOM_SUFFIXES else name
        file_name = f"images/{stem}.png" if frame is None else f"images/{stem}_frame{frame:04d}.png"
        other = taken.setdefault(file_name.lower(), path)
        if other != path:
            raise InputError(f"{path}: its picture would be that of {other}; rename one of them.")
        _write_picture(os.path.join(root, file_name), pixels[y0:y1, x0:x1, ::-1], path)
        where = name if frame is None else f"{name}, frame {frame}"
        image = SourceImage(file_name, where, known_as=name, patient=patient)
        own = ("", "1") if frame is None else (str(frame),)  # as the table has it
        image.boxes = [[x - x0, y - y0, width, height] for number, (x, y, width, height) in boxes if number in own]
        image.labels = [""] * len(image.boxes)
        images.append(image)
    if sum(len(image.boxes) for image in images) < len(boxes):
        raise InputError(
            f"{path}: the table has {len(boxes)} boxes for it, of frames {listed(sorted({x or 'without number' for x, _ in boxes}))}; "
            f"it has {len(images)} frames."
        )
    return images


def _write_picture(picture: str, pixels: np.ndarray, source: str) -> None:
    if os.path.exists(picture):
        if np.array_equal(cv2.imread(picture), pixels):
            return
        raise InputError(
            f"{source}: {picture} has other pixels, which earlier annotation files may mean; remove it, or choose another --root."
        )
    encoded, content = cv2.imencode(".png", pixels)
    if not encoded:
        raise InputError(f"{source}: its pixels cannot be written as PNG.")
    write_bytes(picture, content.tobytes())
