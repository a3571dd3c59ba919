"""The learned mixing matrices of a model."""

from keras import ops

from keras_unirec.analysis.plots import _finished
from keras_unirec.analysis.plots import _pyplot


def mixing_matrices(model, temperature=None):
    """The local and global matrices of every `UniMixing` of a model.

    Args:
        model: `RankingModel` with `UniMixing` or `UniMixingLite` layers, in
            any of its families.
        temperature: Optional float. Defaults to `None`: the current one.

    Returns:
        dict by layer, in the order of the model, of tuples of float32 arrays:
        the local matrices `(num_blocks, block_size, block_size)` (1 in place
        of `num_blocks` where all blocks share one) and the global matrix
        `(num_blocks, num_blocks)`.

    Raises:
        ValueError: If the model has no such layer, or the temperature is not
            between 1e-4 and 1e4.

    Example:
    ```python
    matrices = keras_unirec.analysis.mixing_matrices(model)
    local, mixing = matrices["block_0/mixer"]
    ```
    """
    return {
        name: tuple(
            ops.convert_to_numpy(matrices)
            for matrices in layer.matrices(temperature)
        )
        for name, layer in _mixings(model).items()
    }


def plot_mixing(model, temperatures=None, num_local=4, path=None):
    """Draws the learned mixing matrices as heat maps.

    One row of panels for each layer and temperature: the global matrix, whose
    element (m, n) is how much block m reads of block n, then the local
    matrices of the first blocks. A row of a global panel is scaled to its
    largest element: a row of hundreds of equal elements would be black.

    Args:
        model: As in `mixing_matrices`.
        temperatures: Optional list of floats. The logits do not depend on the
            temperature: with `[1.0, 0.05]` the plot shows how it sharpens
            what was learned. Defaults to `None`: the current temperature.
        num_local: int. Local matrices to draw of each layer. Defaults to `4`.
        path: Optional path of an image to write. Its folder is made if needed.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ValueError: As `mixing_matrices`.
    """
    layers = _mixings(model)
    if not isinstance(num_local, int) or num_local < 0:
        raise ValueError(
            "`num_local` must be an integer of at least 0. "
            f"Received: num_local={num_local!r}"
        )
    if temperatures is not None and (
        not isinstance(temperatures, (list, tuple)) or not temperatures
    ):
        raise ValueError(
            "`temperatures` must be a list of numbers, or None. "
            f"Received: temperatures={temperatures!r}"
        )
    rows = []  # (title, local matrices, global matrix)
    for temperature in [None] if temperatures is None else temperatures:
        matrices = mixing_matrices(model, temperature)
        for name, (local, mixing) in matrices.items():
            shown = temperature
            if shown is None:
                shown = float(ops.convert_to_numpy(layers[name].temperature()))
            rows.append((f"{name}, temperature {shown:.3g}", local, mixing))
    columns = 1 + min(num_local, max(len(local) for _, local, _ in rows))
    plt = _pyplot()
    figure, axes = plt.subplots(
        len(rows),
        columns,
        figsize=(3.4 + 1.7 * (columns - 1), 3.2 * len(rows)),
        width_ratios=[2] + [1] * (columns - 1),
        squeeze=False,
        layout="constrained",
    )
    for row, (title, local, mixing) in zip(axes, rows):
        row[0].imshow(
            mixing / mixing.max(axis=-1, keepdims=True),
            vmin=0,
            vmax=1,
            interpolation="nearest",
        )
        row[0].set_title(title, fontsize=8)
        row[0].set_xlabel("block that is read")
        row[0].set_ylabel("block")
        for i, axis in enumerate(row[1:]):
            if i >= len(local):
                axis.set_visible(False)
                continue
            axis.imshow(local[i], vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(
                "all blocks" if len(local) == 1 else f"block {i}", fontsize=8
            )
            axis.set_xticks([])
            axis.set_yticks([])
    return _finished(figure, path)


def _mixings(model):
    layers = {layer.path: layer for layer in getattr(model, "mixings", ())}
    if not layers:
        raise ValueError(
            "`model` must be a ranking model with `UniMixing` or "
            f"`UniMixingLite` layers. Received: {type(model).__name__}"
        )
    return layers
