from keras_unirec.schema.names import ascii_name


def signature_names(columns):
    """The input names of a SavedModel for columns of any name.

    A signature allows ASCII letters, digits and `_`. Every other character
    becomes `_`, a suffix tells names with letters of other scripts apart, and
    `arg_` stands before a name that does not begin with a letter, and before
    `self`.

    Args:
        columns: Iterable of column names.

    Returns:
        dict of input name by column name.

    Raises:
        ValueError: If two columns would get the same name.

    Example:
    ```python
    signature_names(["user id", "tab"])  # {"user id": "user_id", "tab": "tab"}
    ```
    """
    names, taken = {}, {}
    for column in columns:
        name = ascii_name(column)
        if not name[0].isalpha() or name == "self":
            name = f"arg_{name}"
        if name in taken:
            raise ValueError(
                f"Columns `{taken[name]}` and `{column}` would both be the "
                f"input `{name}` of the exported model. Rename one of them."
            )
        names[column] = name
        taken[name] = column
    return names
