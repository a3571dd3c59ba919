"""Plots of training. They need the extra `plot` (matplotlib)."""


def plot_history(history, path=None, reference=None):
    """Plots the training curves, one panel per metric.

    Args:
        history: `keras.callbacks.History` (what `fit` returns), or a dict
            from names to lists of values, where `val_<name>` is drawn over
            `<name>`. An entry `"step"` holds the places on the horizontal
            axis; without it the entries are epochs.
        path: Optional path of an image to write, in the format of its suffix.
            Its folder is made if needed.
        reference: Optional dict from names of metrics to values, drawn as
            dashed lines: the best possible ones, or those of a baseline.

    Returns:
        `matplotlib.figure.Figure`. At the end of a notebook cell it shows
        itself.

    Example:
    ```python
    history = model.fit(train, validation_data=val, epochs=3)
    ku.analysis.plot_history(history, "curves.png")
    ```
    """
    curves = getattr(history, "history", history)
    if not isinstance(curves, dict):
        raise ValueError(
            "`history` must be what `fit` returned, or a dict of lists. "
            f"Received: {type(curves).__name__}"
        )
    curves = dict(curves)
    steps = curves.pop("step", None)
    panels = [name for name in curves if not name.startswith("val_")]
    panels += [
        name
        for name in curves
        if name.startswith("val_") and name[len("val_") :] not in curves
    ]
    if not panels:
        raise ValueError(
            "`history` must hold at least one metric: call `fit` first. "
            f"Received: {curves}"
        )
    plt = _pyplot()
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(4.2 * len(panels), 3.2),
        squeeze=False,
        layout="constrained",
    )
    for axis, name in zip(axes[0], panels):
        _plot_curve(axis, steps, curves[name], "training")
        if f"val_{name}" in curves:
            _plot_curve(axis, steps, curves[f"val_{name}"], "validation")
        if name in (reference or {}):
            axis.axhline(
                reference[name], color="gray", ls="--", label="reference"
            )
        if len(axis.get_lines()) > 1:
            axis.legend()
        axis.set_title(name)
        axis.set_xlabel("epoch" if steps is None else "step")
        if steps is None:
            axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    return _finished(figure, path)


def _plot_curve(axis, steps, values, label):
    if steps is None:
        places = range(1, len(values) + 1)
    else:
        # Validation may be rarer than training: its last values line up.
        places = steps[len(steps) - len(values) :]
    axis.plot(places, values, marker="o", markersize=3, label=label)


def _pyplot():
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib: pip install 'keras_unirec[plot]'"
        ) from error
    return plt


def _finished(figure, path):
    """The figure, written where there is a path."""
    if path is not None:
        from pathlib import Path

        if not str(path) or Path(path).is_dir():
            raise ValueError(
                "`path` must be the path of an image to write. "
                f"Received: path={str(path)!r}"
            )
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
    _pyplot().close(figure)  # Otherwise a notebook shows it twice.
    return figure
