import keras
from keras import ops

from keras_unirec.layers import _parts
from keras_unirec.layers._checks import check_choice
from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers._glorot import glorot
from keras_unirec.layers.readers._attend import attend
from keras_unirec.layers.readers._attention_weights import ATTENTIONS
from keras_unirec.layers.readers._attention_weights import attention_weights
from keras_unirec.layers.readers._kv_mode import KV_MODES
from keras_unirec.layers.readers._kv_mode import resolve_kv_mode
from keras_unirec.layers.readers.head_key_value import kept_of_request
from keras_unirec.layers.residual._by_name import make_residual
from keras_unirec.layers.residual.no_norm import NoNorm


@keras.saving.register_keras_serializable(package="keras_unirec")
class QueryDecoding(_parts.Composite):
    """Lets the queries of each candidate read a history, with several heads.

    `Q' = Attention(Norm(Q) W_Q, H W_K, H W_V) W_O + Q`: multi-head cross
    attention over the real events, with a residual, so that an empty history
    returns the queries (their `LayerNorm` with `residual="post_layer"`).

    Keys and values may be computed (`"projected"`), or `W_K` and `W_V` move to
    the query and to the aggregate (`"absorbed"`), which gives the same output
    and costs nothing per event. `decoding_macs` has the costs that `"auto"`
    compares. Keys and values that `HeadKeyValue` computed, once per request,
    can be given in place of the history. A model calls `request` in the half
    of the request and `candidates` in that of the candidates.

    Args:
        num_heads: int. Number of attention heads. Defaults to `4`.
        head_dim: int or None. Width of a head. Defaults to `None`: that of a
            query over `num_heads`.
        num_queries: int. Queries of a candidate that a model lets read the
            history. Defaults to `1`.
        attention: `"softmax"`, or `"sigmoid"`, as in `HeadCrossAttention`.
            Defaults to `"softmax"`.
        kv_mode: `"absorbed"`, `"projected"`, or `"auto"`, the cheaper by static
            shapes, and `"absorbed"` where the number of candidates or events
            is not static. Defaults to `"auto"`.
        residual: `"no_norm"`, `"pre_rms"`, `"post_layer"` for
            `LayerNorm(Attention(Q) + Q)`, `"none"` for the attention alone, or
            another residual scheme. Defaults to `None`: that of `HyFormer`, or
            `"no_norm"`.

    Call arguments:
        queries: Tensor of shape `(requests, candidates, num_queries, dim)`.
        history: Tensor of shape `(requests, length, event_dim)`, or the tuple
            of keys and values that `HeadKeyValue` made of it.
        mask: Optional bool tensor of shape `(requests, length)`, true on real
            events.

    Output shape:
        `(requests, candidates, num_queries, dim)`

    Example:
    ```python
    decoding = keras_unirec.layers.QueryDecoding(num_heads=4, head_dim=8)
    queries, history = np.ones((2, 5, 3, 32)), np.ones((2, 50, 16))
    decoding(queries, history).shape  # (2, 5, 3, 32)
    ```

    Reference: [HyFormer, 2026](https://arxiv.org/abs/2601.12681), eq. 9, 16.
    """

    parts = ("residual",)
    # What stands for arguments that are None.
    resolved = {"residual": NoNorm()}
    # How the layer computes, not what its weights mean.
    no_meaning = ("kv_mode",)

    def __init__(
        self,
        num_heads=4,
        head_dim=None,
        num_queries=1,
        attention="softmax",
        kv_mode="auto",
        residual=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_positive_integers(num_heads=num_heads, num_queries=num_queries)
        check_positive_integers(optional=True, head_dim=head_dim)
        check_choice(ATTENTIONS, attention=attention)
        check_choice(KV_MODES, kv_mode=kv_mode)
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.num_queries = num_queries
        self.attention = attention
        self.kv_mode = kv_mode
        self.residual = make_residual(
            residual, self.dtype_policy, optional=True
        )
        self.supports_masking = True

    def build(self, queries_shape, history_shape):
        dim = queries_shape[-1]
        if isinstance(history_shape[0], (tuple, list)):
            raise ValueError(
                "Keys and values come from a `HeadKeyValue` of this layer, "
                "which must be built before. Received: a tuple as `history` "
                "of a layer that is not built"
            )
        if self.head_dim is None and dim % self.num_heads:
            raise ValueError(
                "`num_heads` must divide the width of a query, or `head_dim` "
                f"be given. Received: num_heads={self.num_heads}, width {dim}"
            )
        event_dim = history_shape[-1]
        head_dim = self.head_dim or dim // self.num_heads
        width = self.num_heads * head_dim
        self.key_value_shape = (self.num_heads, head_dim)

        def add(name, fan_in, fan_out):
            return self.add_weight(
                name=f"{name}_kernel",
                shape=(fan_in, fan_out),
                initializer=glorot(fan_in, fan_out),
            )

        self.query_kernel = add("query", dim, width)
        self.key_kernel = add("key", event_dim, width)
        self.value_kernel = add("value", event_dim, width)
        self.output_kernel = add("output", width, dim)
        self._scheme = self.residual or NoNorm(dtype=self.dtype_policy)
        self._scheme.build_steps(queries_shape, ["query"])

    def call(self, queries, history, mask=None):
        def read(queries):
            operands = self._operands(queries, history, mask)
            heads = self._heads(attend(*operands, self.attention))
            rows = ops.matmul(heads, self.output_kernel)
            return ops.reshape(rows, ops.shape(queries))

        return self._scheme.apply(queries, read, names=["query"])

    def request(self, history, queries_shape):
        """What the state of a request keeps of a history.

        Args:
            history: Tensor of shape `(requests, length, event_dim)`.
            queries_shape: tuple. Shape of the queries to come.

        Returns:
            The history, or, with `kv_mode="projected"`, its keys and values.
        """
        return kept_of_request(self, history, queries_shape)

    def candidates(self, queries, kept, mask=None):
        """Reads what `request` returned: a call of the layer."""
        return self(queries, kept, mask=mask)

    def key_value(self, history):
        """Keys and values by head: what `HeadKeyValue` returns."""
        requests, length, _ = ops.shape(history)

        def by_head(kernel):
            projected = ops.reshape(
                ops.matmul(history, kernel),
                (requests, length, *self.key_value_shape),
            )
            return ops.transpose(projected, (0, 2, 1, 3))

        return by_head(self.key_kernel), by_head(self.value_kernel)

    def weights_of_events(self, queries, history, mask=None):
        """What each query reads: the weights of the events.

        Args:
            queries, history, mask: Those of the call.

        Returns:
            Tensor of shape `(requests, candidates, num_queries, num_heads,
            length)`; with softmax it sums to 1 over real events.
        """
        streams = self._scheme.start(queries)
        queries = self._scheme.read(streams, "query")
        rows, keys, _, mask = self._operands(queries, history, mask)
        scores = ops.matmul(rows, ops.swapaxes(keys, -1, -2))
        weights = attention_weights(scores, mask, self.attention)
        requests, candidates, num_queries, _ = ops.shape(queries)
        heads = self.num_heads
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
        heads, dim = self.key_value_shape
        requests, candidates, num_queries, _ = ops.shape(queries)
        projected = ops.matmul(queries, self.query_kernel) / dim**0.5
        if self._mode(queries, history) == "projected":
            keys, values = (
                history
                if isinstance(history, (tuple, list))
                else self.key_value(history)
            )
            # `HeadKeyValue` has a dtype policy of its own.
            keys = ops.cast(keys, projected.dtype)
            values = ops.cast(values, projected.dtype)
            projected = ops.reshape(
                projected, (requests, candidates * num_queries, heads, dim)
            )
            projected = ops.transpose(projected, (0, 2, 1, 3))
            if mask is not None:
                mask = mask[:, None, None, :]
            return projected, keys, values, mask
        kernel = self._kernel_by_head(self.key_kernel)
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
        heads, dim = self.key_value_shape
        if len(read.shape) == 4:  # By head already.
            read = ops.transpose(read, (0, 2, 1, 3))
        else:
            kernel = self._kernel_by_head(self.value_kernel)
            read = ops.reshape(read, (-1, heads, kernel.shape[0]))
            read = ops.einsum("bhe,ehk->bhk", read, kernel)
        return ops.reshape(read, (-1, heads * dim))

    def _kernel_by_head(self, kernel):
        heads, dim = self.key_value_shape
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
                *self.key_value_shape,
                history.shape[-1],
            ),
        )

    def compute_mask(self, queries, history, mask=None):
        return None

    def compute_output_shape(self, queries_shape, history_shape):
        return tuple(queries_shape)

    def get_config(self):
        config = super().get_config()
        config["num_heads"] = self.num_heads
        config["head_dim"] = self.head_dim
        config["num_queries"] = self.num_queries
        config["attention"] = self.attention
        config["kv_mode"] = self.kv_mode
        return config


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
