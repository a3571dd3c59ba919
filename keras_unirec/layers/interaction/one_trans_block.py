import keras
from keras import ops

from keras_unirec.layers import _parts
from keras_unirec.layers._checks import check_bools
from keras_unirec.layers._checks import check_integers
from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers._glorot import glorot
from keras_unirec.layers.embedding.history_merge import HistoryMerge
from keras_unirec.layers.feed_forward._by_name import make_feed_forward
from keras_unirec.layers.readers._attention_weights import attention_weights


@keras.saving.register_keras_serializable(package="keras_unirec")
class OneTransBlock(_parts.Composite):
    """A layer of OneTrans: one causal stack over events and feature tokens.

    On `X = [S; NS]`, the events of a request and the N feature tokens of a
    candidate, `Z = MixedMHA(RMS(X)) + X` and `X' = MixedFFN(RMS(Z)) + Z`. The
    events share their projections `W^Q, W^K, W^V` and their network, every
    feature token has its own. Row i reads the rows up to i: no event reads a
    feature token, so that what the events become, and their keys and values,
    depend on the request alone. `request` runs the events, `candidates` the
    feature tokens on the keys and values of the events.

    What the paper leaves open: `W^O` is one for all, and so are the scales of
    the norms.

    Args:
        num_heads: int. Number of attention heads. Defaults to `4`.
        feed_forward: The networks: `"gelu"`, `"swiglu"`, or a layer that has
            `per_token` or `shared`. Defaults to `"gelu"`.
        causal: bool. `False` is the ablation of full attention: events read
            all events, feature tokens all tokens. Defaults to `True`.
        num_tokens: int or None. N. Defaults to `None`: what the model says.
        num_queries: int or None. The number of most recent events that go on
            to the next layer (the pyramid); older ones are read only, and with
            0 there is neither a query nor a network of events. Defaults to
            `None`: all.

    Example:
    ```python
    block = keras_unirec.layers.OneTransBlock(num_tokens=3)
    mask = np.ones((2, 50), "bool")
    events, mask, kept = block.request(np.ones((2, 50, 32)), mask)
    block.candidates(np.ones((2, 5, 3, 32)), kept).shape  # (2, 5, 3, 32)
    ```

    Reference: [OneTrans, 2025](https://arxiv.org/abs/2510.26104)
    """

    parts = ("feed_forward",)

    def __init__(
        self,
        num_heads=4,
        feed_forward="gelu",
        causal=True,
        num_tokens=None,
        num_queries=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_positive_integers(num_heads=num_heads)
        check_positive_integers(optional=True, num_tokens=num_tokens)
        if num_queries is not None:
            check_integers(0, 2**31 - 1, num_queries=num_queries)
        check_bools(causal=causal)
        self.num_heads = num_heads
        self.feed_forward = make_feed_forward(feed_forward, self.dtype_policy)
        self.causal = causal
        self.num_tokens = num_tokens
        self.num_queries = num_queries
        self.supports_masking = True
        self._recent = None
        if num_queries:
            self._recent = HistoryMerge(
                num_queries, dtype=self.dtype_policy, name="recent"
            )

    def request(self, events, mask):
        """Runs the events.

        Args:
            events: Tensor `(R, T, D)`.
            mask: Bool tensor `(R, T)`.

        Returns:
            Tuple of the events `(R, T', D)` and mask of the next layer (those
            given where no event goes on), and the dict of `keys` and `values`,
            `(R, heads, T, D / heads)`, and their `mask`.
        """
        keys, values, *further = self(events, mask=mask)
        events, further_mask = further or (events, mask)
        return (
            events,
            further_mask,
            {"keys": keys, "values": values, "mask": mask},
        )

    def candidates(self, tokens, kept):
        """Runs the feature tokens `(R, C, N, D)` on what `request` kept."""
        return self(tokens, kept["keys"], kept["values"], mask=kept["mask"])

    def build(self, inputs_shape, keys_shape=None, values_shape=None):
        dim = inputs_shape[-1]
        check_positive_integers(num_tokens=self.num_tokens)
        if dim % self.num_heads:
            raise ValueError(
                "`num_heads` must divide the width of a token. "
                f"Received: num_heads={self.num_heads}, width {dim}"
            )
        tokens = (None, None, self.num_tokens, dim)

        def add(name, *leading):
            return self.add_weight(
                name=f"{name}_kernel",
                shape=(*leading, dim, dim),
                initializer=glorot(dim, dim),
            )

        self.event_kernels = [add("event_key"), add("event_value")]
        runs_events = self.num_queries != 0  # Else they are only read.
        if runs_events:
            self.event_query_kernel = add("event_query")
        self.token_kernels = [
            add(f"token_{name}", self.num_tokens)
            for name in ("query", "key", "value")
        ]
        self.output_kernel = add("output")
        self.norms = []
        for name in ("attention_norm", "feed_forward_norm"):
            norm = keras.layers.RMSNormalization(
                dtype=self.dtype_policy, name=name
            )
            norm.build(tokens)
            self.norms.append(norm)
        self.networks = {}
        for name, shape, per_token in (
            ("event_feed_forward", (None, None, dim), False),
            ("token_feed_forward", tokens, True),
        ):
            if not per_token and not runs_events:
                continue
            network = _parts.copy(
                "feed_forward",
                self.feed_forward,
                self.dtype_policy,
                name,
                fixed={"per_token": per_token, "shared": not per_token},
            )
            network.build(shape)
            self.networks[name] = network

    def call(self, inputs, keys=None, values=None, mask=None):
        if keys is None:
            return self._events(inputs, mask)
        return self._tokens(inputs, keys, values, mask)

    def _events(self, x, mask):
        normed = self.norms[0](x)
        keys, values = (
            self._by_head(ops.matmul(normed, kernel))
            for kernel in self.event_kernels
        )
        if self.num_queries == 0:
            return keys, values
        queries, queries_mask = x, mask
        if self._recent is not None:
            queries, queries_mask = self._recent([x], [mask])
            normed = self.norms[0](queries)
        allowed = mask[:, None, :]
        if self.causal:  # Counted from the newest: padding moves nothing.
            older = _newer(mask)[:, None, :] >= _newer(queries_mask)[:, :, None]
            allowed = allowed & older
        q = self._by_head(ops.matmul(normed, self.event_query_kernel))
        q = q / q.shape[-1] ** 0.5
        scores = ops.matmul(q, ops.swapaxes(keys, -1, -2))
        weights = attention_weights(scores, allowed[:, None], "softmax")
        read = ops.transpose(ops.matmul(weights, values), (0, 2, 1, 3))
        read = ops.reshape(read, ops.shape(queries))
        x = queries + ops.matmul(read, self.output_kernel)
        x = x + self.networks["event_feed_forward"](self.norms[1](x))
        return keys, values, x, queries_mask

    def _by_head(self, x):
        """`(R, T, D)` to `(R, heads, T, D / heads)`."""
        requests, length, _ = ops.shape(x)
        width = x.shape[-1] // self.num_heads
        shape = (requests, length, self.num_heads, width)
        return ops.transpose(ops.reshape(x, shape), (0, 2, 1, 3))

    def _tokens(self, x, keys, values, mask):
        requests, candidates, n, dim = *ops.shape(x)[:2], *x.shape[2:]
        heads, length = self.num_heads, ops.shape(keys)[2]
        normed = ops.reshape(self.norms[0](x), (-1, n, dim))
        normed = ops.transpose(normed, (1, 0, 2))  # (N, R C, D)

        def project(kernel):  # (R, heads, C, N, D / heads)
            y = ops.transpose(ops.matmul(normed, kernel), (1, 0, 2))
            y = ops.reshape(y, (requests, candidates, n, heads, dim // heads))
            return ops.transpose(y, (0, 3, 1, 2, 4))

        q, own_keys, own_values = map(project, self.token_kernels)
        q = q / (dim // heads) ** 0.5
        rows = ops.reshape(q, (requests, heads, candidates * n, dim // heads))
        of_events = ops.matmul(rows, ops.swapaxes(keys, -1, -2))
        of_events = ops.reshape(
            of_events, (requests, heads, candidates, n, length)
        )
        of_tokens = ops.matmul(q, ops.swapaxes(own_keys, -1, -2))
        allowed = ops.ones((n, n), "bool")
        if self.causal:
            allowed = ops.tril(allowed)
        allowed = ops.concatenate(
            [
                ops.broadcast_to(
                    mask[:, None, None, None, :], (requests, 1, 1, n, length)
                ),
                ops.broadcast_to(allowed, (requests, 1, 1, n, n)),
            ],
            axis=-1,
        )
        weights = attention_weights(
            ops.concatenate([of_events, of_tokens], axis=-1), allowed, "softmax"
        )
        of_events = ops.reshape(
            weights[..., :length], (requests, heads, candidates * n, length)
        )
        read = ops.reshape(ops.matmul(of_events, values), ops.shape(q))
        read = read + ops.matmul(weights[..., length:], own_values)
        read = ops.reshape(ops.transpose(read, (0, 2, 3, 1, 4)), ops.shape(x))
        x = x + ops.matmul(read, self.output_kernel)
        return x + self.networks["token_feed_forward"](self.norms[1](x))

    def compute_output_spec(self, inputs, keys=None, values=None, mask=None):
        # By hand: on JAX the call needs a number of events.
        def spec(shape, dtype=self.compute_dtype):
            return keras.KerasTensor(shape, dtype)

        if keys is not None:
            return spec(inputs.shape)
        requests, length, dim = inputs.shape
        kept = (requests, self.num_heads, length, dim // self.num_heads)
        # Two tensors: one object in two places would be one tensor of a model.
        keys, values = spec(kept), spec(kept)
        if self.num_queries == 0:
            return keys, values
        further, further_mask = inputs, mask
        if self._recent is not None:
            further, further_mask = self._recent.compute_output_spec(
                [inputs], [mask]
            )
        more = spec(further.shape), spec(further_mask.shape, "bool")
        return keys, values, *more

    def compute_mask(self, inputs, keys=None, values=None, mask=None):
        return None

    def get_config(self):
        config = super().get_config()
        config["num_heads"] = self.num_heads
        config["causal"] = self.causal
        config["num_tokens"] = self.num_tokens
        config["num_queries"] = self.num_queries
        return config


def _newer(mask):
    """How many real events are newer than each."""
    mask = ops.cast(mask, "int32")
    return ops.sum(mask, axis=1, keepdims=True) - ops.cumsum(mask, axis=1)
