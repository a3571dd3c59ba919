"""What the weights of a ranking model mean."""

from keras_unirec import layers
from keras_unirec.applications.roles import ROLES
from keras_unirec.layers import _parts
from keras_unirec.training.saving import plain


def meaning(model):
    """What gives the weights of a model their meaning, as plain values.

    Args:
        model: `RankingModel`.

    Returns:
        Nested dict: the family, the columns of the schema, the resolved
        parts, and the arguments that are no parts.
    """
    plain_arguments = {
        name: plain(value)
        for name, value in model._arguments.items()
        if name not in (*ROLES, "default_recipe", "output_activation")
        # None is what the parts say.
        and value is not None
    }
    return {
        "family": type(model).__name__,
        "column": _columns_of(model.schema),
        "argument": plain_arguments,
        "part": {
            argument: {
                "shared": isinstance(part, layers.Shared),
                **_parts.meaning(copies[0]),
            }
            for argument, (part, copies) in model._made.items()
            if copies[0] is not None
        },
    }


def _columns_of(schema):
    """The columns of a schema by what a message calls them."""
    config = plain(schema.get_config())
    config.pop("type", None)
    columns = {}
    for group, value in config.items():
        if isinstance(value, list):
            columns[f"order of {group}"] = [each["name"] for each in value]
            columns.update({each["name"]: each for each in value})
        else:
            columns[group] = value
    return columns
