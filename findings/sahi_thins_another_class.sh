#!/usr/bin/env bash
# sahi 0.12.8: Coco.get_subsampled_coco(category_id=0), which is to thin out the images with that category and to keep
# all others, thins out all images: it takes the 0 for no category. Ids from 0 on are what sahi itself gives where it
# merges data sets, and labelme2coco too. Nothing is said. get_upsampled_coco() of the same class takes 0 as it is
# meant. 100 images with a benign and 20 with a malignant lesion, of which every fifth benign one is wanted:
#   ids 1 and 2, category_id=1:  20 benign, 20 malignant, as meant
#   ids 0 and 1, category_id=0:  20 benign, 4 malignant
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    sahi==0.12.8 shapely==2.1.2 opencv-python==5.0.0.93 numpy==2.4.6
cd "$folder"
venv/bin/python - 2>log <<'END' || { cat log; exit 1; }
from collections import Counter

from sahi.utils.coco import Coco

CLASSES = ["benign"] * 100 + ["malignant"] * 20
FEWER = 5


def dataset(first_id):
    """One lesion in each image, in shuffled order."""
    ids = {"benign": first_id, "malignant": first_id + 1}
    content = {"images": [], "annotations": [], "categories": [{"id": i, "name": name} for name, i in ids.items()]}
    for i in range(len(CLASSES)):
        name = CLASSES[i * 7 % len(CLASSES)]
        content["images"].append({"id": i + 1, "file_name": f"{i}.png", "width": 200, "height": 100})
        lesion = {"id": i + 1, "image_id": i + 1, "category_id": ids[name], "bbox": [10, 10, 40, 30], "area": 1200}
        content["annotations"].append({**lesion, "iscrowd": 0, "segmentation": []})
    return content


def counted(content):
    names = {category["id"]: category["name"] for category in content["categories"]}
    return Counter(names[annotation["category_id"]] for annotation in content["annotations"])


results = {}
for first_id in (1, 0):
    content = dataset(first_id)
    assert counted(content) == Counter(CLASSES)
    coco = Coco.from_coco_dict_or_path(content)
    fewer = coco.get_subsampled_coco(subsample_ratio=FEWER, category_id=first_id)
    more = coco.get_upsampled_coco(upsample_ratio=FEWER, category_id=first_id)
    results[first_id] = counted(fewer.json), counted(more.json)
    kept, repeated = map(dict, results[first_id])
    print(f"category_id={first_id}: every {FEWER}th: {kept}, {FEWER} times: {repeated}")
meant = {"benign": 100 // FEWER, "malignant": 20}
assert results[1][0] == meant and results[1][1] == results[0][1] == {"benign": 100 * FEWER, "malignant": 20}
assert sum(results[0][0].values()) == len(CLASSES) // FEWER and results[0][0] != meant
assert results[0][0]["malignant"] == 4
END
