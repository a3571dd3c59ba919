import pandas as pd

from keras_unirec.metrics.log_loss import sigmoid
from keras_unirec.scoring._one_pass import dataset_of
from keras_unirec.scoring._one_pass import is_paths
from keras_unirec.scoring._one_pass import returns_logits
from keras_unirec.scoring._one_pass import run
from keras_unirec.scoring._one_pass import schema_of


def predict(model, data, batch_size=1024):
    """Predicts probabilities for the rows of a table.

    The result does not depend on `batch_size`, nor on the other rows.

    Args:
        model: A model of `keras_unirec.applications`, or any `keras.Model`
            with a `schema` that maps the encoded inputs to a dict of logits
            `(R, C)` by label (probabilities if its `output_activation` is
            `"sigmoid"`).
        data: `pandas.DataFrame` with the columns of `model.schema`, labels
            not needed; or the path of a Parquet file, of a folder of them, a
            glob, or a list of those, which are streamed.
        batch_size: int. Rows of a step. Defaults to `1024`.

    Returns:
        `pandas.DataFrame` of float32 with one column per label, on the index
        of `data` (for Parquet, numbered from 0).

    Example:
    ```python
    ku.predict(model, df)["is_click"].sort_values()
    ```
    """
    schema = schema_of(model)
    if isinstance(data, pd.DataFrame):
        index = data.index
    elif is_paths(data):
        index = None
    else:
        outputs = "logits" if returns_logits(model) else "probabilities"
        raise ValueError(
            "`data` must be a data frame or the path of Parquet files (for a "
            f"dataset, `model.predict(dataset)` returns {outputs}). "
            f"Received: {type(data).__name__}"
        )
    dataset = dataset_of(data, schema, batch_size, labels=False)
    rows = run(model, dataset)
    return pd.DataFrame(
        {
            name: _probabilities(model, rows.outputs[name]).astype("float32")
            for name in schema.label_names
        },
        index=index,
    )


def _probabilities(model, outputs):
    return sigmoid(outputs) if returns_logits(model) else outputs
