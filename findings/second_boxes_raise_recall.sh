#!/usr/bin/env bash
# faster-coco-eval 1.8.0: its evaluation keeps one list of matches for all IoU thresholds. Where a surer box is matched at
# IoU 0.5 and a tighter one on the same lesion at 0.75, both are in it. extended_metrics and the tp marks of the detections
# count both as hits at IoU 0.5. AP and AR are pycocotools' own. The same ten IoU thresholds as always:
#   20 lesions, 15 found, 5 of them with a second, tighter box: precision 1.00, recall 1.00, 20 tp and 5 lesions marked fn;
#                                                               0.75, 0.75 and 15 tp are meant; AR50 0.75, AP50 0.58
#   20 lesions, all found, all with a second box:               precision 1.00, recall 2.00; 0.51 and 1.00 are meant
# With params.iouThrs = [0.5] it gives what is meant.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    faster-coco-eval==1.8.0 pycocotools==2.0.11 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import contextlib
import io

import faster_coco_eval
import numpy as np
import pycocotools.coco
import pycocotools.cocoeval

IMAGES = range(1, 21)
LESION, LOOSE, TIGHT = [100, 100, 100, 100], [100, 100, 100, 60], [100, 100, 100, 90]  # IoU 0.6 and 0.9


def evaluated(coco, evaluation, found, thresholds=None, **options):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco()
        truth.dataset = {
            "info": {},
            "images": [{"id": i, "width": 400, "height": 400, "file_name": f"{i}.png"} for i in IMAGES],
            "annotations": [
                {"id": i, "image_id": i, "category_id": 1, "bbox": LESION, "area": 10000, "iscrowd": 0} for i in IMAGES
            ],
            "categories": [{"id": 1, "name": "lesion"}],
        }
        truth.createIndex()
        result = evaluation(truth, truth.loadRes([dict(x) for x in found]), "bbox", **options)
        if thresholds:
            result.params.iouThrs = np.array(thresholds)
        for step in (result.evaluate, result.accumulate, result.summarize):
            step()
    return result


def meant(found):
    """Precision and recall at IoU 0.5, one box a lesion, at the score of the greatest F1."""
    hits, lesions, best = 0, set(), (0, 0, 0)
    for rank, mark in enumerate(sorted(found, key=lambda x: -x["score"]), 1):
        lesions.add(mark["image_id"])  # each box here has an IoU of 0.6 or 0.9 with the lesion of its image
        hits = len(lesions)
        precision, recall = hits / rank, hits / len(IMAGES)
        best = max(best, (2 * precision * recall / (precision + recall), precision, recall))
    return best[1:]


def boxes(lesions, second):
    loose = [{"image_id": i, "category_id": 1, "bbox": LOOSE, "score": 0.95 - 0.02 * i} for i in lesions]
    return loose + [{"image_id": i, "category_id": 1, "bbox": TIGHT, "score": 0.94 - 0.02 * i} for i in second]


package = (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster)
results = {}
for name, found in {"15 of 20 found, 5 twice": boxes(IMAGES[:15], IMAGES[:5]), "all found twice": boxes(IMAGES, IMAGES)}.items():
    reference = evaluated(pycocotools.coco.COCO, pycocotools.cocoeval.COCOeval, found)
    highest = reference.eval["recall"][0, 0, 0, -1]  # IoU 0.5
    for thresholds in (None, [0.5]):
        result = evaluated(*package, found, thresholds, extra_calc=True)
        values = result.extended_metrics
        hits = sum(x.get("tp", False) for x in result.cocoDt.anns.values())
        missed = sum(x.get("fn", False) for x in result.cocoGt.anns.values())
        results[name, str(thresholds)] = (values["precision"], values["recall"], hits, missed)
        if thresholds is None:
            assert np.allclose(result.stats[:12], reference.stats)
        print(
            f"{name}, thresholds {thresholds or 'of COCO'}: precision {values['precision']:.2f}, recall {values['recall']:.2f},"
            f" {hits} tp, {missed} lesions fn; meant {meant(found)[0]:.2f} and {meant(found)[1]:.2f};"
            f" pycocotools AP50 {reference.stats[1]:.2f}, recall at 0.5 {highest:.2f}"
        )
    assert abs(highest - meant(found)[1]) < 1e-9
    assert np.allclose(results[name, "[0.5]"][:2], meant(found))
assert results["15 of 20 found, 5 twice", "None"] == (1, 1, 20, 5)
assert results["15 of 20 found, 5 twice", "[0.5]"] == (0.75, 0.75, 15, 5)
assert results["all found twice", "None"] == (1, 2, 40, 0)
END
