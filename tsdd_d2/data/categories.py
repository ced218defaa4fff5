"""The classes of a BBUI file, and what they are inside Detectron2."""

CLASS_NAMES = ("benign", "malignant")
CATEGORIES = [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}]
# From the ids in the file to the classes inside Detectron2.
CONTIGUOUS_IDS = {1: 0, 2: 1}
