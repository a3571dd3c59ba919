import pandas as pd

from keras_unirec.schema import Categorical
from keras_unirec.schema import ItemTable
from keras_unirec.schema import Label
from keras_unirec.schema import Numerical
from keras_unirec.schema import Schema
from keras_unirec.schema import Sequence
from keras_unirec.schema import Timestamp

"""A schema with every kind of column, and a frame that fits."""


def items():
    return pd.DataFrame(
        {
            "item_id": [0, 3, 7],
            "brand": ["x", "y", "x"],
            "words": [["a", "b"], [], ["c"]],
            "price": [1.0, 2.0, 6.0],
        }
    )


def rich_schema(table=None):
    table = table or ItemTable(
        items(),
        key="item_id",
        features=[
            Categorical("brand", vocabulary="lookup"),
            Categorical("words", vocabulary="lookup", max_length=2),
            Numerical("price"),
        ],
    )
    return Schema(
        user=[Categorical("country", vocabulary="lookup")],
        context=[
            Categorical("page", 20, vocabulary="hash"),
            Numerical("hour"),
        ],
        item=[
            Categorical("item_id", 10, 16, table=table),
            Categorical("slots", 4, max_length=3, pooling="sum"),
        ],
        sequences=[
            Sequence(
                "viewed",
                5,
                [
                    Categorical("viewed_id", share_with="item_id"),
                    Timestamp("viewed_time", unit="s"),
                ],
            ),
            Sequence(
                "bought", 3, [Categorical("bought_brand", share_with="brand")]
            ),
        ],
        labels=[Label("click")],
        request_id="request",
        group_id="country",
        timestamp=Timestamp("time", unit="s"),
    )


def frame():
    return pd.DataFrame(
        {
            "country": ["de", "fr", None],
            "page": ["home", "search", "home"],
            "hour": [1.0, 3.0, 8.0],
            "item_id": [3, 7, 9],
            "slots": [[0], [1, 2], []],
            "viewed_id": [[0, 3], [], [7]],
            "viewed_time": [[10, 20], [], [30]],
            "bought_brand": [["z"], ["x"], []],
            "time": [100, 110, 120],
            "click": [0, 1, 0],
            "request": ["a", "b", "c"],
        }
    )
