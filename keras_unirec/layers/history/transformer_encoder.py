import keras
from keras import ops

from keras_unirec.layers import _parts
from keras_unirec.layers._checks import check_bools
from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers._checks import check_ratio
from keras_unirec.layers._glorot import glorot
from keras_unirec.layers.feed_forward.per_token_ffn import PerTokenFFN
from keras_unirec.layers.residual._by_name import make_residual
from keras_unirec.layers.residual.pre_norm import PreNorm


@keras.saving.register_keras_serializable(package="keras_unirec")
class TransformerEncoder(_parts.Composite):
    """One Transformer layer on events, which read a history or themselves.

    `Z = X + Attention(Norm(X), Norm(Y), Norm(Y))` and
    `H = Z + FFN(Norm(Z))` with a GELU network. With `Y = X`, the default, it
    is the full Transformer encoder; with a few recent events `X` and the whole
    history `Y` it is the encoder of LONGER, whose cost is linear in the
    history. The attention runs over real events only.

    Args:
        num_heads: int. Number of attention heads; it divides the event width.
            Defaults to `4`.
        hidden_dim: int or None. Hidden width of the feed-forward network.
            Defaults to `None`: `ratio` times the width of an event.
        ratio: float or None. Defaults to `None`: D over the width of an event
            in MixFormer, else 2.
        residual: `"pre_rms"`, `"post_layer"` for `LayerNorm(f(x) + x)`,
            `"no_norm"`, or another residual scheme of one stream. Defaults to
            `None`: that of `MixFormer`, elsewhere `"pre_rms"`.
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

    parts = ("residual",)
    # What stands for arguments that are None.
    resolved = {"residual": PreNorm()}

    def __init__(
        self,
        num_heads=4,
        hidden_dim=None,
        ratio=None,
        residual=None,
        causal=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_positive_integers(num_heads=num_heads)
        check_positive_integers(optional=True, hidden_dim=hidden_dim)
        check_ratio(optional=True, ratio=ratio)
        check_bools(causal=causal)
        self.num_heads = num_heads
        self.hidden_dim = hidden_dim
        self.ratio = ratio
        self.residual = make_residual(
            residual, self.dtype_policy, optional=True
        )
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
        self.network = PerTokenFFN(
            self.hidden_dim,
            self.ratio or 2,
            shared=True,
            dtype=self.dtype_policy,
            name="feed_forward",
        )
        self.network.build(events_shape)
        self._scheme = self.residual or PreNorm(dtype=self.dtype_policy)
        if history_shape and self._scheme.num_streams > 1:
            raise ValueError(
                "Events that read a history need a residual scheme of one "
                "stream: the history is read as the events are. Received: "
                f"residual={type(self._scheme).__name__}"
            )
        self._scheme.build_steps(events_shape, ["attention", "feed_forward"])

    def call(self, events, history=None, mask=None, events_mask=None):
        allowed = None if mask is None else mask[:, None, :]
        if self.causal:
            older = self._is_older(events, history, mask, events_mask)
            allowed = older if allowed is None else allowed & older
        read = history
        if history is not None:
            streams = self._scheme.start(history)
            read = self._scheme.read(streams, "attention")

        def attend(x):
            return self.attention(
                x, x if read is None else read, attention_mask=allowed
            )

        return self._scheme.apply(
            events, attend, self.network, names=["attention", "feed_forward"]
        )

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
        config["ratio"] = self.ratio
        config["causal"] = self.causal
        return config
