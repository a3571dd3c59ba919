import keras
from keras import ops

from keras_unirec.layers import _checks
from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers._checks import is_integer


@keras.saving.register_keras_serializable(package="keras_unirec")
class RowEmbedding(keras.layers.Layer):
    """An embedding table that is read, and updated, by rows.

    The result equals `keras.layers.Embedding`. The difference is the cost: on
    TensorFlow the rows are gathered from the variable itself, never from a
    copy of the table, so that a step costs what its rows cost. Together with
    `keras_unirec.optimizers.RowAdagrad` no cost grows with the vocabulary.

    Args:
        rows: int. Number of rows: the number of values + 2 (row 0 is
            padding, row 1 unknown or missing).
        dim: int. Width of a row.
        embeddings_initializer: Initializer of the table. Defaults to a normal
            distribution of standard deviation `0.05`.

    Input shape:
        Integer ids of any shape, in `[0, rows)`.

    Output shape:
        `inputs.shape + (dim,)`

    Example:
    ```python
    table = keras_unirec.layers.RowEmbedding(rows=12, dim=4)
    table(np.array([[2, 5], [11, 0]])).shape  # (2, 2, 4)
    ```
    """

    def __init__(self, rows, dim, embeddings_initializer=None, **kwargs):
        # Ids are integers, and Keras would cast what it is given.
        super().__init__(autocast=False, **kwargs)
        check_positive_integers(dim=dim)
        if not is_integer(rows) or rows < 3:
            raise ValueError(
                "`rows` must hold padding, unknown and at least one value: an "
                f"integer of at least 3. Received: rows={rows!r}"
            )
        self.rows = rows
        self.dim = dim
        self.embeddings_initializer = _checks.initializer(
            "embeddings_initializer",
            embeddings_initializer,
            keras.initializers.RandomNormal(0, 0.05),
        )

    def build(self, input_shape):
        self.embeddings = self.add_weight(
            shape=(self.rows, self.dim),
            initializer=self.embeddings_initializer,
            name="embeddings",
        )

    def call(self, inputs):
        if keras.backend.backend() == "tensorflow":
            from keras_unirec.layers.embedding import _tensorflow

            rows = _tensorflow.gather_rows(self.embeddings, inputs)
        else:
            rows = ops.take(self.embeddings, inputs, axis=0)
        return ops.cast(rows, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.dim)

    def get_config(self):
        config = super().get_config()
        config.pop("autocast", None)
        return {
            **config,
            "rows": self.rows,
            "dim": self.dim,
            "embeddings_initializer": keras.initializers.serialize(
                self.embeddings_initializer
            ),
        }
