"""What the types of Arrow arrays mean here."""

import pyarrow as pa


def is_list(arrow_type):
    return (
        pa.types.is_list(arrow_type)
        or pa.types.is_large_list(arrow_type)
        or pa.types.is_fixed_size_list(arrow_type)
        or pa.types.is_list_view(arrow_type)
        or pa.types.is_large_list_view(arrow_type)
    )


def is_string(arrow_type):
    return (
        pa.types.is_string(arrow_type)
        or pa.types.is_large_string(arrow_type)
        or pa.types.is_string_view(arrow_type)
    )


def list_depth(arrow_type):
    depth = 0
    while is_list(arrow_type):
        arrow_type, depth = arrow_type.value_type, depth + 1
    return depth


def is_null(array):
    """Whether an Arrow array holds no values at all."""
    while is_list(array.type):
        array = array.flatten()
    return array.null_count == len(array)
