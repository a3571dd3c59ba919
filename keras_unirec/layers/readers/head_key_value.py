import keras

from keras_unirec.layers import _parts


@keras.saving.register_keras_serializable(package="keras_unirec")
class HeadKeyValue(_parts.Composite):
    """The keys and values of a reader of histories, computed apart from it.

    They depend on the request alone: a model computes them once, in its user
    half, and gives them to the reader in place of the history. The weights are
    those of the reader.

    Args:
        reader: `HeadCrossAttention` or `QueryDecoding`, built before this
            layer is called.

    Input shape:
        `(requests, length, event_dim)`

    Output shape:
        Tuple of the keys and the values, each
        `(requests, num_heads, length, head_dim)`.

    Example:
    ```python
    attention = keras_unirec.layers.HeadCrossAttention()
    attention.build((None, None, 4, 8), (None, None, 32))
    queries, history = np.ones((2, 3, 4, 8)), np.ones((2, 50, 32))
    key_value = keras_unirec.layers.HeadKeyValue(attention)(history)
    attention(queries, key_value).shape  # (2, 3, 4, 8)
    ```

    Reference: [MixFormer, 2026](https://arxiv.org/abs/2602.14110), eq. 6-7;
    [HyFormer, 2026](https://arxiv.org/abs/2601.12681), eq. 8.
    """

    parts = ("reader",)

    def __init__(self, reader, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(reader, keras.layers.Layer) or not hasattr(
            reader, "key_value"
        ):
            raise ValueError(
                "`reader` must be a `HeadCrossAttention` or a `QueryDecoding`. "
                f"Received: reader={reader!r}"
            )
        self.reader = reader
        self.supports_masking = True

    def build(self, input_shape):
        if not self.reader.built:
            raise ValueError(
                "`reader` must be built: its queries say how many heads there "
                f"are. Received: reader={self.reader.name!r}, not built"
            )

    def call(self, inputs):
        return self.reader.key_value(inputs)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        num_heads, dim = self.reader.key_value_shape
        shape = (input_shape[0], num_heads, input_shape[1], dim)
        return shape, shape


def kept_of_request(reader, history, queries_shape):
    """What a reader keeps of a history: itself, or keys and values."""
    if not reader.built:
        reader.build(queries_shape, history.shape)
    if reader.kv_mode != "projected":
        return history
    # A reader that blocks share keeps more than one history.
    reader.num_kept = getattr(reader, "num_kept", -1) + 1
    suffix = f"_{reader.num_kept}" if reader.num_kept else ""
    key_value = HeadKeyValue(
        reader,
        dtype=reader.dtype_policy,
        name=f"{reader.name}_key_value{suffix}",
    )
    return key_value(history)
