"""What only TensorFlow can do: the row gather.

`RowEmbedding` imports it inside its call, when TensorFlow is the backend.
"""

import keras
import tensorflow as tf


def gather_rows(variable, ids):
    """Reads rows of a Keras variable without reading the whole table.

    `keras.ops.take` first turns the variable into a tensor: a read (and, in
    mixed precision, a cast) of the full table. A gather on the resource
    itself costs only its rows, and its gradient is a `tf.IndexedSlices`.

    Args:
        variable: `keras.Variable` of shape `(rows, dim)`.
        ids: Integer tensor of any shape.

    Returns:
        Tensor of shape `ids.shape + (dim,)` in the dtype of the variable.
    """
    if keras.src.backend.common.stateless_scope.in_stateless_scope():
        return tf.gather(tf.convert_to_tensor(variable.value), ids)
    table = variable._value
    if isinstance(table, tf.distribute.DistributedValues):
        if tf.distribute.in_cross_replica_context():
            return tf.gather(tf.convert_to_tensor(table), ids)
        table = table._get()  # This replica's own copy.
    return tf.gather(table, ids)
