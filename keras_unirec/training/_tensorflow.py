"""What only TensorFlow can do: the train step under a strategy.

Applications import nothing but `keras`. The few lines that need TensorFlow
itself are here, and are imported inside the functions that use them when
TensorFlow is the backend.
"""

import keras
import tensorflow as tf


def has_gpu():
    """Whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def num_replicas():
    """Number of replicas of the current `tf.distribute` strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def sum_over_replicas(value):
    """Sums a tensor over the replicas; a plain tensor outside of them."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)


def train_step(model, data):
    """One step of `RankingModel.fit`, with XLA inside the replica.

    Keras compiles the whole `strategy.run` with XLA, which fails with more
    than one replica because a compiled function may not touch variables of
    two devices. Here only forward and backward, which stay on one device,
    are compiled; the gradients cross devices in the optimizer, outside.

    Args:
        model: `RankingModel`, compiled.
        data: `(x, y)` or `(x, y, sample_weight)` of this replica.

    Returns:
        dict of metric results.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    labels, weights = model.targets(y, sample_weight)
    normalized = model.normalize_weights(weights)
    variables = model.trainable_variables

    def forward_backward(x, labels, normalized):
        with tf.GradientTape() as tape:
            predictions = model(x, training=True)
            loss = model.total_loss(labels, predictions, normalized)
            scaled = model.optimizer.scale_loss(loss)
        return loss, predictions, tape.gradient(scaled, variables)

    if model.jit_replica:
        forward_backward = tf.function(forward_backward, jit_compile=True)
    loss, predictions, gradients = forward_backward(
        model.known_inputs(x), labels, normalized
    )
    model.optimizer.apply_gradients(zip(gradients, variables))
    model.track_loss(loss, weights)
    return model.update_metrics(labels, predictions, weights)


def test_step(model, data):
    """One step of `RankingModel.evaluate`; arguments as in `train_step`."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    labels, weights = model.targets(y, sample_weight)
    predictions = model(x, training=False)
    loss = model.total_loss(
        labels, predictions, model.normalize_weights(weights)
    )
    model.track_loss(loss, weights)
    return model.update_metrics(labels, predictions, weights)
