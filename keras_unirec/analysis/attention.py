"""What the queries and heads of a model read from its histories."""

import inspect

import keras
import numpy as np
from keras import ops

from keras_unirec.analysis.plots import _finished
from keras_unirec.analysis.plots import _pyplot


def attention_weights(model, inputs):
    """The weights that a model gives to the events of its histories.

    Args:
        model: `RankingModel` that reads its histories with attention: the
            MixFormer and HyFormer families, and others with a
            `DecodingReader` or a `TargetAttention`.
        inputs: dict of encoded inputs, as `keras_unirec.data.from_pandas`
            yields them.

    Returns:
        dict of float32 arrays by name of the reader, in the order of the
        model. HyFormer and `DecodingReader`:
        `"query_decoding_<layer>_<history>"`, of shape
        `(requests, candidates, queries, heads, events)`; `TargetAttention`:
        `"target_attention_<history>"`, the same with one query; MixFormer:
        `"cross_attention_<layer>"`, `(requests, candidates, heads, events)`;
        UI-MixFormer: `"user_cross_attention_<layer>"`, the same for every
        candidate, and `"item_cross_attention_<layer>"`. A reader that blocks
        share is named `"<reader>_1"` and so on from its second block on.
        Padding has weight 0; with softmax the others sum to 1. Events are what
        the layer reads: after merging, or the most recent ones of LONGER.

    Raises:
        ValueError: If the model has no attention on histories.

    Example:
    ```python
    inputs, labels, weights = next(iter(batches))
    maps = keras_unirec.analysis.attention_weights(model, inputs)
    keras_unirec.analysis.plot_attention(maps)
    ```
    """
    maps = {}
    for name in ("user_model", "item_model"):
        half = getattr(model, name, None)
        calls = {} if half is None else _calls(half)
        if not calls:
            continue
        if not maps:
            inputs = model.known_inputs(inputs)
            inputs.update(model.encode_user(inputs))
        # The symbolic arguments of each call are outputs of a model.
        arguments = keras.Model(
            half.inputs, {key: given for key, (_, given) in calls.items()}
        )
        values = arguments({x.name: inputs[x.name] for x in half.inputs})
        for key, (reader, _) in calls.items():
            weights = reader.weights_of_events(**values[key])
            maps[key] = ops.convert_to_numpy(ops.cast(weights, "float32"))
    if not maps:
        raise ValueError(
            "`model` must have layers that read a history with attention. "
            f"Received: {type(model).__name__}, which has none"
        )
    candidates = max(weights.shape[1] for weights in maps.values())
    return {
        name: np.broadcast_to(
            weights, (weights.shape[0], candidates, *weights.shape[2:])
        )
        for name, weights in maps.items()
    }


def _calls(half):
    """The calls of readers in one half: reader and arguments, by name."""
    calls = {}
    nodes = sum(half._nodes_by_depth.values(), [])
    for layer in half.layers:
        if not hasattr(layer, "weights_of_events"):
            continue
        signature = inspect.signature(layer.call)
        own = [node for node in layer._inbound_nodes if node in nodes]
        for i, node in enumerate(own):
            bound = signature.bind(
                *node.arguments.args, **node.arguments.kwargs
            )
            given = {
                name: value
                for name, value in bound.arguments.items()
                if value is not None
            }
            calls[f"{layer.name}_{i}" if i else layer.name] = layer, given
    return calls


def plot_attention(maps, request=0, candidate=0, path=None):
    """Draws what each query reads, newest events at the right.

    Args:
        maps: What `attention_weights` returned, or some of its entries.
        request: int. Row of the batch. Defaults to `0`.
        candidate: int. Its candidate. Defaults to `0`.
        path: Optional path of an image to write. Its folder is made if needed.

    Returns:
        `matplotlib.figure.Figure`, one panel for each layer. A row of a panel
        is a query and head. Events that are padding are left out.

    Raises:
        ValueError: If `maps` is empty, or has no such request or candidate.
    """
    if not maps:
        raise ValueError(
            "`maps` must hold at least one layer. Received: maps={}"
        )
    requests, candidates = next(iter(maps.values())).shape[:2]
    for name, index, size in (
        ("request", request, requests),
        ("candidate", candidate, candidates),
    ):
        if not 0 <= index < size:
            raise ValueError(
                f"`{name}` must be an index of {size}. Received: {name}={index}"
            )
    plt = _pyplot()
    columns = min(len(maps), 3)
    rows = -(-len(maps) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(4.6 * columns, 2.2 * rows),
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat[len(maps) :]:
        axis.set_visible(False)
    for axis, (name, weights) in zip(axes.flat, maps.items()):
        weights = weights[request, candidate]
        labels = [str(i) for i in range(weights.shape[0])]
        if weights.ndim == 3:  # Queries and heads.
            labels = [
                f"{query}.{head}"
                for query in range(weights.shape[0])
                for head in range(weights.shape[1])
            ]
            weights = weights.reshape(-1, weights.shape[-1])
        weights = weights[:, weights.any(axis=0)]
        axis.set_title(name, fontsize=9)
        if not weights.size:
            axis.text(0.5, 0.5, "no events", ha="center", va="center")
            axis.set_axis_off()
            continue
        image = axis.imshow(
            weights, aspect="auto", interpolation="nearest", vmin=0
        )
        figure.colorbar(image, ax=axis)
        axis.set_yticks(range(len(labels)), labels, fontsize=7)
        axis.set_xlabel("event, oldest to newest")
        axis.set_ylabel("query" if "." not in labels[0] else "query.head")
    return _finished(figure, path)
