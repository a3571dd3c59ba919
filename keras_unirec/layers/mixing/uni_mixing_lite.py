import keras
from keras import ops

from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers.mixing._annealed_mixing import AnnealedMixing


@keras.saving.register_keras_serializable(package="keras_unirec")
class UniMixingLite(AnnealedMixing):
    """`UniMixing` with few parameters: shared bases and a low rank.

    The logits of the local matrix of block `n` are a combination of `b` bases,
    `sum_l omega_nl Z_l`, those of the global matrix a product `A C` of rank
    `r`. Sinkhorn is not linear: the global matrix itself has nearly full rank,
    and mixing costs a sample what it does in `UniMixing`.

    Args:
        block_size: int. B; it divides `num_tokens * dim`. Defaults to `4`.
        num_bases: int. b. Defaults to `4`.
        rank: int or None. r. Defaults to `None`: an eighth of the number of
            blocks, at least 1, as the paper's sizes have it.
        **kwargs: `num_iterations`, `symmetric`, `start_temperature`,
            `end_temperature`, `anneal_steps` and `stddev`, as in `UniMixing`.

    Input shape:
        `(..., num_tokens, dim)`

    Output shape:
        The input shape.

    Example:
    ```python
    mixing = keras_unirec.layers.UniMixingLite(block_size=8, num_bases=2)
    mixing(np.ones((2, 4, 32))).shape  # (2, 4, 32)
    ```

    Reference: [UniMixer, 2026](https://arxiv.org/abs/2604.00590), eq. 18.
    """

    def __init__(self, block_size=4, num_bases=4, rank=None, **kwargs):
        super().__init__(block_size, **kwargs)
        check_positive_integers(num_bases=num_bases)
        check_positive_integers(optional=True, rank=rank)
        self.num_bases = num_bases
        self.rank = rank

    def _build_logits(self):
        n, size = self.num_blocks, self.block_size
        rank = self.rank or max(1, n // 8)
        if rank > n:
            raise ValueError(
                "`rank` must be at most the number of blocks, "
                f"{n}. Received: rank={rank}"
            )
        # Factors whose products have the deviation of free logits.
        self.bases = self._add_logits(
            "local_bases", (self.num_bases, size, size), self.stddev
        )
        self.coefficients = self._add_logits(
            "local_coefficients", (n, self.num_bases), self.num_bases**-0.5
        )
        self.left = self._add_logits(
            "global_left", (n, rank), self.stddev * rank**-0.5
        )
        self.right = self._add_logits("global_right", (rank, n), 1.0)

    def _local_logits(self):
        logits = ops.matmul(
            self.coefficients, ops.reshape(self.bases, (self.num_bases, -1))
        )
        return ops.reshape(logits, (-1, self.block_size, self.block_size))

    def _global_logits(self):
        return ops.matmul(self.left, self.right)

    def get_config(self):
        config = super().get_config()
        config["num_bases"] = self.num_bases
        config["rank"] = self.rank
        return config
