from .cnet import CNet
from .dnet import DNet
from .ranking import RANKING_REGISTRY
from .stage1 import TSDDStage1
from .stage2 import TSDDStage2
