import pytest

from tsdd_d2.data.patients import clean_patient, look_alikes


@pytest.mark.parametrize(
    "patient, clean",
    [
        ('="002"', "002"),
        ("7\u200b", "7"),
        ("\ufeff7\u00a0", "7"),
        ("'7", "7"),
        ("\uff17", "7"),
        ("A  7", "A 7"),
        ("100", "100"),
    ],
)
def test_what_a_spreadsheet_adds_and_nobody_sees_is_taken_away(patient, clean):
    assert clean_patient(patient) == clean


def test_ids_that_look_alike():
    found = look_alikes(["1", "001", "1.0", "10", "100", "A01", "a1", "A10", "B1", "1.01", "1.1"])
    assert found == [("1", "001", "1.0"), ("a1", "A01")]
