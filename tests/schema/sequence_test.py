import pytest

from keras_unirec.schema import Numerical
from keras_unirec.schema import Sequence

ERRORS = {
    "sequence_length": (
        lambda: Sequence("s", None, [Numerical("n")]),
        "`max_length` of `Sequence.*Received: max_length=None",
    ),
    "sequence_features": (
        lambda: Sequence("s", 3, []),
        "`features` of `Sequence.*at least one list column",
    ),
    "feature_type": (
        lambda: Sequence("s", 3, ["clicks"]),
        "`features` must hold `Categorical` or `Numerical` or `Timestamp` "
        "only. Received: 'clicks'",
    ),
    "sort_by": (
        lambda: Sequence("s", 3, [Numerical("n")], sort_by="n"),
        "`sort_by`.*must name one of its `Timestamp` features",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    make, message = ERRORS[case]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make()
