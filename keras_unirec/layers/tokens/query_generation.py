import keras
from keras import ops

from keras_unirec.layers._checks import check_choice
from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers._checks import is_integer
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
        num_queries: int or None. Number of queries `N`. Defaults to `None`:
            what the model says.
        dim: int or None. Width `D` of a query. Defaults to `None`: what the
            model says.
        hidden_dim: int. Hidden width of each network. Defaults to `64`.
        compression_dim: Optional int. First projects the global information
            to this width, once for all queries. Defaults to `None`.
        context: What a model generates the queries from: `"all"`;
            `"without_pooling"`, the ablation "Query w/o Seq Pooling Tokens";
            or `"target"`, the ablation "Query w/o Nonseq and Seq Pooling
            Tokens", the item columns alone. Defaults to `"all"`.
        tokens: None, or list of indices of the feature tokens that a model
            generates the queries from (not with `context="target"`). Defaults
            to `None`: all.

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

    # What stands for arguments that are None.
    resolved = {"tokens": "all"}

    def __init__(
        self,
        num_queries=None,
        dim=None,
        hidden_dim=64,
        compression_dim=None,
        context="all",
        tokens=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_positive_integers(hidden_dim=hidden_dim)
        check_positive_integers(
            optional=True,
            num_queries=num_queries,
            dim=dim,
            compression_dim=compression_dim,
        )
        check_choice(("all", "without_pooling", "target"), context=context)
        if tokens is not None:
            _check_tokens(tokens, context)
        self.num_queries = num_queries
        self.dim = dim
        self.hidden_dim = hidden_dim
        self.compression_dim = compression_dim
        self.context = context
        self.tokens = None if tokens is None else tuple(tokens)
        self.supports_masking = True

    def build(self, features_shape, summary_shape=None):
        check_positive_integers(num_queries=self.num_queries, dim=self.dim)
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
        config["context"] = self.context
        config["tokens"] = self.tokens
        return config


def _check_tokens(tokens, context):
    if context == "target":
        raise ValueError(
            "`tokens` selects the feature tokens that queries are made of; "
            'with `context="target"` they are made of the item columns alone. '
            f"Received: tokens={tokens!r}"
        )
    if (
        not isinstance(tokens, (list, tuple))
        or not tokens
        or not all(is_integer(i) and i >= 0 for i in tokens)
        or len(set(tokens)) != len(tokens)
    ):
        raise ValueError(
            "`tokens` must be a list of different indices of feature tokens. "
            f"Received: tokens={tokens!r}"
        )
