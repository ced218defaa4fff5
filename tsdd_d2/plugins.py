"""Methods of other packages: an installed package that names a module of its own is used as if it were part of this one."""

import functools
from importlib import metadata
from types import ModuleType
from typing import Dict, NamedTuple, Tuple

from .errors import InputError

ENTRY_POINTS = "tsdd_d2.plugins"


class Plugin(NamedTuple):
    """
    Attributes:
        package, version: of the distribution that names it.
        module: registers its parts when it is imported; may have ``add_config(cfg)``, which adds its keys in place.
    """

    package: str
    version: str
    module: ModuleType


@functools.lru_cache(maxsize=None)
def load_plugins() -> Tuple[Plugin, ...]:
    """
    Imports the modules that the installed packages name as entry points ``tsdd_d2.plugins`` (docs/new_method.md), once
    in a process.

    Raises:
        InputError: one cannot be imported.
    """
    plugins = {}
    for entry in sorted(metadata.entry_points(group=ENTRY_POINTS), key=lambda x: (x.dist.name, x.name)):
        try:
            module = entry.load()
        except Exception as error:  # whatever foreign code does
            raise InputError(
                f"The plug-in {entry.value} of the package {entry.dist.name} cannot be imported: "
                f"{type(error).__name__}: {error}"
            ) from error
        plugins[module] = Plugin(entry.dist.name, entry.dist.version, module)
    return tuple(plugins.values())


def plugin_versions() -> Dict[str, str]:
    """Package -> version."""
    return {plugin.package: plugin.version for plugin in load_plugins()}
