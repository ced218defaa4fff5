"""The methods that the experiments compare. A new one is a line here and its configuration files, or
:func:`register_method` in a package of its own (docs/new_method.md)."""

import os
from typing import NamedTuple, Optional, Tuple

# Profile -> how the name of a method's configuration file ends.
PROFILES = {"cpu": "_cpu", "paper": ""}


class Method(NamedTuple):
    """
    Attributes:
        name: in the options, folders and tables.
        config: ``configs/<config>.yaml`` is its configuration in the paper's profile, ``configs/<config>_cpu.yaml`` in
            the one for small compute; of another package the absolute path, less these endings.
        uses_pa_images: whether it trains on the partially annotated images too.
        starts_from: the method whose run, on the same data, fold, p and seed, gives it its initial weights.
    """

    name: str
    config: str
    uses_pa_images: bool
    starts_from: Optional[str] = None

    @property
    def stage(self) -> Optional[int]:
        """1 or 2 of a method in two stages, None of the others. Methods of stage 1 are parts of others."""
        if self.starts_from is not None:
            return 2
        return 1 if any(x.starts_from == self.name for x in METHODS.values()) else None

    def config_file(self, profile: str) -> str:
        """Relative to the root of the repository, or absolute."""
        return os.path.join("configs", f"{self.config}{PROFILES[profile]}.yaml")


METHODS = {
    method.name: method
    for method in (
        Method("tsddnet_stage1", "tsdd_stage1", uses_pa_images=True),
        Method("tsddnet", "tsdd_stage2", uses_pa_images=True, starts_from="tsddnet_stage1"),
        Method("tsdd_b_stage1", "tsdd_stage1_pseudo_label", uses_pa_images=True),
        Method("tsdd_b", "tsdd_b", uses_pa_images=True, starts_from="tsdd_b_stage1"),
        Method("tsdd_b_cs", "tsdd_b_cs", uses_pa_images=True, starts_from="tsddnet_stage1"),
        Method("tsdd_b_sd", "tsdd_b_sd", uses_pa_images=True, starts_from="tsdd_b_stage1"),
        Method("retinanet", "retinanet", uses_pa_images=False),
        Method("faster_rcnn", "faster_rcnn", uses_pa_images=False),
        Method("cnet_oracle", "cnet_oracle", uses_pa_images=False),
        Method("cnet_whole_image", "cnet_whole_image", uses_pa_images=True),
    )
}

# TSDDNet less candidate selection, self-distillation, or both (the paper's Table II).
ABLATIONS = ("tsdd_b", "tsdd_b_cs", "tsdd_b_sd")


def compared_methods() -> Tuple[str, ...]:
    """The methods of the paper's Table I, and those of plug-ins: all but the parts and the ablations of TSDDNet."""
    return tuple(x.name for x in METHODS.values() if x.stage != 1 and x.name not in ABLATIONS)


def register_method(method: Method) -> None:
    """Adds a method of another package; the architecture of its configuration has a trainer in
    ``tsdd_d2.engine.TRAINERS``.

    Raises:
        ValueError: there is one of that name.
    """
    if method.name in METHODS:
        raise ValueError(f"There is a method {method.name} already.")
    METHODS[method.name] = method
