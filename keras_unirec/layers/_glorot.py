import math

import keras


def glorot(fan_in, fan_out):
    """Glorot uniform of one `(fan_in, fan_out)` slice of a stacked kernel.

    Keras counts the leading axis of a 3-D kernel as a receptive field, which
    makes the kernel of every head `sqrt(num_heads)` too small.
    """
    limit = math.sqrt(6.0 / (fan_in + fan_out))
    return keras.initializers.RandomUniform(-limit, limit)
