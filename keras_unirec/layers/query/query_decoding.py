import keras
from keras import ops

from keras_unirec.layers._glorot import glorot
from keras_unirec.layers._residual import build_norm
from keras_unirec.layers._residual import check_norm
from keras_unirec.layers._residual import residual
from keras_unirec.layers.history._attend import attend
from keras_unirec.layers.history._attention_weights import attention_weights
from keras_unirec.layers.history._attention_weights import check_attention
from keras_unirec.layers.history._kv_mode import check_kv_mode
from keras_unirec.layers.history._kv_mode import resolve_kv_mode


@keras.saving.register_keras_serializable(package="keras_unirec")
class QueryDecoding(keras.layers.Layer):
    """Lets the queries of each candidate read a history, with several heads.

    `Q' = Attention(Norm(Q) W_Q, H W_K, H W_V) W_O + Q`: multi-head cross
    attention over the real events, with a residual, so that an empty history
    returns the queries (their `LayerNorm` with `norm="post_layer"`). Without
    norm (the default) `Norm` is the identity.

    Keys and values may be computed (`"projected"`), or `W_K` and `W_V` move to
    the query and to the aggregate (`"absorbed"`), which gives the same output
    and costs nothing per event. `decoding_macs` has the costs that `"auto"`
    compares. Keys and values that were computed elsewhere, once per request,
    can be given in place of the history.

    Args:
        key_value: `HistoryKeyValue`, with the number of heads and the kernels
            of keys and values.
        attention: `"softmax"`, or `"sigmoid"`, as in `HeadCrossAttention`.
            Defaults to `"softmax"`.
        kv_mode: `"absorbed"`, `"projected"`, or `"auto"`, the cheaper by static
            shapes, and `"absorbed"` where the number of candidates or events
            is not static. Defaults to `"auto"`.
        norm: `None`, `"pre_rms"`, or `"post_layer"` for
            `LayerNorm(Attention(Q) + Q)`. Defaults to `None`.

    Call arguments:
        queries: Tensor of shape `(requests, candidates, num_queries, dim)`.
        history: Tensor of shape `(requests, length, event_dim)`, or the tuple
            of keys and values that `key_value` made of it.
        mask: Optional bool tensor of shape `(requests, length)`, true on real
            events.

    Output shape:
        `(requests, candidates, num_queries, dim)`

    Example:
    ```python
    key_value = keras_unirec.layers.HistoryKeyValue(num_heads=4, head_dim=8)
    decoding = keras_unirec.layers.QueryDecoding(key_value)
    queries, history = np.ones((2, 5, 3, 32)), np.ones((2, 50, 16))
    decoding(queries, history).shape  # (2, 5, 3, 32)
    decoding(queries, key_value(history)).shape  # the same
    ```

    Reference: [HyFormer, 2026](https://arxiv.org/abs/2601.12681), eq. 9, 16.
    """

    def __init__(
        self,
        key_value,
        attention="softmax",
        kv_mode="auto",
        norm=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_attention(attention)
        check_kv_mode(kv_mode)
        check_norm(norm)
        self.key_value = key_value
        self.attention = attention
        self.kv_mode = kv_mode
        self.norm = norm
        self.supports_masking = True

    def build(self, queries_shape, history_shape):
        dim = queries_shape[-1]
        if not self.key_value.built:
            if isinstance(history_shape[0], (tuple, list)):
                raise ValueError(
                    "`key_value` must be built: it has made the keys and "
                    "values. Received: another layer that is not built"
                )
            self.key_value.build(history_shape)
        width = self.key_value.num_heads * self.key_value.head_dim
        self.query_kernel = self.add_weight(
            name="query_kernel",
            shape=(dim, width),
            initializer=glorot(dim, width),
        )
        self.output_kernel = self.add_weight(
            name="output_kernel",
            shape=(width, dim),
            initializer=glorot(width, dim),
        )
        self.query_norm = build_norm(
            self.norm, queries_shape, self.dtype_policy, "query_norm"
        )

    def call(self, queries, history, mask=None):
        def read(queries):
            operands = self._operands(queries, history, mask)
            heads = self._heads(attend(*operands, self.attention))
            rows = ops.matmul(heads, self.output_kernel)
            return ops.reshape(rows, ops.shape(queries))

        return residual(queries, read, self.norm, self.query_norm)

    def weights_of_events(self, queries, history, mask=None):
        """What each query reads: the weights of the events.

        Args:
            queries, history, mask: Those of the call.

        Returns:
            Tensor of shape `(requests, candidates, num_queries, num_heads,
            length)`; with softmax it sums to 1 over real events.
        """
        if self.norm == "pre_rms":
            queries = self.query_norm(queries)
        rows, keys, _, mask = self._operands(queries, history, mask)
        scores = ops.matmul(rows, ops.swapaxes(keys, -1, -2))
        weights = attention_weights(scores, mask, self.attention)
        requests, candidates, num_queries, _ = ops.shape(queries)
        heads = self.key_value.num_heads
        length = ops.shape(weights)[-1]
        if len(weights.shape) == 4:
            weights = ops.reshape(
                weights, (requests, heads, candidates, num_queries, length)
            )
            return ops.transpose(weights, (0, 2, 3, 1, 4))
        return ops.reshape(
            weights, (requests, candidates, num_queries, heads, length)
        )

    def _operands(self, queries, history, mask):
        """Queries, keys, values and mask of `attend`.

        Projected: queries `(requests, heads, candidates * queries, head_dim)`,
        keys and values by head. Absorbed: `(requests, candidates * queries *
        heads, event_dim)`, and the history twice; heads and candidates are
        rows of one product.
        """
        heads, dim = self.key_value.num_heads, self.key_value.head_dim
        requests, candidates, num_queries, _ = ops.shape(queries)
        projected = ops.matmul(queries, self.query_kernel) / dim**0.5
        if self._mode(queries, history) == "projected":
            keys, values = (
                history
                if isinstance(history, (tuple, list))
                else self.key_value(history)
            )
            # `key_value` has a dtype policy of its own.
            keys = ops.cast(keys, projected.dtype)
            values = ops.cast(values, projected.dtype)
            projected = ops.reshape(
                projected, (requests, candidates * num_queries, heads, dim)
            )
            projected = ops.transpose(projected, (0, 2, 1, 3))
            if mask is not None:
                mask = mask[:, None, None, :]
            return projected, keys, values, mask
        kernel = self._kernel_by_head(self.key_value.key_kernel)
        projected = ops.reshape(projected, (-1, heads, dim))
        projected = ops.einsum("bhk,ehk->bhe", projected, kernel)
        projected = ops.reshape(
            projected,
            (requests, candidates * num_queries * heads, kernel.shape[0]),
        )
        if mask is not None:
            mask = mask[:, None, :]
        return projected, history, history, mask

    def _heads(self, read):
        """What the heads read, `(rows, num_heads * head_dim)`."""
        heads, dim = self.key_value.num_heads, self.key_value.head_dim
        if len(read.shape) == 4:  # By head already.
            read = ops.transpose(read, (0, 2, 1, 3))
        else:
            kernel = self._kernel_by_head(self.key_value.value_kernel)
            read = ops.reshape(read, (-1, heads, kernel.shape[0]))
            read = ops.einsum("bhe,ehk->bhk", read, kernel)
        return ops.reshape(read, (-1, heads * dim))

    def _kernel_by_head(self, kernel):
        heads, dim = self.key_value.num_heads, self.key_value.head_dim
        return ops.reshape(kernel, (kernel.shape[0], heads, dim))

    def _mode(self, queries, history):
        if isinstance(history, (tuple, list)):
            return "projected"
        return resolve_kv_mode(
            self.kv_mode,
            queries.shape[1],
            history.shape[1],
            lambda candidates, length: decoding_macs(
                candidates * queries.shape[2],
                length,
                self.key_value.num_heads,
                self.key_value.head_dim,
                history.shape[-1],
            ),
        )

    def compute_mask(self, queries, history, mask=None):
        return None

    def compute_output_shape(self, queries_shape, history_shape):
        return tuple(queries_shape)

    def get_config(self):
        config = super().get_config()
        config["key_value"] = keras.saving.serialize_keras_object(
            self.key_value
        )
        config["attention"] = self.attention
        config["kv_mode"] = self.kv_mode
        config["norm"] = self.norm
        return config

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["key_value"] = keras.saving.deserialize_keras_object(
            config["key_value"]
        )
        return super().from_config(config)


def decoding_macs(num_queries, length, num_heads, head_dim, event_dim):
    """Multiply-accumulates of one request's decoding, by `kv_mode`.

    With `Q` queries (of all candidates), `T` events of width `E` and `h` heads
    of width `k`, without the projections of queries and outputs:

    - projected: `T * 2 E h k` (keys, values) and `2 Q T h k`;
    - absorbed: `Q * 2 E h k` and `2 Q T h E`.
    """
    square = 2 * event_dim * num_heads * head_dim
    attention = 2 * num_queries * length * num_heads
    return {
        "absorbed": num_queries * square + attention * event_dim,
        "projected": length * square + attention * head_dim,
    }
