"""Exported models, in the process that made them."""


def load_export(export_dir):
    """Loads a SavedModel; whoever holds it keeps its weights alive.

    Raises:
        ValueError: If there is none in the folder.
    """
    import tensorflow as tf

    if not tf.saved_model.contains_saved_model(str(export_dir)):
        raise ValueError(
            "`export_dir` must be the folder of a SavedModel, as "
            f"`model.export` writes it. Received: export_dir={export_dir!r}"
        )
    return tf.saved_model.load(str(export_dir))
