#!/usr/bin/env bash
# datumaro 1.13.12 reads CVAT's XML without its ellipses, the shape that outlines a round lesion in one stroke. It says
# nothing, so that an image with a lesion becomes an image without one. The attributes of an ellipse are not lost: they
# overwrite those of the shape before it, even in another image. Three images, a box of BI-RADS 3 in the first, an ellipse of 4
# in the second, a box of 2 and an ellipse of 5 in the third:
#   COCO file: 2 boxes, 1 image without lesion, BI-RADS 4 in the first image and 5 for the lesion of BI-RADS 2
#   meant:     4 boxes, 0 images without, BI-RADS 3, 4, and 2 and 5; that is what the same outlines as polygons give
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check datumaro==1.13.12
cd "$folder"
venv/bin/python - 2>log <<'END' || { cat log; exit 1; }
import json
import math
from pathlib import Path

import datumaro
from PIL import Image

HEAD = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels><label><name>lesion</name><attributes><attribute><name>birads</name>
<input_type>select</input_type></attribute></attributes></label></labels></task></meta>"""
IMAGES = [[("box", 3)], [("ellipse", 4)], [("box", 2), ("ellipse", 5)]]
BOX, ELLIPSE = [100, 100, 100, 60], [260, 180, 80, 40]  # x, y, width and height of both


def drawn(shape, polygons):
    """Returns a shape's name in CVAT and its coordinates."""
    if shape == "box":
        x, y, width, height = BOX
        return "box", f'xtl="{x}" ytl="{y}" xbr="{x + width}" ybr="{y + height}"'
    a, b = ELLIPSE[2] / 2, ELLIPSE[3] / 2
    x, y = ELLIPSE[0] + a, ELLIPSE[1] + b
    if not polygons:
        return "ellipse", f'cx="{x}" cy="{y}" rx="{a}" ry="{b}"'
    angles = [i * math.pi / 16 for i in range(32)]
    return "polygon", 'points="{}"'.format(";".join(f"{x + a * math.cos(t):.2f},{y + b * math.sin(t):.2f}" for t in angles))


def converted(name, polygons):
    """Returns the boxes and categories of each image in the COCO file."""
    Path(name, "images").mkdir(parents=True)
    text = HEAD
    for number, shapes in enumerate(IMAGES):
        Image.new("L", (400, 300)).save(f"{name}/images/{number}.png")
        text += f'<image id="{number}" name="{number}.png" width="400" height="300">'
        for shape, birads in shapes:
            tag, place = drawn(shape, polygons)
            text += f'<{tag} label="lesion" source="manual" occluded="0" z_order="0" {place}>'
            text += f'<attribute name="birads">{birads}</attribute></{tag}>'
        text += "</image>"
    Path(name, "annotations.xml").write_text(text + "</annotations>")
    datumaro.Dataset.import_from(name, "cvat").export(name + "_coco", "coco_instances")
    content = json.loads(Path(name + "_coco/annotations/instances_annotations.json").read_text())
    found = {image["id"]: (image["file_name"], []) for image in content["images"]}
    for x in content["annotations"]:
        found[x["image_id"]][1].append(([round(value) for value in x["bbox"]], int(x["attributes"]["birads"])))
    return [boxes for _, boxes in sorted(found.values())]


for name in ("ellipses", "polygons"):
    images = converted(name, name == "polygons")
    print(f"{name}: {sum(map(len, images))} boxes, {images.count([])} image(s) without lesion: {images}")
    if name == "ellipses":
        assert images == [[(BOX, 4)], [], [(BOX, 5)]]
    else:
        assert images == [[(BOX, 3)], [(ELLIPSE, 4)], [(BOX, 2), (ELLIPSE, 5)]]
END
if grep -i ellipse log; then exit 1; fi
