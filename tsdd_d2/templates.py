"""The pages that this software writes come from Jinja templates in the package that makes them."""

import jinja2


def environment(package: str) -> jinja2.Environment:
    """The templates in ``<package>/templates``: text is escaped, and a name that is not given is an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
