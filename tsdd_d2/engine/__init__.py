from .checkpoint import TSDDCheckpointer, load_weights
from .stage1_trainer import Stage1Trainer
