"""Sizes of a family: what was given, or a legal choice."""

from keras_unirec import layers
from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers.mixing.head_mixing import check_width


def token_width(dim, mixer, **num_tokens):
    """`dim`, checked, or a legal width where it is None.

    Args:
        dim: int or None.
        mixer: The mixer's prototype, or None.
        **num_tokens: The number of tokens under the name of its argument.
    """
    check_positive_integers(**num_tokens)
    ((argument, number),) = num_tokens.items()
    if dim is None:
        return 8 * number
    check_positive_integers(dim=dim)
    if isinstance(mixer, layers.HeadMixing) and mixer.num_heads is None:
        check_width(number, dim, argument)
    return dim
