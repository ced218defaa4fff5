"""TSDDNet (arXiv:2306.06982) on Detectron2. Importing this package registers its parts and does nothing else."""

import importlib
import warnings

with warnings.catch_warnings():
    # of torch on functions of fvcore, as often as there are any; it tells a user nothing
    warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
    from . import data, methods, modeling
    from .config import add_tsdd_config, config_file
    from .data import register_bbui_instances

__version__ = "0.1.0"

# Imported when they are first used: another Detectron2 project that registers its data has no need of the trainers and
# evaluators, and of scikit-learn, which takes longer to import than all of this package.
_ON_FIRST_USE = {
    "Predictor": "tsdd_d2.inference.predictor",
    "load_model": "tsdd_d2.inference.model_file",
    "save_model": "tsdd_d2.inference.model_file",
}


def __getattr__(name: str):
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_ON_FIRST_USE[name]), name)
