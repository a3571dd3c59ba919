import dataclasses

import keras
import ml_dtypes
import numpy as np
import pandas as pd
import pytest

import keras_unirec as ku
from keras_unirec.training.encoded_inputs import check_encoded
from tests.small_log import small_batch
from tests.small_log import small_frame
from tests.small_log import small_schema


@pytest.fixture(scope="module")
def schema():
    return small_schema()


@pytest.fixture
def batch(schema):
    return small_batch(schema)


def changed(values, place, value, dtype=None):
    values = values.astype(dtype or values.dtype)
    values[place] = value
    return values


def test_what_readers_yield_is_right(schema):
    for padding in ("longest", "max_length"):
        data = ku.data.from_pandas(
            small_frame(), schema, batch_size=16, padding=padding, shuffle=True
        )
        for inputs, labels, weights in data:
            arrays = {key: value.numpy() for key, value in inputs.items()}
            labels = {key: value.numpy() for key, value in labels.items()}
            check_encoded(schema, arrays, labels, weights.numpy())
            check_encoded(schema, arrays)


def test_forms_of_legal_inputs(schema, batch):
    inputs, labels, weights = batch
    check_encoded(schema, inputs, labels, weights)
    check_encoded(schema, inputs, labels)
    check_encoded(schema, inputs, labels, dict.fromkeys(labels, weights[:, 0]))
    lists = {key: value.tolist() for key, value in inputs.items()}
    check_encoded(schema, lists, labels, weights[:, 0].tolist())
    tensors = {
        key: keras.ops.convert_to_tensor(value) for key, value in inputs.items()
    }
    check_encoded(schema, tensors, labels, weights)
    user, item = schema.inputs()
    check_encoded(schema, {**user, **item})
    series = {**inputs, "city": pd.Series(inputs["city"])}
    wide = {
        key: value.astype("int64" if value.dtype == "int32" else "float64")
        for key, value in series.items()
    }
    half, bfloat = (
        {
            key: value if value.dtype == "int32" else value.astype(dtype)
            for key, value in inputs.items()
        }
        for dtype in ("float16", ml_dtypes.bfloat16)
    )
    for other in (series, wide, half, bfloat):
        check_encoded(schema, other, labels, weights.astype("int64"))
    _, _, no_events = small_batch(schema, events=0)
    check_encoded(schema, small_batch(schema, events=0)[0], labels, no_events)
    labels = {key: value.astype("bool") for key, value in labels.items()}
    check_encoded(schema, {**inputs, "__group_id__": None}, labels)


def test_one_label_needs_no_name(schema, batch):
    inputs, labels, _ = batch
    one = dataclasses.replace(schema, labels=schema.labels[:1])
    check_encoded(one, inputs, labels["is_click"])
    with pytest.raises(ValueError, match="Label `is_click` must hold"):
        check_encoded(one, inputs, labels["is_click"] - 1)


@pytest.mark.parametrize(
    "key, change, message",
    [
        # `video_id` has 30 values, and two more rows.
        (
            "video_id",
            lambda x: changed(x, (2, 1), 32),
            r"Input `video_id` must hold encoded ids in \[0, 32\), the rows of "
            r"the embedding `video_id`.*Received: 32 at \[2, 1\]",
        ),
        (
            "hist_video_id",
            lambda x: changed(x, (5, 7), -1),
            r"`hist_video_id` must.*in \[0, 32\).*Received: -1 at \[5, 7\]",
        ),
        (
            "video_id.author",
            lambda x: changed(x, (0, 0), 9),
            r"`video_id.author` must.*in \[0, 9\).*Received: 9 at \[0, 0\]",
        ),
        (
            "genres",
            lambda x: changed(x, (0, 1, 1), 52),
            r"`genres` must.*in \[0, 52\).*Received: 52 at \[0, 1, 1\]",
        ),
        (
            "user_id",
            lambda x: changed(x, 3, 2**40, "int64"),
            r"`user_id` must.*in \[0, 22\).*Received: 1099511627776 at \[3\]",
        ),
        (
            "user_id",
            lambda x: x.astype("float32"),
            r"`user_id` must hold integers.*Received: dtype float32",
        ),
        (
            "city",
            lambda x: np.array(["Oslo"] * len(x)),
            r"`city` must hold integers; raw columns are encoded by `keras_un"
            r"irec.data.from_pandas\(df, schema\)`.*Received:.*'Oslo'",
        ),
        (
            "city",
            lambda x: ["Oslo"] * len(x),
            r"`city` must hold integers.*Received:.*'Oslo'",
        ),
        (
            "city",
            lambda x: keras.ops.cast(x, "float32"),
            r"`city` must hold integers.*Received: dtype float32$",
        ),
        (
            "hist_video_id",
            lambda x: np.array([[1], [1, 2], [], [], [], []], dtype=object),
            r"`hist_video_id` must hold integers.*Received: dtype object",
        ),
        (
            "hist_video_id",
            lambda x: [[1], [1, 2], [], [], [], []],
            r"`hist_video_id` must be an array. Received: list.*inhomogeneous",
        ),
        (
            "watched.length",
            lambda x: changed(x, 1, 9),
            r"`watched.length` must hold numbers of events in \[0, 8\].*"
            r"`watched`.*Received: 9 at \[1\]",
        ),
        (
            "liked.length",
            lambda x: changed(x, 1, -1),
            r"`liked.length` must hold.*in \[0, 4\].*Received: -1 at \[1\]",
        ),
        (
            "hist_time_s",
            lambda x: changed(x, (1, 2), -2),
            r"`hist_time_s` must hold the seconds.*Received: -2 at \[1, 2\]",
        ),
        (
            "hour",
            lambda x: changed(x, 4, np.nan),
            r"`hour` must hold finite numbers.*Received: nan at \[4\]",
        ),
        (
            "hour",
            lambda x: changed(x, 4, np.nan, ml_dtypes.bfloat16),
            r"`hour` must hold finite numbers.*Received: nan at \[4\]",
        ),
        (
            "hour",
            lambda x: changed(x, 4, np.inf, "float16"),
            r"`hour` must hold finite numbers.*Received: inf at \[4\]",
        ),
        (
            "price",
            lambda x: changed(x, (4, 2), -np.inf),
            r"`price` must hold finite numbers.*Received: -inf at \[4, 2\]",
        ),
        (
            "price",
            lambda x: changed(x, (4, 2), 1e39, "float64"),
            r"`price` must hold finite numbers.*Received: 1e\+39 at \[4, 2\]",
        ),
        (
            "watched.count",
            lambda x: changed(x, 0, np.nan),
            r"`watched.count` must hold finite numbers.*Received: nan",
        ),
        (
            "video_id.duration",
            lambda x: x > 0,
            r"`video_id.duration` must hold numbers.*Received: dtype bool",
        ),
        (
            "user_id",
            lambda x: x[:, None],
            r"`user_id` must have the shape \(requests\).*Received: \(6, 1\)",
        ),
        (
            "genres",
            lambda x: x[:, :, :1],
            r"`genres` must have the shape \(requests, candidates, 2\).*"
            r"Received: \(6, 3, 1\)",
        ),
        (
            "hist_click",
            lambda x: x[:0],
            r"`hist_click` must.*at least one request. Received: \(0, 8\)",
        ),
    ],
)
def test_wrong_inputs(schema, batch, key, change, message):
    inputs, labels, weights = batch
    with pytest.raises(ValueError, match=message):
        check_encoded(
            schema, {**inputs, key: change(inputs[key])}, labels, weights
        )


def test_missing_keys(schema, batch):
    inputs, labels, weights = batch
    del inputs["hour"]
    with pytest.raises(ValueError, match=r"\['hour'\] are missing.*expects"):
        check_encoded(schema, inputs)
    with pytest.raises(ValueError, match="are a dict.*Received: ndarray"):
        check_encoded(schema, inputs["video_id"])


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda x: changed(x, (1, 2), np.nan),
            r"Label `is_like` must hold numbers in \[0, 1\]. Received: nan at "
            r"\[1, 2\]",
        ),
        (lambda x: changed(x, (1, 2), 1.5), r"`is_like`.*: 1.5 at \[1, 2\]"),
        (lambda x: 2 * x.astype("int32") - 1, r"`is_like`.*Received: -1 at"),
        (lambda x: x.astype(str), r"`is_like` must hold numbers.*dtype"),
        (lambda x: None, r"`is_like` must hold numbers.*Received: dtype obj"),
    ],
)
def test_wrong_labels(schema, batch, change, message):
    inputs, labels, weights = batch
    labels["is_like"] = change(labels["is_like"])
    with pytest.raises(ValueError, match=message):
        check_encoded(schema, inputs, labels)


def test_missing_labels(schema, batch):
    inputs, labels, _ = batch
    message = r"Labels \['is_like'\] are missing.*Received: \['is_click'\]"
    with pytest.raises(ValueError, match=message):
        check_encoded(schema, inputs, {"is_click": labels["is_click"]})
    with pytest.raises(ValueError, match=r"Labels.*are missing.*Received: \[]"):
        check_encoded(schema, inputs, labels["is_click"])


def test_labels_of_weight_0_do_not_matter(schema, batch):
    inputs, labels, weights = batch
    labels["is_like"] = changed(labels["is_like"], (1, 2), np.nan)
    without = changed(weights, (1, 2), 0)
    check_encoded(schema, inputs, labels, without)
    check_encoded(
        schema, inputs, labels, {"is_click": weights, "is_like": without}
    )
    check_encoded(schema, inputs, labels, changed(weights[:, 0], 1, 0))
    tensor = keras.ops.convert_to_tensor(without)
    check_encoded(schema, inputs, labels, tensor)
    for wrong in (
        weights,
        changed(weights[:, 0], 2, 0),
        {"is_click": without, "is_like": weights},
    ):
        with pytest.raises(ValueError, match="`is_like`.*nan"):
            check_encoded(schema, inputs, labels, wrong)
    with pytest.raises(ValueError, match=r"one weight per candidate.*\(5, 3\)"):
        check_encoded(schema, inputs, labels, weights[:5])


@pytest.mark.parametrize(
    "change, received",
    [
        (lambda w: changed(w, (1, 2), np.nan), r"nan at \[1, 2\]"),
        (lambda w: changed(w, (1, 2), -1), r"-1.0 at \[1, 2\]"),
        (lambda w: changed(w, (1, 2), np.inf), r"inf at \[1, 2\]"),
        (lambda w: changed(w[:, 0], 3, -1), r"-1.0 at \[3\]"),
        (lambda w: 0 * w, r"nothing but zeros, of shape \(6, 3\)"),
        (lambda w: w.astype(str), "dtype"),
    ],
)
def test_wrong_weights(schema, batch, change, received):
    inputs, labels, weights = batch
    wrong = change(weights)
    message = (
        "must hold finite numbers of at least 0, not all of them 0. "
        f"Received: .*{received}"
    )
    with pytest.raises(ValueError, match=f"^`sample_weight` {message}"):
        check_encoded(schema, inputs, labels, wrong)
    with pytest.raises(ValueError, match=f"of label `is_like` {message}"):
        check_encoded(
            schema, inputs, labels, {"is_click": weights, "is_like": wrong}
        )


def test_weights_by_label_name_every_label(schema, batch):
    inputs, labels, weights = batch
    with pytest.raises(ValueError, match=r"must name the labels.*\['is_like'"):
        check_encoded(schema, inputs, labels, {"is_like": weights})
