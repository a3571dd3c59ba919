import keras

from keras_unirec.layers._checks import check_bools
from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers.embedding.history_merge import HistoryMerge
from keras_unirec.layers.history.token_merge import TokenMerge
from keras_unirec.layers.history.transformer_encoder import TransformerEncoder


@keras.saving.register_keras_serializable(package="keras_unirec")
class Longer(TransformerEncoder):
    """The encoder of LONGER: recent events that read the whole history.

    A `TransformerEncoder` whose queries are the most recent events, at a cost
    that is linear in the history. Neighbouring events may first be merged into
    fewer, wider ones. In a model of several layers, `start` is called once;
    layer l reads what layer l - 1 returned, and the history of `start`.

    Args:
        recent_length: int or None. Number of most recent events (or groups of
            events) that are encoded. Defaults to `100`; `None` is all, which
            then read each other: a full Transformer.
        token_merge: int. Number of neighbouring events that are concatenated
            to one. Defaults to `1`.
        inner_transformer: bool. Whether the events of a group first read each
            other. Defaults to `False`.
        **kwargs: `num_heads`, `hidden_dim`, `ratio`, `residual` and `causal`
            of `TransformerEncoder`.

    Call arguments:
        events, history, mask, events_mask: As in `TransformerEncoder`.

    Output shape:
        That of `events`.

    Example:
    ```python
    encoder = keras_unirec.layers.Longer(recent_length=10)
    history, mask = np.ones((2, 50, 32)), np.ones((2, 50), "bool")
    start = encoder.start(history, mask)
    encoder(*start).shape  # (2, 10, 32)
    ```

    Reference: [LONGER, 2025](https://arxiv.org/abs/2505.04421);
    [HyFormer, 2026](https://arxiv.org/abs/2601.12681), eq. 6
    """

    resolved = {**TransformerEncoder.resolved, "recent_length": "all"}

    def __init__(
        self,
        recent_length=100,
        token_merge=1,
        inner_transformer=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_positive_integers(optional=True, recent_length=recent_length)
        check_positive_integers(token_merge=token_merge)
        check_bools(inner_transformer=inner_transformer)
        if inner_transformer and token_merge == 1:
            raise ValueError(
                "`inner_transformer` reads the events that `token_merge` "
                "joins; give a `token_merge` of at least 2. "
                "Received: token_merge=1"
            )
        self.recent_length = recent_length
        self.token_merge = token_merge
        self.inner_transformer = inner_transformer
        self._merge = self._recent = None
        if token_merge > 1:
            self._merge = TokenMerge(
                token_merge,
                inner_transformer,
                num_heads=self.num_heads,
                dtype=self.dtype_policy,
                name=f"{self.name}_token_merge",
            )
        if recent_length is not None:
            self._recent = HistoryMerge(
                recent_length,
                dtype=self.dtype_policy,
                name=f"{self.name}_recent",
            )

    def start(self, history, mask, max_length=None):
        """What the first layer reads.

        Args:
            history: Tensor `(requests, length, event_dim)`.
            mask: Bool tensor `(requests, length)`.
            max_length: int or None. The most events that there can be.

        Returns:
            Tuple of the events, the history (None if they read themselves),
            its mask and that of the events: the arguments of the call.
        """
        if self._merge is not None:
            history, mask = self._merge(history, mask=mask)
            if max_length is not None:
                max_length = -(-max_length // self.token_merge)
        if self._recent is None:  # A full Transformer: events read themselves.
            return history, None, mask, mask
        events, events_mask = history, mask
        if max_length is None or max_length > self.recent_length:
            events, events_mask = self._recent([history], [mask])
        return events, history, mask, events_mask

    def get_config(self):
        config = super().get_config()
        config["recent_length"] = self.recent_length
        config["token_merge"] = self.token_merge
        config["inner_transformer"] = self.inner_transformer
        return config
