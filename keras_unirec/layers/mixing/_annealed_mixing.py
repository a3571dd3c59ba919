"""What the two forms of UniMixing share: constraints, annealing, products."""

import keras
from keras import ops

from keras_unirec.layers._checks import check_bools
from keras_unirec.layers._checks import check_numbers
from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers._checks import check_tokens
from keras_unirec.layers._checks import nearest_divisors
from keras_unirec.layers.mixing._sinkhorn import sinkhorn

# What follows learns with matrices that stay (`docs/unimixer.md`).
ANNEALED_SHARE = 0.2


class AnnealedMixing(keras.layers.Layer):
    """Mixes blocks of the flattened tokens by two kinds of matrices.

    A subclass adds the logits in `_build_logits`, and returns them from
    `_local_logits()`, of shape `(N or 1, B, B)`, and `_global_logits()`, of
    shape `(N, N)`. `UniMixing` has the arguments.
    """

    # Another temperature goes on with the same weights (the two stages).
    no_meaning = (
        "start_temperature",
        "end_temperature",
        "anneal_steps",
        "num_iterations",
        "stddev",
    )

    # How many blocks of a model share the layer: its training calls a step.
    calls_per_step = 1

    def __init__(
        self,
        block_size=4,
        num_iterations=20,
        symmetric=True,
        start_temperature=1.0,
        end_temperature=0.05,
        anneal_steps=None,
        stddev=0.3,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_positive_integers(
            block_size=block_size, num_iterations=num_iterations
        )
        check_positive_integers(optional=True, anneal_steps=anneal_steps)
        check_bools(symmetric=symmetric)
        check_numbers(0.0, 100.0, stddev=stddev)
        check_numbers(
            1e-4,
            1e4,
            start_temperature=start_temperature,
            end_temperature=end_temperature,
        )
        if end_temperature > start_temperature:
            raise ValueError(
                "`end_temperature` must be at most `start_temperature`: the "
                "temperature must not rise. Received: "
                f"start_temperature={start_temperature}, "
                f"end_temperature={end_temperature}"
            )
        self.block_size = block_size
        self.num_iterations = num_iterations
        self.symmetric = symmetric
        self.start_temperature = start_temperature
        self.end_temperature = end_temperature
        self.anneal_steps = anneal_steps
        self.stddev = stddev
        self.supports_masking = True
        self._folded = None

    def build(self, input_shape):
        num_tokens, dim = check_tokens(input_shape)
        # Other tokens could be cut into the same blocks, across samples.
        self.input_spec = keras.layers.InputSpec(axes={-2: num_tokens, -1: dim})
        width = num_tokens * dim
        if width % self.block_size:
            near = nearest_divisors(width, self.block_size)
            raise ValueError(
                "`block_size` must divide the width of all tokens together, "
                f"{num_tokens} * {dim} = {width}. Nearest legal sizes: {near}. "
                f"Received: block_size={self.block_size}"
            )
        self.num_blocks = width // self.block_size
        # Where the annealing is; saved with the weights.
        self.step = self._counter("step")
        self.planned_steps = self._counter("planned_steps")
        self._build_logits()

    def _counter(self, name):
        # Every replica counts its own steps, and all count the same: also
        # inside a compiled replica, which may not touch another one.
        return keras.Variable(
            "zeros",
            shape=(),
            dtype="float32",
            trainable=False,
            autocast=False,  # bfloat16 cannot count beyond 256.
            aggregation="only_first_replica",
            synchronization="on_read",
            name=name,
        )

    def _add_logits(self, name, shape, stddev):
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=keras.initializers.RandomNormal(0.0, stddev),
            autocast=False,  # Sinkhorn needs float32.
        )

    def plan(self, run_steps):
        """Anneals over the first fifth of a run, unless it already does.

        `RankingModel.fit` calls it with the steps of the run. The first plan
        that is followed by a training step counts: a second `fit` goes on
        where the first one ended. The argument `anneal_steps` is a plan, too.

        Args:
            run_steps: int.
        """
        check_positive_integers(run_steps=run_steps)
        if not self.planned or not _number(self.step):
            steps = max(1, round(ANNEALED_SHARE * run_steps))
            self.planned_steps.assign(float(steps))
            self.step.assign(0.0)

    @property
    def planned(self):
        """bool. Whether it is known over how many steps to anneal."""
        return self.anneal_steps is not None or _number(self.planned_steps) > 0

    @property
    def falls(self):
        """bool. Whether there is anything to anneal."""
        return self.end_temperature < self.start_temperature

    def temperature(self):
        """The temperature of the current step: a float32 scalar."""
        if self.anneal_steps is not None:
            share = ops.minimum(self.step / self.anneal_steps, 1.0)
        else:
            # Without a plan it stays where it is.
            share = ops.minimum(
                self.step / ops.maximum(self.planned_steps, 1.0),
                ops.sign(self.planned_steps),
            )
        fall = self.start_temperature - self.end_temperature
        return self.start_temperature - fall * share

    def matrices(self, temperature=None):
        """The mixing matrices, float32.

        Args:
            temperature: Optional scalar. Defaults to `None`: the current one.

        Returns:
            Tuple of the local matrices, of shape
            `(num_blocks, block_size, block_size)` (with 1 in place of
            `num_blocks` where all blocks share one), and the global matrix,
            `(num_blocks, num_blocks)`.
        """
        if temperature is None:
            if self._folded is not None:
                return self._folded
            temperature = self.temperature()
        else:
            check_numbers(1e-4, 1e4, temperature=temperature)
        return tuple(
            sinkhorn(logits, temperature, self.num_iterations, self.symmetric)
            for logits in (self._local_logits(), self._global_logits())
        )

    def fold(self):
        """Fixes the matrices as constants of what is traced from here on."""
        self._folded = tuple(ops.stop_gradient(m) for m in self.matrices())

    def unfold(self):
        """Undoes `fold`."""
        self._folded = None

    def call(self, inputs, training=None):
        local, mixing = self.matrices()
        if training:
            self.step.assign(self.step + 1.0 / self.calls_per_step)
        local, mixing = (
            ops.cast(matrix, self.compute_dtype) for matrix in (local, mixing)
        )
        inputs = ops.cast(inputs, self.compute_dtype)
        # (blocks, samples, block_size): each step is plain matrix products.
        x = ops.reshape(inputs, (-1, self.num_blocks, self.block_size))
        x = ops.matmul(ops.transpose(x, (1, 0, 2)), local)
        x = ops.matmul(mixing, ops.reshape(x, (self.num_blocks, -1)))
        x = ops.reshape(x, (self.num_blocks, -1, self.block_size))
        return ops.reshape(ops.transpose(x, (1, 0, 2)), ops.shape(inputs))

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        config = super().get_config()
        config["block_size"] = self.block_size
        config["num_iterations"] = self.num_iterations
        config["symmetric"] = self.symmetric
        config["start_temperature"] = self.start_temperature
        config["end_temperature"] = self.end_temperature
        config["anneal_steps"] = self.anneal_steps
        config["stddev"] = self.stddev
        return config


def _number(variable):
    return float(ops.convert_to_numpy(variable))
