import pytest

from keras_unirec.schema import Label

ERRORS = {
    "slash": (lambda: Label("a/b"), "has no '/'"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    make, message = ERRORS[case]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make()
