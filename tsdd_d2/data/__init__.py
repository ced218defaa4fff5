from .bbui import (
    CATEGORIES,
    CLASS_NAMES,
    BBUIError,
    load_bbui_json,
    read_image_sizes,
    register_bbui_instances,
    validate_bbui,
    validate_splits,
)
from .builtin import dataset_folder, ensure_registered, register_builtin
from .folds import (
    assign_folds,
    count_table,
    draw_fully_annotated,
    keep_rois,
    patient_classes,
    split_patients,
    write_splits,
)
