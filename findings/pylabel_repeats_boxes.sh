#!/usr/bin/env bash
# pylabel 0.1.55 (with pandas 2.3.3; it does not import COCO with pandas 3): an image without annotation is exported with the
# annotation of the image before it.
# Four images, boxes on the first and the third: 2 annotations go in, and 4 come out, two of them on each of these images.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check pylabel==0.1.55 pandas==2.3.3 setuptools==81.0.0
cd "$folder"
venv/bin/python - <<'END'
import json
import warnings

warnings.simplefilter("ignore")
from pylabel import importer  # noqa: E402

content = {
    "images": [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2, 3, 4)],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 6, 10, 8], "area": 80, "iscrowd": 0},
        {"id": 2, "image_id": 3, "category_id": 2, "bbox": [1, 2, 10, 8], "area": 80, "iscrowd": 0},
    ],
    "categories": [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}],
}
with open("before.json", "w") as file:
    json.dump(content, file)
importer.ImportCoco("before.json", path_to_images=".", name="lesions").export.ExportToCoco(output_path="after.json")
with open("after.json") as file:
    after = json.load(file)["annotations"]
images = [annotation["image_id"] for annotation in after]
print("images of the annotations before: [1, 3]; after:", images)
assert images == [1, 1, 3, 3]
END
