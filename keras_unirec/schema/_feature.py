"""What the kinds of features have in common for those who read any of them."""


class Feature:
    """A column that the model reads. Each kind has what it overrides."""

    max_length = None
    share_with = None
    table = None

    @property
    def depth(self):
        """0 for one value, 1 for a list of values."""
        return 0 if self.max_length is None else 1

    @property
    def unlearned(self):
        """What `adapt` still has to learn, in words, or `None`."""
        return None


class Table:
    """What a `Categorical` carries: an `ItemTable`, which has features itself.

    A class of its own, as each of the two would otherwise import the other.
    """
