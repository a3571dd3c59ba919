import keras
from keras import ops

from keras_unirec.layers._checks import check_widths
from keras_unirec.layers.embedding.feature_embedding import layer_name


@keras.saving.register_keras_serializable(package="keras_unirec")
class Tower(keras.layers.Layer):
    """The networks that turn what a model says of a candidate into outputs.

    One chain of dense layers with SiLU for each label, then one number in
    float32. A model calls `outputs`; the layer itself is not called.

    Args:
        units: None, or list of ints: hidden widths; none of them is a linear
            tower. Defaults to `None`: one hidden layer of the width of a token.

    Example:
    ```python
    tower = keras_unirec.layers.Tower(units=(256, 64))
    model = keras_unirec.applications.RankMixer(schema, tower=tower)
    ```
    """

    def __init__(self, units=None, **kwargs):
        super().__init__(**kwargs)
        if units is not None:
            check_widths(empty=True, units=units)
        self.units = None if units is None else tuple(units)
        self._layers_by_name = {}

    def outputs(self, x, labels, dim, activation=None, prefix=""):
        """A tower for each label.

        Args:
            x: Tensor `(R, C, width)`.
            labels: Names of the labels.
            dim: int. Hidden width where `units` is None.
            activation: None or str, of the outputs.
            prefix: str. Begins the names of the layers.

        Returns:
            dict of float32 tensors `(R, C)` by label.
        """
        units = (dim,) if self.units is None else self.units
        return {
            label: self._tower(
                x, f"{prefix}{layer_name(label)}", units, activation
            )
            for label in labels
        }

    def _tower(self, x, name, units, activation):
        for i, width in enumerate(units):
            dense = keras.layers.Dense(
                width,
                activation="silu",
                dtype=self.dtype_policy,
                name=f"{name}_tower_{i}",
            )
            x = self._kept(dense)(x)
        # Logits stay float32 in mixed precision.
        logit = keras.layers.Dense(
            1, activation=activation, dtype="float32", name=f"{name}_logit"
        )
        return ops.squeeze(self._kept(logit)(x), axis=-1)

    def _kept(self, layer):
        self._layers_by_name[layer.name] = layer
        return layer

    def get_config(self):
        return {**super().get_config(), "units": self.units}
