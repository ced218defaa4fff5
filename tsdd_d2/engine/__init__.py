from .checkpoint import TSDDCheckpointer, load_trained_weights, load_weights
from .stage1_trainer import Stage1Trainer
from .stage2_trainer import Stage2Trainer
from .supervised_trainer import SupervisedTrainer
from .trainer import TSDDTrainer

# MODEL.META_ARCHITECTURE -> its trainer; a plug-in adds its own
TRAINERS = {
    "TSDDStage1": Stage1Trainer,
    "TSDDStage2": Stage2Trainer,
    "DiagnosingRetinaNet": SupervisedTrainer,
    "DiagnosingRCNN": SupervisedTrainer,
    "CNetOnROI": SupervisedTrainer,
    "CNetOnImage": SupervisedTrainer,
}
