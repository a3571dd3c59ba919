import keras

from keras_unirec.layers._checks import check_positive_integers


@keras.saving.register_keras_serializable(package="keras_unirec")
class DCN(keras.layers.Layer):
    """DCN-V2: cross layers on the concatenated features, then dense ones.

    `x_(l+1) = x_0 * (W_l x_l + b_l) + x_l` with `x_0` the input, by
    `keras_rs.layers.FeatureCross`, and then `ReLU(x W + b)` for each of
    `units`: the stacked structure.

    Args:
        num_layers: int. Cross layers. Defaults to `2`.
        projection_dim: int or None. Rank of each `W_l`, as `U_l V_l`. Defaults
            to `None`: full.
        units: List of ints: widths of the dense layers. Defaults to `()`.

    Input shape:
        `(..., width)`

    Output shape:
        `(..., units[-1])`, or the input shape without dense layers.

    Example:
    ```python
    dcn = keras_unirec.layers.DCN(num_layers=3, units=(64,))
    dcn(np.ones((2, 3, 100))).shape  # (2, 3, 64)
    ```

    Reference: [DCN V2, 2020](https://arxiv.org/abs/2008.13535)
    """

    def __init__(self, num_layers=2, projection_dim=None, units=(), **kwargs):
        super().__init__(**kwargs)
        check_positive_integers(num_layers=num_layers)
        check_positive_integers(optional=True, projection_dim=projection_dim)
        if not isinstance(units, (list, tuple)):
            raise ValueError(
                f"`units` must be a list of widths. Received: units={units!r}"
            )
        for each in units:
            check_positive_integers(units=each)
        self.num_layers = num_layers
        self.projection_dim = projection_dim
        self.units = tuple(units)
        self.supports_masking = True

    def build(self, input_shape):
        from keras_rs.layers import FeatureCross

        shape = tuple(input_shape)
        self.crosses, self.denses = [], []
        for i in range(self.num_layers):
            cross = FeatureCross(
                self.projection_dim, dtype=self.dtype_policy, name=f"cross_{i}"
            )
            cross.build(shape)
            self._build_dense(cross, shape)
            self.crosses.append(cross)
        for i, width in enumerate(self.units):
            dense = keras.layers.Dense(
                width,
                activation="relu",
                dtype=self.dtype_policy,
                name=f"dense_{i}",
            )
            dense.build(shape)
            self.denses.append(dense)
            shape = (*shape[:-1], width)

    def _build_dense(self, cross, shape):
        """Builds what a `FeatureCross` builds in its first call, by name."""
        denses = {"dense": cross.dense}
        if self.projection_dim is not None:
            denses = {"projection": cross.down_proj_dense, **denses}
        for name, dense in denses.items():
            dense.name = f"{cross.name}_{name}"
            dense.build(shape)
            shape = dense.compute_output_shape(shape)

    def call(self, inputs):
        x = inputs
        for cross in self.crosses:
            x = cross(inputs, x)
        for dense in self.denses:
            x = dense(x)
        return x

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        width = self.units[-1] if self.units else input_shape[-1]
        return (*input_shape[:-1], width)

    def get_config(self):
        config = super().get_config()
        config["num_layers"] = self.num_layers
        config["projection_dim"] = self.projection_dim
        config["units"] = self.units
        return config
