from ..errors import BBUIError
from .bbui import load_bbui_json, register_bbui_instances
from .builtin import dataset_folder, ensure_registered, register_builtin
from .categories import CATEGORIES, CLASS_NAMES
from .folds import (
    assign_folds,
    count_table,
    draw_fully_annotated,
    keep_rois,
    patient_classes,
    split_patients,
    write_splits,
)
from .image_sizes import read_image_sizes
from .validation import validate_bbui, validate_splits
