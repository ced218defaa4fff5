"""What a class of Detectron2's ``META_ARCH_REGISTRY`` says of itself until the record of its method says it:
``needs_rois`` and ``starts_from_first_stage``."""

from typing import Any

from detectron2.modeling import META_ARCH_REGISTRY


def class_attribute(architecture: str, name: str, default: Any = False) -> Any:
    """An attribute of a class in the registry; ``default`` if either is not there."""
    network = META_ARCH_REGISTRY.get(architecture) if architecture in META_ARCH_REGISTRY else None
    return getattr(network, name, default)
