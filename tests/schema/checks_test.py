import pytest

from keras_unirec.schema import Categorical
from keras_unirec.schema import Identity
from keras_unirec.schema import ItemTable
from keras_unirec.schema import Label
from keras_unirec.schema import Lookup
from keras_unirec.schema import Numerical
from keras_unirec.schema import Schema
from keras_unirec.schema import Sequence
from keras_unirec.schema import Timestamp
from tests.schema.rich_schema import items

ERRORS = {
    "empty": (lambda: Schema(), "`Schema` must have at least one feature"),
    "side_type": (
        lambda: Schema(user=Numerical("n")),
        "`user` must be a list of `Categorical` or `Numerical`",
    ),
    "timestamp_among_features": (
        lambda: Schema(user=[Timestamp("t", "s")]),
        "`user` must hold `Categorical` or `Numerical` only",
    ),
    "timestamp_type": (
        lambda: Schema(user=[Numerical("n")], timestamp="time"),
        "`timestamp` must be a `Timestamp`.*Received: timestamp='time'",
    ),
    "no_timestamp": (
        lambda: Schema(sequences=[Sequence("s", 3, [Timestamp("t", "s")])]),
        r"`timestamp` must name the column.*`Sequence\('s'\)`.*timestamp=None",
    ),
    "same_feature_twice": (
        lambda: Schema(user=[Numerical("n")], item=[Numerical("n")]),
        "`n` must be the name of one feature.*in `user` and in `item`",
    ),
    "table_name_clash": (
        lambda: Schema(
            user=[Numerical("price")],
            item=[
                Categorical(
                    "item_id",
                    9,
                    table=ItemTable(items(), "item_id", [Numerical("price")]),
                )
            ],
        ),
        "`price` must be the name of one feature.*`ItemTable` of `item_id`",
    ),
    "label_is_a_feature": (
        lambda: Schema(user=[Numerical("n")], labels=[Label("n")]),
        "`labels` must not name a feature. Received: 'n'",
    ),
    "label_is_the_timestamp": (
        lambda: Schema(
            user=[Numerical("n")],
            labels=[Label("t")],
            timestamp=Timestamp("t", "s"),
        ),
        "`timestamp` must not be a label",
    ),
    "label_is_the_group": (
        lambda: Schema(
            user=[Numerical("n")], labels=[Label("t")], group_id="t"
        ),
        "`group_id` must not be a label",
    ),
    "group_is_a_number": (
        lambda: Schema(user=[Numerical("n")], group_id="n"),
        "`group_id` must name a column of ids.*group_id='n'.*Numerical",
    ),
    "request_is_a_list": (
        lambda: Schema(
            user=[Categorical("n", 3, max_length=2)], request_id="n"
        ),
        "`request_id` must name a column of ids.*request_id='n'",
    ),
    "labels_twice": (
        lambda: Schema(user=[Numerical("n")], labels=[Label("t"), Label("t")]),
        "`labels` must have different names",
    ),
    "sequences_twice": (
        lambda: Schema(
            sequences=[
                Sequence("s", 2, [Numerical("a")]),
                Sequence("s", 2, [Numerical("b")]),
            ]
        ),
        "`sequences` must have different names",
    ),
    "input_clash": (
        lambda: Schema(
            user=[Numerical("s.length")],
            sequences=[Sequence("s", 2, [Numerical("a")])],
        ),
        "inputs must have different names.*Received: 's.length' twice",
    ),
    "signature_clash": (
        lambda: Schema(
            user=[Numerical("s_length")],
            sequences=[Sequence("s", 2, [Numerical("a")])],
        ),
        "exported model must have different names.*'s_length' twice",
    ),
    "same_letters": (
        lambda: Schema(
            user=[
                Categorical("user segment", 3),
                Categorical("user_segment", 3),
            ]
        ),
        "must differ in letters, digits.*Rename one. Received: 'user segment' "
        "and 'user_segment'",
    ),
    "same_letters_of_lengths": (
        lambda: Schema(
            sequences=[
                Sequence("my seq", 2, [Numerical("a")]),
                Sequence("my-seq", 2, [Numerical("b")]),
            ]
        ),
        "Received: 'my seq_length' and 'my-seq_length'",
    ),
    "same_letters_in_a_table": (
        lambda: Schema(
            user=[Categorical("the brand", vocabulary="lookup")],
            item=[
                Categorical(
                    "item_id",
                    9,
                    table=ItemTable(
                        {"item_id": [1], "the_brand": ["x"]},
                        "item_id",
                        [Categorical("the_brand", vocabulary="lookup")],
                    ),
                )
            ],
        ),
        "Received: 'the brand' and 'the_brand'",
    ),
    "share_with_nothing": (
        lambda: Schema(
            user=[Categorical("a", 3), Categorical("b", share_with="c")]
        ),
        r"`share_with` of `Categorical\('b'\)` must name a categorical, one "
        r"of \['a'\]. Received: share_with='c'",
    ),
    "share_with_a_sharer": (
        lambda: Schema(
            user=[
                Categorical("a", 3),
                Categorical("b", share_with="a"),
                Categorical("c", share_with="b"),
            ]
        ),
        "must name the feature that owns the embedding, 'a'",
    ),
    "share_with_other_vocabulary": (
        lambda: Schema(
            user=[
                Categorical("a", vocabulary="lookup"),
                Categorical("b", share_with="a", vocabulary="hash"),
            ]
        ),
        r"`vocabulary` of `Categorical\('b'\)` must be that of share_with='a', "
        r"Lookup\(\), or be left out. Received: vocabulary=Hash\(\)",
    ),
    "share_with_other_min_count": (
        lambda: Schema(
            user=[
                Categorical("a", vocabulary="lookup"),
                Categorical("b", share_with="a", vocabulary=Lookup(3)),
            ]
        ),
        r"`vocabulary`.*Received: vocabulary=Lookup\(min_count=3\)",
    ),
    "share_with_other_identity": (
        lambda: Schema(
            user=[
                Categorical("a", 3),
                Categorical("b", share_with="a", vocabulary=Identity(4)),
            ]
        ),
        "`num_values` of .*must be that of share_with='a', 3",
    ),
    "share_with_other_size": (
        lambda: Schema(
            user=[Categorical("a", 3), Categorical("b", 4, share_with="a")]
        ),
        "`num_values` of `Categorical.*must be that of share_with='a', 3",
    ),
    "table_key_range": (
        lambda: Schema(
            item=[
                Categorical(
                    "item_id",
                    7,
                    table=ItemTable(items(), "item_id", [Numerical("price")]),
                )
            ]
        ),
        r"Column `item_id` of the `ItemTable` must hold ids in \[0, 7\).*"
        "Received: 7 in the row of item_id=7",
    ),
    "table_feature_dtype": (
        lambda: Schema(
            item=[
                Categorical(
                    "item_id",
                    9,
                    table=ItemTable(
                        items(), "item_id", [Categorical("brand", 3)]
                    ),
                )
            ]
        ),
        "Column `brand` of the `ItemTable` must hold values of dtype 'int64'.*"
        "Received: 'x'",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    make, message = ERRORS[case]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make()
