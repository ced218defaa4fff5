from .ablation import VARIANTS, collect_ablation, plan_ablation
from .runs import Run, execute
