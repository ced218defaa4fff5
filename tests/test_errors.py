import errno
import io
import logging

import pytest

from tsdd_d2.data.files import write_json
from tsdd_d2.errors import BBUIError, InputError, WithoutTraceback, listed, reports_errors


def raising(error):
    @reports_errors
    def main(argv=None):
        raise error

    return main


def test_input_errors_are_a_message(capsys):
    assert raising(InputError("The file is empty."))([]) == 2
    assert capsys.readouterr().err == "error: The file is empty.\n"


def test_a_long_list_is_cut():
    assert [listed(["a", "b", "c"][:n], 2) for n in range(4)] == ["", "a", "a, b", "a, b, and 1 more"]


def test_a_name_that_the_terminal_cannot_show_is_no_error(monkeypatch):
    @reports_errors
    def main(argv=None):
        print("a\udcff\xe4.png")
        return 0

    output = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(output, encoding="ascii", write_through=True))
    assert main() == 0 and output.getvalue() == b"a\\udcff\\xe4.png\n"


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


def test_a_full_disk_is_told_with_the_file(tmp_path, capsys, monkeypatch):
    """The system does not say which file it could not go on with."""

    @reports_errors
    def main(argv=None):
        write_json(tmp_path / "a.json", {})

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tsdd_d2.data.files.os.fsync", fail)
    assert main() == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'a.json'}: No space left on device\n"
    assert list(tmp_path.iterdir()) == []


def test_problems_of_one_kind_are_three_and_a_number():
    problems = [f"image {i} (images/{i:03d}.png): 'patient_id' is missing" for i in range(3924)]
    problems += [f"image {i} (images/{i:03d}.png): unknown class {i}" for i in range(2)] + ["x" * 10**6]
    error = BBUIError("all.json: problems:", problems)
    assert len(error.problems) == 3927 and len(str(error)) < 2000
    assert all(str(error).count(text) == 1 for text in [*problems[:3], "3921 more", *problems[3924:3926]])
    assert problems[3] not in str(error)


def test_a_log_shows_no_traceback_of_what_a_user_can_put_right():
    log, text = logging.getLogger("tsdd_test_errors"), io.StringIO()
    handler = logging.StreamHandler(text)
    handler.addFilter(WithoutTraceback())
    log.addHandler(handler)
    for error in (OSError(errno.ENOSPC, "No space", "a.pth"), InputError("a.png is damaged"), KeyError("a bug")):
        try:
            raise error
        except Exception:
            log.exception("Exception during training:")
    first, second, *rest = text.getvalue().splitlines()
    assert "a.pth" in first and "a.png is damaged" in second and "Traceback" in rest[1]
