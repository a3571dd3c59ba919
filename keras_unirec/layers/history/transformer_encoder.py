import keras
from keras import ops

from keras_unirec.layers._glorot import glorot
from keras_unirec.layers._residual import build_norm
from keras_unirec.layers._residual import check_norm
from keras_unirec.layers._residual import residual
from keras_unirec.layers.feed_forward.per_token_ffn import PerTokenFFN


@keras.saving.register_keras_serializable(package="keras_unirec")
class TransformerEncoder(keras.layers.Layer):
    """One Transformer layer on events, which read a history or themselves.

    `Z = X + Attention(Norm(X), Norm(Y), Norm(Y))` and
    `H = Z + FFN(Norm(Z))` with a GELU network. With `Y = X`, the default, it
    is the full Transformer encoder; with a few recent events `X` and the whole
    history `Y` it is the encoder of LONGER, whose cost is linear in the
    history. The attention runs over real events only.

    Args:
        num_heads: int. Number of attention heads; it divides the event width.
        hidden_dim: int. Hidden width of the feed-forward network.
        norm: `"pre_rms"`, `"post_layer"` for `LayerNorm(f(x) + x)`, or `None`.
            Defaults to `"pre_rms"`.
        causal: bool. Whether an event reads only itself and older ones, as in
            LONGER. `events` are then the most recent ones of `history`.
            Defaults to `False`.

    Call arguments:
        events: Tensor of shape `(requests, num_events, event_dim)`.
        history: Optional tensor of shape `(requests, length, event_dim)`, what
            the events read. Defaults to `None`: the events themselves.
        mask: Optional bool tensor of shape `(requests, length)`, true on the
            real events of what is read.
        events_mask: Optional bool tensor of shape `(requests, num_events)`.
            Only `causal` with a `history` uses it, to count from the newest.

    Output shape:
        `(requests, num_events, event_dim)`

    Example:
    ```python
    encoder = keras_unirec.layers.TransformerEncoder(4, hidden_dim=128)
    history = np.ones((2, 50, 32))
    encoder(history).shape  # (2, 50, 32)
    encoder(history[:, -10:], history).shape  # (2, 10, 32)
    ```

    Reference: [HyFormer, 2026](https://arxiv.org/abs/2601.12681), eq. 5-6;
    [LONGER, 2025](https://arxiv.org/abs/2505.04421)
    """

    def __init__(
        self, num_heads, hidden_dim, norm="pre_rms", causal=False, **kwargs
    ):
        super().__init__(**kwargs)
        check_norm(norm)
        if num_heads < 1:
            raise ValueError(
                f"`num_heads` must be positive. Received: num_heads={num_heads}"
            )
        self.num_heads = num_heads
        self.hidden_dim = hidden_dim
        self.norm = norm
        self.causal = causal
        self.supports_masking = True

    def build(self, events_shape, history_shape=None):
        dim = events_shape[-1]
        if dim % self.num_heads:
            raise ValueError(
                "`num_heads` must divide the width of an event. "
                f"Received: num_heads={self.num_heads}, width {dim}"
            )
        if history_shape is not None and history_shape[-1] != dim:
            raise ValueError(
                "The events must be as wide as the history that they read, "
                f"{history_shape[-1]}. Received: events of width {dim}"
            )
        self.attention = keras.layers.MultiHeadAttention(
            self.num_heads,
            dim // self.num_heads,
            use_bias=False,
            kernel_initializer=glorot(dim, dim),
            dtype=self.dtype_policy,
            name="attention",
        )
        self.attention.build(events_shape, history_shape or events_shape)
        self.attention_norm = build_norm(
            self.norm, events_shape, self.dtype_policy, "attention_norm"
        )
        self.network = PerTokenFFN(
            self.hidden_dim,
            shared=True,
            dtype=self.dtype_policy,
            name="feed_forward",
        )
        self.network.build(events_shape)
        self.network_norm = build_norm(
            self.norm, events_shape, self.dtype_policy, "feed_forward_norm"
        )

    def call(self, events, history=None, mask=None, events_mask=None):
        allowed = None if mask is None else mask[:, None, :]
        if self.causal:
            older = self._is_older(events, history, mask, events_mask)
            allowed = older if allowed is None else allowed & older

        def attend(x):
            read = x
            if history is not None:
                read = history
                if self.norm == "pre_rms":
                    read = self.attention_norm(history)
            return self.attention(x, read, attention_mask=allowed)

        events = residual(events, attend, self.norm, self.attention_norm)
        return residual(events, self.network, self.norm, self.network_norm)

    def _is_older(self, events, history, mask, events_mask):
        """Whether event j of what is read is not newer than event i."""

        def newer(mask, x):
            if mask is None:
                mask = ops.ones(ops.shape(x)[:2], dtype="bool")
            mask = ops.cast(mask, "int32")
            return ops.sum(mask, axis=1, keepdims=True) - ops.cumsum(mask, 1)

        keys = newer(mask, events if history is None else history)
        queries = keys if history is None else newer(events_mask, events)
        return keys[:, None, :] >= queries[:, :, None]

    def compute_mask(self, events, history=None, mask=None, events_mask=None):
        return None

    def compute_output_shape(self, events_shape, history_shape=None):
        return tuple(events_shape)

    def get_config(self):
        config = super().get_config()
        config["num_heads"] = self.num_heads
        config["hidden_dim"] = self.hidden_dim
        config["norm"] = self.norm
        config["causal"] = self.causal
        return config
