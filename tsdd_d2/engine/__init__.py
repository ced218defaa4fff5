from .checkpoint import TSDDCheckpointer, load_trained_weights, load_weights
from .trainer import Trainer
