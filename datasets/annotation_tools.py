"""What annotation tools export: COCO, YOLO text files and Pascal VOC."""

import importlib
import os
import re
import tempfile
from collections import defaultdict
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple
from urllib.parse import unquote

import yaml
from mask_folders import list_images, stem
from pycocotools import mask as coco_mask
from source_image import Box, SourceImage, plain_number, stated_size

from tsdd_d2.data.bbui import EXTRA_ANNOTATION_KEYS
from tsdd_d2.data.entries import box_problems
from tsdd_d2.data.files import read_json, read_yaml, walk
from tsdd_d2.data.image_sizes import read_image_sizes
from tsdd_d2.data.validation import reason_against_round
from tsdd_d2.errors import BBUIError, InputError, listed

__all__ = ["FileFinder", "read_coco", "read_coco_file", "read_voc", "read_yolo", "rotation_problems"]

IMAGE_KEYS = ("true_bbox", "roi_veto", "normal")
# Label Studio puts eight hexadecimal digits before the name of a file that is uploaded, in which it keeps letters, digits and
# "_-." alone; of a file in its local storage it gives an address, such as /data/local-files/?d=mine/a%20b.png.
_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")
_ADDRESS = re.compile(r"https?://[^/]+/|.*[?&]d=")


def _as_uploaded(name: str) -> str:
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))


def _nearest(names: List[str], folder: Optional[str]) -> List[str]:
    """Those in `folder`, or else all."""
    return [name for name in names if os.path.dirname(name) == folder] or names


Read = Tuple[List[SourceImage], List[str]]


def _needed(module: str) -> Any:
    """
    A module of the extra `prepare`, which the other data sets do without.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise InputError(
            f"This format needs the package {package}: pip install -c constraints.txt -e '.[prepare]'"
        ) from error


class FileFinder:
    """Finds the files of a data set by names that tools have shortened or moved."""

    def __init__(self, root: str, names: Optional[Sequence[str]] = None):
        """
        Args:
            names: of all files relative to `root`; by default those of the images below it.
        """
        if names is None:
            names = [
                os.path.relpath(path, root).replace(os.sep, "/") for folder, _ in walk(root) for path in list_images(folder)
            ]
        self.names = list(names)
        self._names = set(self.names)
        self.by_name_alone: List[str] = []
        self._by_tail: Dict[str, List[str]] = defaultdict(list)
        self._as_uploaded: Dict[str, List[str]] = defaultdict(list)
        for name in self.names:
            parts = name.split("/")
            for i in range(len(parts)):
                self._by_tail["/".join(parts[i:])].append(name)
            self._as_uploaded[_as_uploaded(parts[-1])].append(name)

    def __call__(self, name: str, folder: Optional[str] = None) -> str:
        """
        The file that `name` means: itself, or the only one that ends as it does, with as many folders as there are.

        Args:
            folder: of the file that names it, relative to the root; images there go before others.

        Raises:
            ValueError: there is none, or several.
        """
        paths = [os.path.normpath(x.replace("\\", "/")).lstrip("/") for x in (name, unquote(_ADDRESS.sub("", name)))]
        for path in [*(os.path.normpath(os.path.join(folder or "", path)) for path in paths), *paths]:
            if path in self._names:
                return path
        for path in reversed(paths):
            parts = path.split("/")
            tail = next((x for i in range(len(parts)) if (x := "/".join(parts[i:])) in self._by_tail), "")
            if "/" in tail and tail in self._names:
                return tail
            uploaded = _UPLOADED.fullmatch(parts[-1])
            found = self._by_tail.get(tail) or uploaded and self._as_uploaded.get(_as_uploaded(uploaded[1])) or []
            if found:
                break
        found = _nearest(found, folder)
        if len(found) != 1:
            several = f"{len(found)} files are called so: {listed(found)}; --root may name the folder of one"
            raise ValueError(several if found else "there is no such image")
        self.by_name_alone.append(name)
        return found[0]

    def tell(self) -> None:
        if self.by_name_alone:
            number = len(self.by_name_alone)
            print(f"{number} images were found by the end of their names: {listed(self.by_name_alone)}")


# --------------------------------------------------------------------------------------------- COCO


def read_coco(paths: Sequence[str], root: str) -> Read:
    """
    The images of COCO files, and the problems of their entries. Annotations are numbered anew: some tools begin with 0,
    which COCO's evaluation takes for "no match". Our own fields are kept where a file has them.

    Raises:
        InputError: one is no COCO file, or a round of ours that lost its ROI fields.
    """
    find, images, problems = FileFinder(root), [], []
    for path in paths:
        found, wrong = _read_coco(path, root, find, {image.file_name for image in images})
        images += found
        problems += [f"{os.path.relpath(path, root)}: {x}" if len(paths) > 1 else x for x in wrong]
    find.tell()
    return images, problems


def _read_coco(path: str, root: str, find: FileFinder, earlier: Set[str]) -> Read:
    content = read_coco_file(path)
    reason = reason_against_round(content, path)
    if reason:
        raise BBUIError(f"{path}: {reason} Give the file that was imported there: --like round.json")
    names: Dict[Any, str] = {}
    for category in content["categories"]:
        key, name = category.get("id"), str(category.get("name"))
        if names.setdefault(key, name) != name:
            raise InputError(f"{path}: the category {key!r} has two names, {names[key]!r} and {name!r}.")
    images, problems = {}, []
    for entry in content["images"]:
        where = f"image {entry.get('id')!r} ({entry.get('file_name')!r})"
        try:
            file_name = find(str(entry.get("file_name")), os.path.relpath(os.path.dirname(os.path.abspath(path)), root))
        except ValueError as error:
            problems.append(f"{where}: below {root} {error}")
            continue
        if entry.get("id") in images or file_name in {*earlier, *(image.file_name for image in images.values())}:
            problems.append(f"{where}: it is there twice, as where two readers annotated it; keep one of them")
            continue
        category = entry.get("category_id")
        images[entry.get("id")] = SourceImage(
            file_name,
            where,
            class_name=None if category is None else names.get(category, str(category)),
            patient=None if entry.get("patient_id") is None else str(entry["patient_id"]),
            stated=stated_size(entry.get("height"), entry.get("width")),
            fields={key: entry[key] for key in IMAGE_KEYS if key in entry},
        )
    sizes = {entry.get("id"): (entry.get("height"), entry.get("width")) for entry in content["images"]}
    crowds = 0
    for annotation in content["annotations"]:
        image_id = annotation.get("image_id")
        where = f"annotation {annotation.get('id')!r} of image {image_id!r}"
        if image_id not in sizes or annotation.get("category_id") not in names:
            missing = "image" if image_id not in sizes else "category"
            problems.append(f"{where}: its {missing} is not in the file")
        elif image_id in images:  # otherwise told above
            mask, wrong = _mask_box(annotation.get("segmentation"), sizes[image_id])
            box = annotation.get("bbox") or mask
            wrong = wrong or box_problems("bbox", box, None)
            wrong = wrong or rotation_problems(annotation.get("attributes"))
            image = images[image_id]
            if wrong:
                problems += [f"{where} ({image.file_name}): {problem}" for problem in wrong]
                continue
            image.boxes.append([float(value) for value in box])
            image.labels.append(names[annotation["category_id"]])
            image.mask_boxes.append(mask)
            image.roi_fields.append({key: annotation[key] for key in EXTRA_ANNOTATION_KEYS if key in annotation})
            crowds += annotation.get("iscrowd", 0) == 1
    if crowds:
        print(f"{crowds} annotations are marked as crowds, as tools mark masks of run lengths; each is taken as one ROI.")
    return list(images.values()), problems


def read_coco_file(path: str) -> Dict[str, Any]:
    """
    Raises:
        InputError: the file is missing or has not the lists of a COCO file.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path} does not exist. It must be a COCO file.")
    content = read_json(path)
    for key in ("images", "annotations", "categories"):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise InputError(f"{path} is no COCO file: it has no list {key!r} of objects.")
        if any(isinstance(entry.get(name), (list, dict)) for entry in entries for name in ("id", "image_id", "category_id")):
            raise InputError(f"{path} is no COCO file: an id in {key!r} is a list or an object.")
    return content


def rotation_problems(attributes: Any) -> List[str]:
    """Of a box whose attributes have a `rotation`, as CVAT writes it: in degrees, and 0 for most."""
    rotation = attributes.get("rotation") if isinstance(attributes, dict) else None
    if rotation in (None, ""):
        return []
    try:
        upright = plain_number(str(rotation)) % 360 == 0
    except ValueError:
        upright = False
    return [] if upright else [f"its box is turned (rotation {rotation}); give the upright box around the lesion"]


def _mask_box(segmentation: Any, size: Tuple[Any, Any]) -> Tuple[Optional[Box], List[str]]:
    """The XYWH box around polygons or a run-length encoding, or None; and what is wrong with them."""
    if not segmentation or not all(isinstance(side, int) for side in size):
        return None, []
    try:
        if isinstance(segmentation, list):
            points = [float(value) for polygon in segmentation for value in polygon]
            x, y = points[0::2], points[1::2]
            return [min(x), min(y), max(x) - min(x), max(y) - min(y)], []
        runs = segmentation if isinstance(segmentation["counts"], str) else coco_mask.frPyObjects(segmentation, *size)
        box = [float(value) for value in coco_mask.toBbox(runs)]
        return (box if box[2] > 0 else None), []
    except Exception as error:  # whatever the library makes of nonsense
        return None, [f"its segmentation cannot be read: {type(error).__name__}: {error}"]


# --------------------------------------------------------------------------------------------- YOLO


def read_yolo(root: str) -> Read:
    """
    All images below `root` with the boxes of their label files: beside the image, or in the folder labels/ where the image
    lies in images/. The names of the classes are in data.yaml (Ultralytics) or classes.txt (LabelImg, Label Studio).

    Raises:
        InputError: there are no names, or a label file cannot be read.
    """
    names, supervision = _yolo_names(root), _needed("supervision")
    images, problems, used = [], [], set()
    with tempfile.TemporaryDirectory() as temporary:
        names_file = os.path.join(temporary, "data.yaml")
        with open(names_file, "w", encoding="utf-8") as file:
            yaml.safe_dump({"names": names}, file)
        for folder in [x for x, _ in walk(root) if list_images(x)]:
            labels = _label_folder(folder)
            for path in list_images(folder):
                label_file = os.path.join(labels, f"{stem(path)}.txt")
                used.add(os.path.realpath(label_file))
                problems += _label_problems(label_file, len(names))
            if problems:
                continue
            try:
                read = supervision.DetectionDataset.from_yolo(folder, labels, names_file)
            except Exception as error:  # whatever the library makes of nonsense, of an image too
                read_image_sizes(folder, list_images(folder))
                raise InputError(f"The labels in {labels} cannot be read: {error}") from error
            for path in list_images(folder):
                found = read.annotations[path]
                image = SourceImage(os.path.relpath(path, root).replace(os.sep, "/"), os.path.relpath(path, root))
                # float32 of the library: a thousandth of a pixel is not in the file
                image.boxes = [
                    [round(float(x), 3) for x in (x0, y0, x1 - x0, y1 - y0)] for x0, y0, x1, y1 in found.xyxy.astype(float)
                ]
                image.labels = [names[i] for i in found.class_id] if len(found) else []
                images.append(image)
    for path in [os.path.join(folder, name) for folder, names in walk(root) for name in names]:
        if path.lower().endswith(".txt") and os.path.realpath(path) not in used and _is_label(path, root):
            problems.append(f"{path}: a label file without image; it must be named as its image is, and end in .txt")
    return images, problems


def _yolo_names(root: str) -> List[str]:
    for name in ("data.yaml", "dataset.yaml"):
        path = os.path.join(root, name)
        if os.path.isfile(path):
            content = read_yaml(path)
            names = content.get("names") if isinstance(content, dict) else None
            if isinstance(names, dict):
                if set(names) != set(range(len(names))):
                    raise InputError(
                        f"{path}: the numbers of 'names' must be 0, 1, 2, ..., found {listed(list(map(str, names)))}."
                    )
                names = [names[i] for i in range(len(names))]
            if not isinstance(names, list) or not names:
                raise InputError(f"{path} has no list 'names' of the classes.")
            return [str(x) for x in names]
    for path in (os.path.join(root, "classes.txt"), os.path.join(root, "labels", "classes.txt")):
        if os.path.isfile(path):
            try:
                with open(path, encoding="utf-8-sig") as file:
                    return [line.strip() for line in file if line.strip()]
            except UnicodeDecodeError as error:
                raise InputError(f"{path}: its text is not UTF-8: {error}") from error
    raise InputError(f"{root} has neither data.yaml nor classes.txt, which name the classes of the labels.")


def _label_folder(images: str) -> str:
    """Of a folder of images: as Ultralytics finds it, or else the folder itself."""
    parts = images.split(os.sep)
    if "images" in parts:
        i = len(parts) - 1 - parts[::-1].index("images")
        labels = os.sep.join([*parts[:i], "labels", *parts[i + 1 :]])
        if os.path.isdir(labels):
            return labels
    return images


def _is_label(path: str, root: str) -> bool:
    """Whether it is meant as one: all text below labels/, but for the names of classes, and elsewhere lines of numbers."""
    if os.path.basename(path) == "classes.txt":
        return False
    if "labels" in os.path.relpath(path, root).split(os.sep)[:-1]:
        return True
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = [line.split() for line in file if line.strip()]
    return bool(lines) and all(len(line) >= 5 and all(map(_is_number, line)) for line in lines)


def _is_number(text: str) -> bool:
    try:
        plain_number(text)
    except ValueError:
        return False
    return True


def _label_problems(path: str, number_of_names: int) -> List[str]:
    """What the library would take without a word: predictions with a score, pixels, classes without name."""
    if not os.path.isfile(path):
        return []
    problems = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            values = line.split()
            try:
                index, coordinates = plain_number(values[0]) if values else 0, [plain_number(x) for x in values[1:]]
            except ValueError:
                problems.append(f"{path}, line {number}: it must hold numbers only, found {line.strip()!r}")
                continue
            if index not in range(number_of_names):
                problems.append(f"{path}, line {number}: class {values[0]}; there are {number_of_names} names, from 0 on")
            # an outline has two for each point; a triangle is more likely a box with a score and a track
            if len(values) in (6, 7) or (len(values) > 7 and len(values) % 2 == 0):
                problems.append(
                    f"{path}, line {number}: {len(values)} values, as of predictions with a score or a track, or of key points; "
                    "a box has five, an outline the class and two for each of four points or more"
                )
            elif any(not -0.001 <= x <= 1.001 for x in coordinates):
                problems.append(f"{path}, line {number}: coordinates must be fractions of the image, found {line.strip()!r}")
    return problems


# --------------------------------------------------------------------------------------- Pascal VOC


def read_voc(root: str, one_based: bool) -> Read:
    """
    The images of all XML files below `root`, and those beside them that have none.

    Args:
        one_based: the corners are pixels that count from 1 and belong to the box, as in Pascal VOC itself; otherwise they
            are edges that count from 0, as LabelImg, CVAT and other tools write them.
    """
    files = [os.path.join(x, name) for x, names in walk(root) for name in names if name.lower().endswith(".xml")]
    if not files:
        raise InputError(f"{root} holds no XML files.")
    find, images, problems = FileFinder(root), {}, []
    for path in files:
        where = os.path.relpath(path, root)
        try:
            image = _read_voc_file(path, where, find, one_based)
        except InputError:
            raise
        except Exception as error:  # of the file or its reader
            problems.append(f"{where}: {error}")
            continue
        if image.file_name in images:
            problems.append(f"{where}: {image.file_name} is that of {images[image.file_name].where} too")
            continue
        images[image.file_name] = image
    find.tell()
    folders = {os.path.dirname(name) for name in images}
    for name in find.names:
        if name not in images and os.path.dirname(name) in folders and not problems:
            images[name] = SourceImage(name, name)
    return list(images.values()), problems


def _read_voc_file(path: str, where: str, find: FileFinder, one_based: bool) -> SourceImage:
    tree = _needed("defusedxml.ElementTree").parse(path).getroot()
    name = tree.findtext("filename")
    if tree.tag != "annotation" or not name:
        raise ValueError("no Pascal VOC file: it has no <annotation> with a <filename>")
    folder = os.path.dirname(where)
    try:
        file_name = find(name, folder)
    except ValueError:  # some tools write a name without suffix; the XML file is named as its image is
        same = _nearest([x for x in find.names if stem(x) == stem(path)], folder)
        if len(same) != 1:
            raise
        (file_name,) = same
    stated = stated_size(tree.findtext("size/height"), tree.findtext("size/width"))
    image = SourceImage(file_name, where, stated=stated)
    for item in tree.iter("object"):
        corners = [item.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
        if None in corners:
            raise ValueError("an <object> has no <bndbox> with xmin, ymin, xmax, ymax")
        attributes = {x.findtext("name"): x.findtext("value") for x in item.iter("attribute")}
        wrong = rotation_problems(attributes)
        if wrong:
            raise ValueError(f"<object> {item.findtext('name')!r}: {wrong[0]}")
        x0, y0, x1, y1 = map(plain_number, corners)
        if one_based:
            x0, y0 = x0 - 1, y0 - 1
        image.boxes.append([x0, y0, x1 - x0, y1 - y0])
        image.labels.append((item.findtext("name") or "").strip())
    return image
