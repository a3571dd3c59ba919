import pytest

from keras_unirec.schema import Timestamp

ERRORS = {
    "unit": (
        lambda: Timestamp("t", unit="h"),
        "`unit` of `Timestamp.*Received: unit='h'",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    make, message = ERRORS[case]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make()
