import numpy as np

from keras_unirec.data.encoding.request_ids import sort_by_request
from keras_unirec.schema import reading
from keras_unirec.serving.signature_names import signature_names


def raw_inputs(df, schema, requests=False, side=None):
    """Turns rows of a frame into the raw inputs of an exported model.

    What a client of the server sends: the columns as they are, as dense
    arrays. Use it for a first request, for parity checks and for warm-up.

    Args:
        df: `pandas.DataFrame`. Labels and unknown columns are ignored.
        schema: `keras_unirec.Schema`, adapted.
        requests: bool. Whether to group the rows by the schema's `request_id`
            into requests of several candidates; shorter requests are filled
            up with missing candidates, whose scores mean nothing. Defaults to
            `False`: each row is a request of one candidate.
        side: None, `"user"` or `"item"`. `"user"` gives what `encode_user`
            takes, `"item"` what `score_items` takes beside the state; `df`
            needs the columns of that side alone. Defaults to `None`: both.

    Returns:
        dict of arrays by name of the `serving_default` signature: int64,
        float32, or strings.

    Raises:
        ValueError: If a column is missing or has the wrong type, the columns
            of a history differ in length, or the rows of a request differ in
            a column of the user, the context or a history.

    Example:
    ```python
    inputs = keras_unirec.serving.raw_inputs(df[:1], schema)
    served = tf.saved_model.load("exported/1").signatures["serving_default"]
    served(**{name: tf.constant(value) for name, value in inputs.items()})
    ```

    One user and a frame of candidates:
    ```python
    user = keras_unirec.serving.raw_inputs(user_row, schema, side="user")
    items = keras_unirec.serving.raw_inputs(
        items.assign(request_id=0), schema, requests=True, side="item"
    )
    ```
    """
    from keras_unirec.data.encoding.encoder import Encoder

    if side not in (None, "user", "item"):
        raise ValueError(
            f'`side` must be None, "user" or "item". Received: side={side!r}'
        )
    encoder = Encoder(schema, labels=False, requests=requests)
    preprocessing = encoder.preprocessing
    signature = {}
    if side != "item":
        signature.update(preprocessing.user_signature())
    if side != "user":
        signature.update(preprocessing.item_signature())
    features = [
        (feature, group)
        for feature, group, _ in schema.feature_columns()
        if feature.name in signature
    ]
    needed = [feature.name for feature, _ in features]
    if requests:
        needed.append(schema.request_id)
    reading.check_frame(df, needed)
    ends = np.arange(1, len(df) + 1)
    if requests:
        df, ends = sort_by_request(df, schema)
    candidates = np.append(0, ends)
    rows = reading.Rows(df.index)
    columns = encoder.read(
        {name: reading.from_frame(df, name) for name in needed}, rows
    )
    encoder.check_shapes(columns, rows)

    inputs = {}
    for feature, group in features:
        column = columns[feature.name]
        if group == "item":
            outer = (candidates,)
        else:
            outer = ()
            column = column.take(candidates[:-1])
        offsets = outer + column.offsets
        inputs[feature.name] = _dense(_flat(column), offsets)
        if getattr(feature, "max_length", None) is not None:
            lengths = np.diff(offsets[-1])
            inputs[f"{feature.name}_length"] = _dense(lengths, offsets[:-1], 0)
        if group in (sequence.name for sequence in schema.sequences):
            inputs[f"{group}_length"] = np.diff(column.offsets[0])
    names = signature_names(inputs)
    return {names[column]: value for column, value in inputs.items()}


def _flat(column):
    if column.kind == "string":
        return column.strings()
    if column.kind == "float":
        return column.values.astype("float32")
    return column.values


def _dense(values, offsets, padding=None):
    """Nests flat values; `offsets` are those of a `Column`."""
    if padding is None:
        padding = {"O": reading.MISSING_STRING, "f": np.nan}.get(
            values.dtype.kind, reading.MISSING
        )
    for level in reversed(offsets):
        lengths = np.diff(level)
        slot = np.arange(lengths.max(initial=0))
        index = np.where(
            slot < lengths[:, None], level[:-1, None] + slot, len(values)
        )
        pad = np.full((1, *values.shape[1:]), padding, values.dtype)
        values = np.concatenate([values, pad])[index]
    return values
