import pytest

from keras_unirec.schema import Numerical

ERRORS = {
    "mean_without_std": (
        lambda: Numerical("n", mean=1.0),
        "`mean` and `std`.*must be given together",
    ),
    "std": (lambda: Numerical("n", mean=0, std=0), "`std`.*positive"),
    "nan_mean": (
        lambda: Numerical("n", mean=float("nan"), std=1),
        "`mean`.*must be a finite number. Received: mean=nan",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    make, message = ERRORS[case]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make()
