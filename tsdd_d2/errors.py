"""What a user can put right."""


class InputError(ValueError):
    """A problem of configuration, data or files; the tools print its message alone and exit with code 2."""
