"""Tables, figures and one page from the stored predictions of an experiment; nothing here trains or predicts."""

from .page import write_report
from .experiments import EXPERIMENTS, render
from .runs import THRESHOLDS

__all__ = ["EXPERIMENTS", "THRESHOLDS", "render", "write_report"]
