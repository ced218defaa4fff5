import pytest

from tsdd_d2.data.files import write_json
from tsdd_d2.errors import InputError, reports_errors


def raising(error):
    @reports_errors
    def main(argv=None):
        raise error

    return main


def test_input_errors_are_a_message(capsys):
    assert raising(InputError("The file is empty."))([]) == 2
    assert capsys.readouterr().err == "error: The file is empty.\n"


def test_a_file_that_cannot_be_written_is_named_as_the_user_names_it(tmp_path, capsys):
    """Not by the temporary file that is renamed to it."""

    @reports_errors
    def main(argv=None):
        write_json(tmp_path, {})

    assert main() == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: Is a directory\n"


@pytest.mark.parametrize("error", [KeyError("key"), TimeoutError(), OSError("cannot write mode F as PNG")])
def test_other_errors_keep_their_traceback(error):
    with pytest.raises(type(error)):
        raising(error)()
