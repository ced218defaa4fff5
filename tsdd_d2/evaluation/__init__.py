from .diagnosis import DiagnosisEvaluator, load_youden_threshold
from .localisation import LocalisationEvaluator
from .statistics import (
    diagnosis_metrics,
    patient_bootstrap,
    patient_level,
    roc_points,
    youden_optimal_threshold,
)

__all__ = [
    "DiagnosisEvaluator",
    "LocalisationEvaluator",
    "diagnosis_metrics",
    "load_youden_threshold",
    "patient_bootstrap",
    "patient_level",
    "roc_points",
    "youden_optimal_threshold",
]
