"""The ablation of the paper's Table II: with and without candidate selection, with and without self-distillation."""

import os
from typing import Dict, List, Sequence, Tuple

from ..data.files import read_json
from .runs import Run

STAGE1_CONFIG = "configs/tsdd_stage1_cpu.yaml"

# Name in Table II -> the rule of its first stage, the configuration of its second one. Two variants with one rule share
# a first stage.
VARIANTS = {
    "TSDDNet-B": ("pseudo_label", "configs/tsdd_b.yaml"),
    "TSDDNet-B+CS": ("class_guided", "configs/tsdd_b_cs.yaml"),
    "TSDDNet-B+SD": ("pseudo_label", "configs/tsdd_b_sd.yaml"),
    "TSDDNet": ("class_guided", "configs/tsdd_stage2_cpu.yaml"),
}


def plan_ablation(output: str, draws: Sequence[Tuple[float, int]], overrides: Sequence[str] = ()) -> List[Run]:
    """The runs of all variants, first stages before the second ones that need them.

    Args:
        output: folder of the runs.
        draws: pairs (p, seed).
        overrides: ``KEY VALUE`` pairs for every run.
    """
    runs = []
    for p, seed in draws:
        common = (*overrides, "DATASETS.P", str(p), "SEED", str(seed))
        folder = _folder(output, p, seed)
        for rule in dict.fromkeys(rule for rule, _ in VARIANTS.values()):
            runs.append(
                Run(os.path.join(folder, f"stage1_{rule}"), STAGE1_CONFIG, (*common, "REFINEMENT.RULE", rule))
            )
        for variant, (rule, config_file) in VARIANTS.items():
            first_stage = os.path.join(folder, f"stage1_{rule}")
            runs.append(
                Run(
                    os.path.join(folder, variant),
                    config_file,
                    (*common, "MODEL.WEIGHTS", first_stage),
                    needs=first_stage,
                )
            )
    return runs


def collect_ablation(output: str, draws: Sequence[Tuple[float, int]]) -> Dict:
    """The figures of what is finished, on the found box with the weights of the last iteration.

    Returns:
        ``{"ablation": [{"variant", "p", "seed", "results"}]}``; ``results`` are those of the evaluators, or None for
        a run that is missing.
    """
    rows = []
    for p, seed in draws:
        for variant in VARIANTS:
            path = os.path.join(_folder(output, p, seed), variant, "results.json")
            results = None
            if os.path.isfile(path):
                (by_box,) = read_json(path)["last iteration"].values()
                results = by_box["found box"]
            rows.append({"variant": variant, "p": p, "seed": seed, "results": results})
    return {"ablation": rows}


def _folder(output: str, p: float, seed: int) -> str:
    return os.path.join(output, f"p{p}_seed{seed}")
