import keras
from keras import ops

from keras_unirec.layers._glorot import glorot


@keras.saving.register_keras_serializable(package="keras_unirec")
class QueryGeneration(keras.layers.Layer):
    """Makes queries out of all that is known of a candidate and its user.

    `Q_i = FFN_i(Global Info)` with
    `Global Info = Concat(F_1, ..., F_M, MeanPool(Seq))`, where
    `FFN_i(x) = SiLU(x W_i + b_i) V_i + c_i`. The share of the pooled histories
    in `x W_i` is computed once a request and added for every candidate, the
    same number as on the concatenation.

    Args:
        num_queries: int. Number of queries `N`.
        dim: int. Width `D` of a query.
        hidden_dim: int. Hidden width of each network.
        compression_dim: Optional int. First projects the global information
            to this width, once for all queries. Defaults to `None`.

    Call arguments:
        features: Tensor of shape `(requests, candidates, feature_dim)`: the
            concatenated tokens, or those selected.
        summary: Optional tensor of shape `(requests, summary_dim)`: the
            concatenated means of the histories.

    Output shape:
        `(requests, candidates, num_queries, dim)`

    Example:
    ```python
    generation = keras_unirec.layers.QueryGeneration(3, 32, hidden_dim=16)
    features, summary = np.ones((2, 5, 128)), np.ones((2, 24))
    generation(features, summary).shape  # (2, 5, 3, 32)
    ```

    Reference: [HyFormer, 2026](https://arxiv.org/abs/2601.12681), eq. 3-4.
    """

    def __init__(
        self, num_queries, dim, hidden_dim, compression_dim=None, **kwargs
    ):
        super().__init__(**kwargs)
        for name, value in (
            ("num_queries", num_queries),
            ("dim", dim),
            ("hidden_dim", hidden_dim),
            ("compression_dim", compression_dim),
        ):
            if value is not None and value < 1:
                raise ValueError(
                    f"`{name}` must be positive. Received: {name}={value}"
                )
        self.num_queries = num_queries
        self.dim = dim
        self.hidden_dim = hidden_dim
        self.compression_dim = compression_dim
        self.supports_masking = True

    def build(self, features_shape, summary_shape=None):
        feature_dim = features_shape[-1]
        summary_dim = 0 if summary_shape is None else summary_shape[-1]
        width = self.compression_dim or self.num_queries * self.hidden_dim
        # One matrix; a network sees as many inputs as it would alone.
        fan_out = self.compression_dim or self.hidden_dim
        initializer = glorot(feature_dim + summary_dim, fan_out)
        self.feature_kernel = self.add_weight(
            name="feature_kernel",
            shape=(feature_dim, width),
            initializer=initializer,
        )
        if summary_dim:
            self.summary_kernel = self.add_weight(
                name="summary_kernel",
                shape=(summary_dim, width),
                initializer=initializer.clone(),
            )
        if self.compression_dim is not None:
            self.compressed_kernel = self.add_weight(
                name="compressed_kernel",
                shape=(width, self.num_queries * self.hidden_dim),
                initializer=glorot(width, self.hidden_dim),
            )
        self.hidden_bias = self.add_weight(
            name="hidden_bias",
            shape=(self.num_queries * self.hidden_dim,),
            initializer="zeros",
        )
        self.output_kernel = self.add_weight(
            name="output_kernel",
            shape=(self.num_queries, self.hidden_dim, self.dim),
            initializer=glorot(self.hidden_dim, self.dim),
        )
        self.output_bias = self.add_weight(
            name="output_bias",
            shape=(self.num_queries, self.dim),
            initializer="zeros",
        )

    def call(self, features, summary=None):
        requests, candidates, _ = ops.shape(features)
        x = ops.matmul(features, self.feature_kernel)
        if summary is not None:
            x += ops.matmul(summary, self.summary_kernel)[:, None, :]
        if self.compression_dim is not None:
            x = ops.matmul(x, self.compressed_kernel)
        x = ops.silu(x + self.hidden_bias)
        x = ops.reshape(x, (-1, self.num_queries, self.hidden_dim))
        queries = ops.einsum("bnh,nhd->bnd", x, self.output_kernel)
        return ops.reshape(
            queries + self.output_bias,
            (requests, candidates, self.num_queries, self.dim),
        )

    def compute_mask(self, features, summary=None, mask=None):
        return None

    def compute_output_shape(self, features_shape, summary_shape=None):
        return (*features_shape[:-1], self.num_queries, self.dim)

    def get_config(self):
        config = super().get_config()
        config["num_queries"] = self.num_queries
        config["dim"] = self.dim
        config["hidden_dim"] = self.hidden_dim
        config["compression_dim"] = self.compression_dim
        return config
