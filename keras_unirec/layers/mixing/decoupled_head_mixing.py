import keras
from keras import ops

from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers._checks import check_tokens
from keras_unirec.layers.mixing.head_mixing import HeadMixing
from keras_unirec.layers.mixing.head_mixing import check_width
from keras_unirec.layers.mixing.head_mixing import exchange
from keras_unirec.layers.mixing.token_self_attention import TokenSelfAttention

# What can leave out the part from the items to the user.
MIXERS = ("head_mixing", "self_attention", "identity", None)


@keras.saving.register_keras_serializable(package="keras_unirec")
class DecoupledHeadMixing(keras.layers.Layer):
    """`HeadMixing` that lets nothing of the items into the heads of the user.

    `M * HeadMixing(X)`, where the first `N_U` of the `N` heads belong to the
    user and `M` is 0 in their rows from column `N_U * D / N` on: there the
    pieces of the item heads would stand. The two sides are computed apart, the
    user's once per request, and what `M` throws away is not computed: the
    user's rows are pieces of the user's heads and zeros, the rows of the items
    are pieces of all heads.

    Args:
        num_user_heads: int. N_U.
        num_item_heads: int. N_G.

    Call arguments:
        inputs: Heads of the user, `(..., num_user_heads, dim)`; or, with
            `context`, those of the items, `(..., num_item_heads, dim)`. The
            number of all heads divides `dim`.
        context: Optional heads of the user, with the leading axes of `inputs`
            or 1 in their place.

    Output shape:
        That of `inputs`.

    Example:
    ```python
    mixing = keras_unirec.layers.DecoupledHeadMixing(3, 5)
    user, items = np.ones((2, 1, 3, 32)), np.ones((2, 100, 5, 32))
    mixing(user).shape  # (2, 1, 3, 32)
    mixing(items, context=user).shape  # (2, 100, 5, 32)
    ```

    Reference: [MixFormer, 2026](https://arxiv.org/abs/2602.14110), eq. 10-11.
    """

    def __init__(self, num_user_heads, num_item_heads, **kwargs):
        super().__init__(**kwargs)
        check_positive_integers(
            num_user_heads=num_user_heads, num_item_heads=num_item_heads
        )
        self.num_user_heads = num_user_heads
        self.num_item_heads = num_item_heads
        self.supports_masking = True

    def build(self, inputs_shape, context_shape=None):
        num_heads, dim = check_tokens(inputs_shape)
        if num_heads not in (self.num_user_heads, self.num_item_heads):
            raise ValueError(
                "The input must be the heads of the user or those of the "
                f"items, {self.num_user_heads} or {self.num_item_heads}. "
                f"Received: inputs_shape={tuple(inputs_shape)}"
            )
        check_width(self.num_user_heads + self.num_item_heads, dim)

    def call(self, inputs, context=None):
        self._check_heads(inputs, context)
        dim = inputs.shape[-1]
        width = dim // (self.num_user_heads + self.num_item_heads)
        cut = self.num_user_heads * width
        if context is None:
            mixed = exchange(inputs[..., :cut], self.num_user_heads)
            none = [(0, 0)] * (len(inputs.shape) - 1)
            return ops.pad(mixed, [*none, (0, dim - cut)])
        of_user = exchange(context[..., cut:], self.num_item_heads)
        of_items = exchange(inputs[..., cut:], self.num_item_heads)
        of_user = ops.broadcast_to(
            of_user, (*ops.shape(of_items)[:-1], of_user.shape[-1])
        )
        return ops.concatenate([of_user, of_items], axis=-1)

    def _check_heads(self, inputs, context):
        expected = [self.num_user_heads]
        received = [inputs.shape]
        if context is not None:
            expected = [self.num_item_heads, self.num_user_heads]
            received.append(context.shape)
        dim = inputs.shape[-1]
        if [tuple(shape[-2:]) for shape in received] != [
            (heads, dim) for heads in expected
        ] or len({len(shape) for shape in received}) > 1:
            raise ValueError(
                "Without `context` the input is the heads of the user, "
                f"(..., {self.num_user_heads}, dim); with it, those of the "
                f"items, (..., {self.num_item_heads}, dim), and the context "
                "those of the user, with as many axes. Received: inputs and "
                f"context of the shapes {[tuple(s) for s in received]}"
            )

    def compute_mask(self, inputs, context=None, mask=None):
        return None

    def compute_output_shape(self, inputs_shape, context_shape=None):
        return tuple(inputs_shape)

    def get_config(self):
        config = super().get_config()
        config["num_user_heads"] = self.num_user_heads
        config["num_item_heads"] = self.num_item_heads
        return config


def decoupled(mixer, num_user_heads, num_item_heads):
    """The mixer for two sides, in place of one for all heads.

    Args:
        mixer: Layer or None.
        num_user_heads, num_item_heads: ints.

    Raises:
        ValueError: If the items would reach the user through it.
    """
    num_heads = (None, num_user_heads + num_item_heads)
    if type(mixer) is HeadMixing and mixer.num_heads in num_heads:
        return DecoupledHeadMixing(
            num_user_heads,
            num_item_heads,
            dtype=mixer.dtype_policy,
            name=mixer.name,
        )
    identity = (keras.layers.Activation, keras.layers.Identity, type(None))
    if isinstance(mixer, (*identity, TokenSelfAttention)):
        return mixer
    raise ValueError(
        "Decoupling the heads of the user from the items needs a mixer whose "
        "part from the items to the user can be "
        f"left out: one of {MIXERS}. The matrices of UniMixing are doubly "
        "stochastic, and none of those has a block of zeros there; FM and "
        "heterogeneous attention are defined on all tokens together. "
        f"Received: mixer={type(mixer).__name__}"
    )
