"""What a meta-architecture says of itself, by attributes of its class.

Trainers, checks and experiments ask for these instead of for a name, so that a subclass of ours is treated as ours:

* ``has_rounds``: candidate selection may rewrite the ROIs that it is trained on (it has ``score_candidates``), and its
  runs are first stages;
* ``ranks_with_cnet``: it takes a ranking of D-Net's boxes that ends in ``+cnet``;
* ``starts_from_first_stage``: it goes on from the networks and the ROIs of a run of an architecture that has rounds;
* ``needs_rois``: whether ``SupervisedTrainer`` leaves out the images without a ROI;
* ``unused_keys``: beginnings of keys of parts that it does not have, which an experiment does not compare.
"""

from typing import Any

from detectron2.modeling import META_ARCH_REGISTRY


def class_attribute(architecture: str, name: str, default: Any = False) -> Any:
    """An attribute of a class in Detectron2's ``META_ARCH_REGISTRY``; ``default`` if either is not there."""
    network = META_ARCH_REGISTRY.get(architecture) if architecture in META_ARCH_REGISTRY else None
    return getattr(network, name, default)
