#!/usr/bin/env bash
# sahi 0.12.8: merge() and merge_from_file() of sahi.utils.coco, which are to combine two COCO files, keep the
# categories of the first file alone. Annotations of the second that are of another category are left out, and their
# images stay: as images without lesion. Nothing is said, and with the files in the other order nothing is lost.
# merge_from_list() of the same module keeps all. A hospital with 30 benign lesions, and one with 20 benign and 10
# malignant ones, each in an image of its own:
#   the first and the second:  50 annotations, 0 of them malignant, and 10 images without lesion
#   the second and the first:  60 annotations, 10 of them malignant, no image without, as meant
#   merge_from_list:           60 annotations, 10 of them malignant, no image without, in both orders
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    sahi==0.12.8 shapely==2.1.2 opencv-python==5.0.0.93 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'END'
import contextlib
import io
import json

from sahi.utils.coco import merge_from_file, merge_from_list


def hospital(path, classes):
    """Writes a COCO file with one image and one lesion for each entry of classes."""
    names = sorted(set(classes))
    categories = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    content = {"images": [], "annotations": [], "categories": categories}
    for i, name in enumerate(classes, 1):
        content["images"].append({"id": i, "file_name": f"{path}_{i}.png", "width": 200, "height": 100})
        lesion = {"id": i, "image_id": i, "category_id": names.index(name) + 1, "bbox": [10, 10, 40, 30]}
        content["annotations"].append({**lesion, "area": 1200, "iscrowd": 0, "segmentation": []})
    with open(path, "w") as file:
        json.dump(content, file)


def counted(content):
    """Numbers of images, of annotations, of malignant ones among them, and of images without one."""
    names = {category["id"]: category["name"] for category in content["categories"]}
    lesions = [names[annotation["category_id"]] for annotation in content["annotations"]]
    images = {image["id"] for image in content["images"]}
    assert len(images) == len(content["images"])
    without = images - {annotation["image_id"] for annotation in content["annotations"]}
    return len(images), len(lesions), lesions.count("malignant"), len(without)


hospital("first.json", ["benign"] * 30)
hospital("second.json", ["benign"] * 20 + ["malignant"] * 10)
results = {}
for order in (("first.json", "second.json"), ("second.json", "first.json")):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        merge_from_file(*order, "merged.json")
    assert said.getvalue() == ""
    with open("merged.json") as file:
        merged = counted(json.load(file))
    contents = []
    for path in order:
        with open(path) as file:
            contents.append(json.load(file))
    results[order] = merged, counted(merge_from_list(contents, verbose=0))
    for name, result in zip(("merge_from_file", "merge_from_list"), results[order]):
        text = "{}, {}: {} images, {} annotations, {} malignant, {} images without"
        print(text.format(", ".join(order), name, *result))
meant = 60, 60, 10, 0
assert results["first.json", "second.json"] == ((60, 50, 0, 10), meant)
assert results["second.json", "first.json"] == (meant, meant)
END
