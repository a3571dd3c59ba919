"""The encoders of histories, by name, and how they run one after the other."""

import inspect

from keras_unirec.layers.history.history_encoder import HistoryEncoder
from keras_unirec.layers.history.longer import Longer
from keras_unirec.layers.history.transformer_encoder import TransformerEncoder

ENCODERS = {
    "longer": Longer,
    "transformer": TransformerEncoder,
    "swiglu": HistoryEncoder,
}


def encode(encoders, events, mask, max_length=None, from_events=False):
    """Runs the encoders of all layers.

    Args:
        encoders: List of layers, one for each layer of the model: `Longer`,
            layers whose call takes a `mask`, layers of one tensor, or None,
            which encodes nothing.
        events: Tensor `(R, T, E)`.
        mask: Bool tensor `(R, T)`.
        max_length: int or None. The most events that there can be.
        from_events: bool. Whether every layer reads the events (eq. 5 of
            MixFormer), instead of what the layer before it returned.

    Returns:
        List of the tensors `(R, T', E')` of the layers, and their bool mask
        `(R, T')`.
    """
    history = None
    if hasattr(encoders[0], "start"):
        events, history, mask, events_mask = encoders[0].start(
            events, mask, max_length
        )
    encoded, x, done = [], events, {}
    for encoder in encoders:
        read = events if from_events else x
        if from_events and id(encoder) in done:  # One that is shared.
            x = done[id(encoder)]
        elif encoder is None:
            x = read
        elif history is not None:
            x = encoder(read, history, mask=mask, events_mask=events_mask)
        elif "mask" in inspect.signature(encoder.call).parameters:
            x = encoder(read, mask=mask)
        else:
            x = encoder(read)
        if len(x.shape) != 3 or x.shape[1] != read.shape[1]:
            raise ValueError(
                "An encoder must return a vector for each event, as "
                f"{tuple(read.shape)}. Received: {encoder}, which returns "
                f"{tuple(x.shape)}"
            )
        done[id(encoder)] = x
        encoded.append(x)
    return encoded, mask if history is None else events_mask
