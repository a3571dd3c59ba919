import keras


def state_lengths(state):
    """Which state tensors have the events of one history, and on which axis.

    A mask of another length would be wrong, one of length 1 in silence.

    Args:
        state: dict of tensors whose static shapes have None for the events.

    Returns:
        List of dicts from the name of a tensor to its axis, one for each mask.
    """
    axes = {
        name: tensor.shape.index(None, 1)
        for name, tensor in state.items()
        if None in tensor.shape[1:]
    }
    masks = [
        name
        for name in axes
        if keras.backend.standardize_dtype(state[name].dtype) == "bool"
    ]
    if len(masks) == 1:
        return [axes]
    return [
        {
            name: axis
            for name, axis in axes.items()
            if name.endswith(mask.removeprefix("state_mask"))
        }
        for mask in masks
    ]
