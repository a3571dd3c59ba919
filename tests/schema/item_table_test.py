import numpy as np
import pandas as pd
import pytest

from keras_unirec.schema import Categorical
from keras_unirec.schema import ItemTable
from keras_unirec.schema import Label
from keras_unirec.schema import Numerical
from tests.schema.rich_schema import items

ERRORS = {
    "shared_table": (
        lambda: Categorical(
            "c", share_with="d", table=ItemTable({"k": [1]}, "k", [Label("x")])
        ),
        "`features` must hold `Categorical` or `Numerical` only",
    ),
    "table_key": (
        lambda: ItemTable(items(), "id", [Numerical("price")]),
        "Column `id` is missing.*an `ItemTable` with the columns",
    ),
    "table_duplicate": (
        lambda: ItemTable(
            {"item_id": [4, 5, 4], "price": [1.0, 2.0, 3.0]},
            "item_id",
            [Numerical("price")],
        ),
        "Key column `item_id`.*each key once: `drop_duplicates.*Received: 4 "
        "in row 0 and in row 2",
    ),
    "table_duplicate_of_a_frame_with_an_index": (
        lambda: ItemTable(
            pd.DataFrame(
                {"item_id": ["x", "y", "x"], "price": [1.0, 2.0, 3.0]},
                index=["a", "b", "c"],
            ),
            "item_id",
            [Numerical("price")],
        ),
        r"Received: 'x' in row 'a' \(index label\) and in row 'c' "
        r"\(index label\)",
    ),
    "table_missing_key": (
        lambda: ItemTable(
            {"item_id": ["a", None], "price": [1.0, 2.0]},
            "item_id",
            [Numerical("price")],
        ),
        "Key column `item_id`.*no missing keys.*a missing key in row 1",
    ),
    "table_nan": (
        lambda: ItemTable(
            {"item_id": [4, 5], "price": [1.0, np.nan]},
            "item_id",
            [Numerical("price")],
        ),
        "Column `price` must hold finite numbers.*Received: nan in row 1",
    ),
    "table_empty": (
        lambda: ItemTable(items().iloc[:0], "item_id", [Numerical("price")]),
        "`data` of `ItemTable.*must have rows. Received: an empty table",
    ),
    "table_type": (
        lambda: ItemTable([1, 2], "item_id", [Numerical("price")]),
        "`data` of `ItemTable` must be a data frame or a dict",
    ),
    "table_lists": (
        lambda: ItemTable(
            items(), "item_id", [Categorical("words", vocabulary="lookup")]
        ),
        "Column `words` must hold one integer or string in each row. "
        "Received: .*list.*in row 0",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    make, message = ERRORS[case]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make()
