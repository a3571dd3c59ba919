import keras
from keras import ops

from keras_unirec.layers import _parts
from keras_unirec.layers._checks import check_choice
from keras_unirec.layers._glorot import glorot
from keras_unirec.layers.readers._attend import attend
from keras_unirec.layers.readers._attention_weights import ATTENTIONS
from keras_unirec.layers.readers._attention_weights import attention_weights
from keras_unirec.layers.readers._kv_mode import KV_MODES
from keras_unirec.layers.readers._kv_mode import resolve_kv_mode
from keras_unirec.layers.readers.head_key_value import kept_of_request
from keras_unirec.layers.readers.history_map import HistoryMap


@keras.saving.register_keras_serializable(package="keras_unirec")
class HeadCrossAttention(_parts.Composite):
    """Lets every head read the history with its own query.

    `z_i = sum_t softmax_t(q_i . k_t^i / sqrt(D)) v_t^i + q_i`, with
    `k_t^i = W_k^i h_t^i` and `v_t^i = W_v^i h_t^i`. Head `i` of event `t`,
    `h_t^i`, is a slice of `h_t`, which then has width `N * D`, or, with a
    `HistoryMap`, a linear map of an `h_t` of any width. The softmax runs over
    real events in float32; a head with no event to read returns its query.

    The keys and values may be computed (`"projected"`), or `W_k` and `W_v` (and
    the map) move to the query and to the aggregate (`"absorbed"`), which gives
    the same output and costs nothing per event. `key_value_macs` has the costs
    that `"auto"` compares. Keys and values that `HeadKeyValue` computed, once
    per request, can be given in place of the history. A model calls `request`
    in the half of the request and `candidates` in that of the candidates.

    Args:
        history_map: Optional `HistoryMap`, usually shared between layers. In
            `MixFormer` it defaults to one map for all blocks; elsewhere heads
            are slices of the event.
        attention: `"softmax"` or `"sigmoid"`. With the latter the weight of an
            event is `sigmoid(q_i . k_t^i / sqrt(D)) / sqrt(n)`, where `n` is
            the number of real events of the request: unlike a mean, the sum
            still grows with the number of events that match, and unlike a
            plain sum its scale at initialization does not grow with `n`.
            Defaults to `"softmax"`.
        kv_mode: `"absorbed"`, `"projected"`, or `"auto"`, the cheaper by static
            shapes, and `"absorbed"` where the number of candidates or events
            is not static. Defaults to `"auto"`.

    Call arguments:
        queries: Tensor of shape `(requests, candidates, num_heads, dim)`.
        history: Tensor of shape `(requests, length, event_dim)`, or the tuple
            of keys and values that `HeadKeyValue` made of it.
        mask: Optional bool tensor of shape `(requests, length)`, true on real
            events.

    Output shape:
        `(requests, candidates, num_heads, dim)`

    Example:
    ```python
    attention = keras_unirec.layers.HeadCrossAttention()
    queries, history = np.ones((2, 3, 4, 8)), np.ones((2, 50, 32))
    attention(queries, history).shape  # (2, 3, 4, 8)
    ```

    Reference: [MixFormer, 2026](https://arxiv.org/abs/2602.14110), eq. 6-8.
    """

    parts = ("history_map",)
    # How the layer computes, not what its weights mean.
    no_meaning = ("kv_mode",)

    def __init__(
        self,
        history_map=None,
        attention="softmax",
        kv_mode="auto",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_choice(ATTENTIONS, attention=attention)
        check_choice(KV_MODES, kv_mode=kv_mode)
        if history_map is not None and not isinstance(history_map, HistoryMap):
            raise ValueError(
                "`history_map` must be a `HistoryMap` or None. "
                f"Received: history_map={history_map!r}"
            )
        self.history_map = history_map
        self.attention = attention
        self.kv_mode = kv_mode
        self.supports_masking = True

    def build(self, queries_shape, history_shape):
        num_heads, dim = queries_shape[-2:]
        if isinstance(history_shape[0], (tuple, list)):
            raise ValueError(
                "Keys and values come from a `HeadKeyValue` of this layer, "
                "which must be built before. Received: a tuple as `history` "
                "of a layer that is not built"
            )
        event_dim = history_shape[-1]
        if self.history_map is None:
            if event_dim != num_heads * dim:
                raise ValueError(
                    "Without `history_map` an event is as wide as all heads, "
                    f"{num_heads} * {dim} = {num_heads * dim}. Received: "
                    f"history of width {event_dim}"
                )
        else:
            mapped = (self.history_map.num_heads, self.history_map.dim)
            if mapped != (num_heads, dim):
                raise ValueError(
                    "`history_map` must map to the heads of the queries, "
                    f"{num_heads} of width {dim}. Received: {mapped[0]} of "
                    f"width {mapped[1]}"
                )
            if not self.history_map.built:
                self.history_map.build(history_shape)
        self.key_kernel = self.add_weight(
            name="key_kernel",
            shape=(num_heads, dim, dim),
            initializer=glorot(dim, dim),
        )
        self.value_kernel = self.add_weight(
            name="value_kernel",
            shape=(num_heads, dim, dim),
            initializer=glorot(dim, dim),
        )

    def call(self, queries, history, mask=None):
        if isinstance(history, (tuple, list)):
            return self._projected(queries, *history, mask) + queries
        mode = resolve_kv_mode(
            self.kv_mode,
            queries.shape[1],
            history.shape[1],
            lambda candidates, length: key_value_macs(
                candidates,
                length,
                *queries.shape[-2:],
                None if self.history_map is None else history.shape[-1],
            ),
        )
        if mode == "absorbed":
            return self._absorbed(queries, history, mask) + queries
        key_value = self.key_value(history)
        return self._projected(queries, *key_value, mask) + queries

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
        events = self._events_by_head(history)
        keys = ops.einsum("rntd,ndk->rntk", events, self.key_kernel)
        return keys, ops.einsum("rntd,ndk->rntk", events, self.value_kernel)

    def weights_of_events(self, queries, history, mask=None):
        """What each head reads: the weights of the events.

        Args:
            queries, history, mask: Those of the call.

        Returns:
            Tensor of shape `(requests, candidates, num_heads, length)`; with
            softmax it sums to 1 over real events.
        """
        if not isinstance(history, (tuple, list)):
            history = self.key_value(history)
        return self._projected_weights(queries, history[0], mask)

    @property
    def key_value_shape(self):
        """tuple. Number of heads and width of a key."""
        return tuple(self.key_kernel.shape[:2])

    def _projected(self, queries, keys, values, mask):
        weights = self._projected_weights(queries, keys, mask)
        values = ops.cast(values, weights.dtype)
        return ops.einsum("rcnt,rntk->rcnk", weights, values)

    def _projected_weights(self, queries, keys, mask):
        queries = queries / queries.shape[-1] ** 0.5
        # `HeadKeyValue` has a dtype policy of its own.
        keys = ops.cast(keys, queries.dtype)
        scores = ops.einsum("rcnk,rntk->rcnt", queries, keys)
        if mask is not None:
            mask = mask[:, None, None, :]
        return attention_weights(scores, mask, self.attention)

    def _absorbed(self, queries, history, mask):
        queries = queries / queries.shape[-1] ** 0.5
        queries = ops.einsum("rcnk,ndk->rcnd", queries, self.key_kernel)
        if self.history_map is None:
            events = self._events_by_head(history)
            queries = ops.transpose(queries, (0, 2, 1, 3))
            if mask is not None:
                mask = mask[:, None, None, :]
            read = attend(queries, events, events, mask, self.attention)
            read = ops.transpose(read, (0, 2, 1, 3))
        else:
            # Heads and candidates are rows of one product with the events.
            kernel = self.history_map.kernel
            queries = ops.einsum("rcnd,end->rcne", queries, kernel)
            shape = ops.shape(queries)
            rows = ops.reshape(
                queries, (shape[0], shape[1] * shape[2], kernel.shape[0])
            )
            if mask is not None:
                mask = mask[:, None, :]
            read = attend(rows, history, history, mask, self.attention)
            read = ops.reshape(read, shape)
            read = ops.einsum("rcne,end->rcnd", read, kernel)
        return ops.einsum("rcnd,ndk->rcnk", read, self.value_kernel)

    def _events_by_head(self, history):
        """Events of shape `(requests, num_heads, length, dim)`.

        In this order, one copy serves both products and their gradients.
        """
        if self.history_map is not None:
            # The map may have a dtype policy of its own.
            events = ops.cast(self.history_map(history), history.dtype)
        else:
            requests, length, _ = ops.shape(history)
            events = ops.reshape(
                history, (requests, length, *self.key_kernel.shape[:2])
            )
        return ops.transpose(events, (0, 2, 1, 3))

    def compute_mask(self, queries, history, mask=None):
        return None

    def compute_output_shape(self, queries_shape, history_shape):
        return tuple(queries_shape)

    def get_config(self):
        config = super().get_config()
        config["attention"] = self.attention
        config["kv_mode"] = self.kv_mode
        return config


def key_value_macs(num_candidates, length, num_heads, dim, event_dim=None):
    """Multiply-accumulates of one request's attention, by `kv_mode`.

    With `C` candidates, `T` events, `N` heads of width `D`, and events of
    width `E` that a `HistoryMap` spreads over the heads (`event_dim=None`:
    heads are slices of the event):

    - projected: `T * 2 N D^2` (keys, values), `2 C T N D` (scores, sums), and
      with the map `T * N E D`;
    - absorbed: `C * 2 N D^2`, and `2 C T N D`, or with the map
      `C * 2 N E D` and `2 C T N E`.
    """
    square = 2 * num_heads * dim * dim
    attention = 2 * num_candidates * length * num_heads
    projected = length * square + attention * dim
    absorbed = num_candidates * square
    if event_dim is None:
        absorbed += attention * dim
    else:
        projected += length * num_heads * event_dim * dim
        absorbed += num_candidates * 2 * num_heads * event_dim * dim
        absorbed += attention * event_dim
    return {"absorbed": absorbed, "projected": projected}
