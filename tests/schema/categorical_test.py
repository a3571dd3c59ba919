import pytest

from keras_unirec.schema import Categorical
from keras_unirec.schema import Hash
from keras_unirec.schema import ItemTable
from keras_unirec.schema import Lookup
from keras_unirec.schema import Numerical
from tests.schema.rich_schema import items

ERRORS = {
    "name": (lambda: Categorical("", 3), "`name` must be the name of a column"),
    "num_values": (
        lambda: Categorical("c"),
        r"`num_values` of `Categorical\('c'\)`.*Received: None",
    ),
    "num_values_type": (
        lambda: Categorical("c", 2.5),
        "`num_values`.*must be a positive integer. Received: num_values=2.5",
    ),
    "zero": (lambda: Categorical("c", 0), "positive integer. Received: .*=0"),
    "lookup_num_values": (
        lambda: Categorical("c", 5, vocabulary="lookup"),
        "`num_values`.*must be None with vocabulary='lookup'",
    ),
    "vocabulary": (
        lambda: Categorical("c", 5, vocabulary="ids"),
        r"`vocabulary`.*one of \['identity', 'hash', 'lookup'\].*'ids'",
    ),
    "pooling": (
        lambda: Categorical("c", 5, pooling="max"),
        "`pooling`.*Received: pooling='max'",
    ),
    "unknown": (
        lambda: Categorical("c", 5, unknown="drop"),
        "`unknown`.*Received: unknown='drop'",
    ),
    "identity_of_strings": (
        lambda: Categorical.from_config(
            {"name": "c", "num_values": 5, "dtype": "string"}
        ),
        r"`config` of `Categorical`.*Received: \['dtype'\]",
    ),
    "values_without_lookup": (
        lambda: Categorical.from_config(
            {"name": "c", "num_values": 5, "values": [1, 2]}
        ),
        r"`config` of `Categorical`.*Received: \['values'\]",
    ),
    "vocabulary_class": (
        lambda: Categorical("c", vocabulary=Lookup),
        "`vocabulary` of .*a `Hash` or a `Lookup`. Received: .*class",
    ),
    "vocabulary_list": (
        lambda: Categorical("c", 5, vocabulary=["hash"]),
        r"`vocabulary` of .*Received: vocabulary=\['hash'\]",
    ),
    "two_sizes": (
        lambda: Categorical("c", 5, vocabulary=Hash(6)),
        r"`num_values` of `Categorical\('c'\)` must be left out, or be the 6 "
        "of its vocabulary. Received: num_values=5",
    ),
    "size_of_values": (
        lambda: Categorical("c", 5, vocabulary=Lookup(values=[1, 2])),
        "`num_values`.*left out, or be the 2 of.*Received: num_values=5",
    ),
    "no_size": (
        lambda: Categorical("c", vocabulary=Hash()),
        "`num_values`.*must be the number of hash values. Received: None",
    ),
    "lookup_size": (
        lambda: Categorical("c", 5, vocabulary=Lookup(min_count=2)),
        "`num_values`.*must be None with vocabulary='lookup'",
    ),
    "shared_values": (
        lambda: Categorical(
            "c", share_with="d", vocabulary=Lookup(values=["a"])
        ),
        "`values` of .*must be left out: it is that of share_with='d'",
    ),
    "share_with_itself": (
        lambda: Categorical("c", share_with="c"),
        "`share_with`.*must name another feature. Received: 'c'",
    ),
    "hashed_table": (
        lambda: Categorical(
            "item_id",
            9,
            vocabulary="hash",
            table=ItemTable(items(), "item_id", [Numerical("price")]),
        ),
        "`vocabulary`.*two keys may hash to one bucket",
    ),
    "multi_valued_table": (
        lambda: Categorical(
            "item_id",
            9,
            max_length=2,
            table=ItemTable(items(), "item_id", [Numerical("price")]),
        ),
        "`max_length`.*must be None to carry an `ItemTable`",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    make, message = ERRORS[case]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make()
