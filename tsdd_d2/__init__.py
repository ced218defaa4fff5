"""TSDDNet (arXiv:2306.06982) on Detectron2. Importing this package registers its parts and does nothing else."""

from . import data, modeling
from .config import add_tsdd_config
from .data import register_bbui_instances
from .engine.model_file import load_model, save_model
from .predictor import Predictor

__version__ = "0.1.0"
