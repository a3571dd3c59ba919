import keras

from keras_unirec.layers._checks import check_bools
from keras_unirec.layers.mixing._annealed_mixing import AnnealedMixing


@keras.saving.register_keras_serializable(package="keras_unirec")
class UniMixing(AnnealedMixing):
    """Token mixing by learned matrices that anneal to permutations.

    The tokens are flattened and cut into `N` blocks `x_n` of width `B`. Block
    `n` is multiplied by a matrix of its own, then one matrix mixes the blocks:
    `y_m = sum_n G_mn x_n B_n`. Each of these matrices is
    `Sinkhorn((W + W^T) / (2 temperature))`: symmetric, its rows and columns
    sum to one (at low temperatures within some percent), and the lower the
    temperature, the nearer it is to a permutation. They do not depend on the
    input: they are computed once a step, and once and for all in an export.

    `HeadMixing` of `T` tokens is the case where `B = D / T`, every `B_n` is
    the identity and `G` is one fixed permutation.

    What the paper leaves open: the number of iterations; over how many steps
    the temperature falls; symmetry is restored after Sinkhorn too; at
    initialization the logits have a standard deviation of 0.3, with which a
    matrix starts neither uniform, at the end of the annealing, nor as good as
    fixed (`docs/unimixer.md` measures it).

    Args:
        block_size: int. B; it divides `num_tokens * dim`. The paper's sizes
            fit 4. A sample costs the least near the root of `num_tokens *
            dim`. Defaults to `4`.
        shared_local: bool. One local matrix for all blocks, the ablation "w/o
            block-specific local weights". Defaults to `False`.
        num_iterations: int. Iterations of Sinkhorn-Knopp. Defaults to `20`.
        symmetric: bool. `False` is the ablation "w/o symmetry constraint".
            Defaults to `True`.
        start_temperature: float. Defaults to `1.0`.
        end_temperature: float. Equal to `start_temperature`, it is the
            ablation "w/o temperature coefficient". Defaults to `0.05`.
        anneal_steps: int or None. Training steps over which the temperature
            falls linearly. Defaults to `None`: the first fifth of the first
            `fit` of a `RankingModel`, or of what `plan` is told; until then
            the temperature stays.
        stddev: float. Standard deviation of the logits at initialization.
            Defaults to `0.3`.

    Input shape:
        `(..., num_tokens, dim)`

    Output shape:
        The input shape.

    Example:
    ```python
    mixing = keras_unirec.layers.UniMixing(block_size=8)
    mixing(np.ones((2, 4, 32))).shape  # (2, 4, 32)
    ```

    Reference: [UniMixer, 2026](https://arxiv.org/abs/2604.00590), eq. 13-16.
    """

    def __init__(self, block_size=4, shared_local=False, **kwargs):
        super().__init__(block_size, **kwargs)
        check_bools(shared_local=shared_local)
        self.shared_local = shared_local

    def _build_logits(self):
        num_local = 1 if self.shared_local else self.num_blocks
        self.local_logits = self._add_logits(
            "local_logits",
            (num_local, self.block_size, self.block_size),
            self.stddev,
        )
        self.global_logits = self._add_logits(
            "global_logits", (self.num_blocks, self.num_blocks), self.stddev
        )

    def _local_logits(self):
        return self.local_logits

    def _global_logits(self):
        return self.global_logits

    def get_config(self):
        config = super().get_config()
        config["shared_local"] = self.shared_local
        return config
