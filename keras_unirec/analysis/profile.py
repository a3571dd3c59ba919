import contextlib
import copy
import dataclasses
import math
import random
import re

import keras
import numpy as np
from keras import tree

from keras_unirec.analysis import _matmuls
from keras_unirec.analysis.paper_schema import paper_schema
from keras_unirec.layers._checks import check_integers
from keras_unirec.layers._checks import check_positive_integers

_TABLE = re.compile(r"(^|/)embeddings$")


def profile(
    model,
    batch_size=1,
    candidates=1,
    history_length=None,
    training=False,
    inputs=None,
    **overrides,
):
    """Counts the parameters and the matmul FLOPs of a model, by part.

    FLOPs are those of the matrix products, **2 per multiply-accumulate**,
    forward, of one batch of `batch_size` requests with `candidates`
    candidates each: what depends on the request alone counts once a request,
    the mixing matrices of `UniMixing` once a batch.
    They are counted on the traced function with static shapes (TensorFlow:
    its graph; JAX: its jaxpr), so they are exact for what runs, absorbed keys
    and values included. Elementwise work is not counted (about 1 %).

    By name, the model is built on the reference schema of its paper
    (`paper_schema`) and no weight is allocated: a billion parameters take a
    few seconds and no memory.

    `Profile.paper_units()` has the numbers in the units of the papers. For
    MixFormer on its reference schema, T = 512:

    | | parameters | paper | GFLOPs of 512 samples | paper |
    |---|---|---|---|---|
    | `mixformer_small` | 282.6M | 282M | 1,211 | 733 |
    | the same, event hidden width D / 2 | 281.8M | | 785 | |
    | `mixformer_medium` | 1,228.1M | 1,226M | 5,145 | 3,503 |
    | the same, event hidden width D / 2 | 1,224.6M | | 3,290 | |

    The parameters fit. The FLOPs fit within 7 % with a feed-forward on events
    of half the width (`encoder=HistoryEncoder(D / 2)`), which the paper does
    not give and which holds 0.6 % of the parameters and 70 % of the FLOPs: see
    `docs/sizes.md`, also for HyFormer, whose tables have 1,000 events in the
    long history: `history_length={"long_term": 1_000}`. `hyformer_*` and
    `longer_rankmixer_*` are counted on its schema, `rankmixer_*` on that of
    MixFormer, `unimixer_*` and `rankmixer_4m` on that of UniMixer.

    Args:
        model: Name of a model (`keras_unirec.applications.list_models`), a
            `RankingModel`, or any built Keras model or layer.
        batch_size: int. Number of requests (first axis). Mixing matrices
            of `UniMixing` count once, however large it is: give that of the
            training. Defaults to `1`.
        candidates: int. Number of candidates of each. Defaults to `1`.
        history_length: optional int, the number of events of every history,
            or dict of int by history; one that it does not name has its
            `max_length`. Defaults to `None`: the `max_length` of each.
        training: bool. Whether to count the backward pass too. The optimizer
            has no matrix products. Defaults to `False`.
        inputs: optional structure of `keras.KerasTensor` (or anything with a
            static `shape` and a `dtype`), for a layer or subclassed model.
            Defaults to `None`: from the schema, or the model's own inputs.
        **overrides: With a name: `schema`, and parts and sizes as
            `keras_unirec.applications.load` takes them.

    Returns:
        `Profile`.

    Raises:
        ValueError: If `model` is neither, or its inputs have no static shape.

    Example:
    ```python
    profile = keras_unirec.analysis.profile("mixformer_medium")
    profile.dense_parameters
    profile.to_frame()
    ```
    """
    check_positive_integers(batch_size=batch_size, candidates=candidates)
    arguments = (batch_size, candidates, history_length, training, inputs)
    if not isinstance(model, str):
        if overrides:
            raise ValueError(
                "Overrides are for a model given by name. "
                f"Received: {sorted(overrides)}"
            )
        return _profile(model, *arguments)
    from keras_unirec import applications

    schema = overrides.pop("schema", None) or _reference_schema(model)
    with _unallocated():
        built = applications.load(model, schema, **overrides)
        return dataclasses.replace(_profile(built, *arguments), name=model)


@dataclasses.dataclass(frozen=True)
class Part:
    """The share of one layer: parameters, and FLOPs of the whole batch."""

    name: str
    dense_parameters: int
    embedding_parameters: int
    flops: int


@dataclasses.dataclass(frozen=True, repr=False)
class Profile:
    """What `profile` found.

    Attributes:
        name: str. Name of the model.
        batch_size: int. Requests that `flops` counts.
        candidates: int. Candidates of each.
        training: bool. Whether `flops` includes the backward pass.
        user_flops: int. The part of `flops` in the half that depends on the
            request alone; 0 for a model without halves.
        parts: tuple of `Part`, one a layer, in the order of the model.
        state: dict of int. Bytes of each tensor of the state of one request,
            by name; empty for a model without halves.
    """

    name: str
    batch_size: int
    candidates: int
    training: bool
    user_flops: int
    parts: tuple
    state: dict

    @property
    def state_bytes(self):
        """int. What one request keeps between `encode_user` and the scores."""
        return sum(self.state.values())

    @property
    def dense_parameters(self):
        """int. Trainable parameters outside of embedding tables."""
        return sum(part.dense_parameters for part in self.parts)

    @property
    def embedding_parameters(self):
        """int. Trainable parameters of embedding tables."""
        return sum(part.embedding_parameters for part in self.parts)

    @property
    def flops(self):
        """int. FLOPs of the batch, 2 per multiply-accumulate."""
        return sum(part.flops for part in self.parts)

    @property
    def item_flops(self):
        """int. The part of `flops` that each candidate needs for itself."""
        return self.flops - self.user_flops

    @property
    def flops_per_sample(self):
        """float. FLOPs per request and candidate."""
        return self.flops / (self.batch_size * self.candidates)

    def grouped(self):
        """Parts of the same role joined: the copies of a layer in all blocks.

        Embedding tables, the dense layers of numerical columns, and the
        normalizations between the blocks of a model are one role each.

        Returns:
            tuple of `Part`.
        """
        groups = {}
        for part in self.parts:
            groups.setdefault(_role(part.name), []).append(part)
        return tuple(
            Part(
                name if len(group) == 1 else f"{name} x {len(group)}",
                sum(part.dense_parameters for part in group),
                sum(part.embedding_parameters for part in group),
                sum(part.flops for part in group),
            )
            for name, group in groups.items()
        )

    def to_frame(self, by="role"):
        """The parts as a `pandas.DataFrame` with a total.

        Args:
            by: `"role"`, as `grouped`, or `"layer"`. Defaults to `"role"`.
        """
        import pandas as pd

        if by not in ("role", "layer"):
            raise ValueError(
                f'`by` must be "role" or "layer". Received: by={by!r}'
            )
        parts = self.grouped() if by == "role" else self.parts
        total = Part(
            "total",
            self.dense_parameters,
            self.embedding_parameters,
            self.flops,
        )
        rows = [dataclasses.asdict(part) for part in (*parts, total)]
        return pd.DataFrame(rows).rename(columns={"name": "part"})

    def paper_units(self):
        """The cost in the units of the papers, which differ.

        - `mixformer`: GFLOPs of 512 samples, forward, 2 per
          multiply-accumulate. The paper only says "per batch", and trains
          with 1,500; but its first rows are those of RankMixer, which are per
          512, and at 1,500 its rows would need fewer than one
          multiply-accumulate per parameter.
        - `mixformer_1500`: the same of 1,500 samples, for comparison.
        - `hyformer`: TFLOPs of 2,048 samples, forward and backward taken as
          three times forward, 1 per multiply-accumulate.
        - `unimixer`: TFLOPs of 2,048 samples, three times forward, 2 per
          multiply-accumulate. Its mixing matrices are computed once a batch:
          profile with `batch_size=2048`.

        No request batching, except through `candidates`: a sample is one
        candidate, and with more candidates a request its share of the user
        half is smaller.

        Returns:
            dict of floats by unit.

        Raises:
            ValueError: If this profile includes the backward pass.
        """
        if self.training:
            raise ValueError(
                "The papers' units start from the forward pass. "
                "Received: a profile with training=True"
            )
        return {
            "mixformer": self.flops_per_sample * 512 / 1e9,
            "mixformer_1500": self.flops_per_sample * 1500 / 1e9,
            "hyformer": self.flops_per_sample / 2 * 3 * 2048 / 1e12,
            "unimixer": self.flops_per_sample * 3 * 2048 / 1e12,
        }

    def __str__(self):
        passes = "forward and backward" if self.training else "forward"
        frame = self.to_frame()
        for column in ("dense_parameters", "embedding_parameters"):
            frame[column] = frame[column].map(lambda n: f"{n:,}")
        frame["flops"] = frame["flops"].map(_short)
        return (
            f"{self.name}: {self.batch_size:,} requests x "
            f"{self.candidates:,} candidates, {passes}, matrix products "
            "only, 2 FLOPs per multiply-accumulate\n"
            f"{frame.to_string(index=False)}\n"
            f"request half {_short(self.user_flops)}, candidate half "
            f"{_short(self.item_flops)}, per sample "
            f"{_short(self.flops_per_sample)} FLOPs; state of a request "
            f"{_short(self.state_bytes)}B"
        )

    __repr__ = __str__

    def _repr_html_(self):
        title, *_, last = str(self).split("\n")
        frame = self.to_frame()
        return f"<p>{title}</p>{frame.to_html(index=False)}<p>{last}</p>"


# === Counting ===


def _profile(model, batch_size, candidates, history_length, training, inputs):
    if not isinstance(model, keras.layers.Layer) or not model.built:
        raise ValueError(
            "`model` must be the name of a model, or a built Keras model or "
            f"layer. Received: model={model!r}"
        )
    schema = getattr(model, "schema", None)
    if inputs is None and schema is not None:
        inputs = _encoded_inputs(schema, batch_size, candidates, history_length)
    elif inputs is None:
        inputs = _own_inputs(model, batch_size, history_length)
    variables = model.variables
    trainable = model.trainable_variables
    products = _matmuls.walk(
        lambda tensors: (
            model(tensors, training=training)
            if isinstance(model, keras.Model)
            else model(tensors)
        ),
        variables,
        inputs,
        differentiate=trainable if training else None,
    )

    # A scope or a weight path may begin with the names of models; the first
    # other name is the layer that the model itself holds.
    models = {m.name for m in _models_within(model)} | {model.name}
    user_name = getattr(getattr(model, "user_model", None), "name", None)

    def layer_of(names):
        for name in names:
            if name not in models:
                return name
        return names[0] if names else "other"

    flops, dense, tables, user_flops = {}, {}, {}, 0
    for variable in trainable:
        counts = tables if _TABLE.search(variable.path) else dense
        owner = layer_of(variable.path.split("/")[:-1])
        size = 1
        for axis in variable.shape:
            size *= axis
        counts[owner] = counts.get(owner, 0) + size
    for scope, macs in products:
        owner = layer_of(scope)
        flops[owner] = flops.get(owner, 0) + 2 * macs
        if user_name in scope:
            user_flops += 2 * macs
    # In the order of the forward pass; what multiplies nothing comes last.
    names = dict.fromkeys([*tables, *flops, *dense])
    return Profile(
        name=model.name,
        batch_size=batch_size,
        candidates=candidates,
        training=training,
        user_flops=user_flops,
        parts=tuple(
            Part(name, *(c.get(name, 0) for c in (dense, tables, flops)))
            for name in names
        ),
        state=_state(model, inputs),
    )


def _state(model, inputs):
    """Bytes of the state tensors of one request."""
    half = getattr(model, "user_model", None)
    if half is None:
        return {}
    state = half({tensor.name: inputs[tensor.name] for tensor in half.inputs})
    return {
        name: math.prod(tensor.shape[1:]) * _item_size(tensor.dtype)
        for name, tensor in state.items()
    }


def _item_size(dtype):
    dtype = keras.backend.standardize_dtype(dtype)
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _models_within(model):
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.Model)
    ]


def _encoded_inputs(schema, batch_size, candidates, history_length):
    lengths = {s.name: s.max_length for s in schema.sequences}
    if not isinstance(history_length, dict):
        history_length = dict.fromkeys(lengths, history_length)
    for length in history_length.values():
        if length is not None:
            check_integers(0, 2**31 - 1, history_length=length)
    unknown = sorted(set(history_length) - set(lengths), key=str)
    if unknown:
        raise ValueError(
            "`history_length` names histories that the schema does not have, "
            f"which has {sorted(lengths)}. Received: {unknown}"
        )
    inputs = {}
    for encoded in schema.encoded:
        axis = candidates
        if encoded.sequence is not None:
            name = encoded.sequence
            axis = history_length.get(name)
            axis = lengths[name] if axis is None else axis
        shape = tuple(axis if s is None else s for s in encoded.shape)
        inputs[encoded.key] = keras.KerasTensor(
            (batch_size, *shape), encoded.dtype
        )
    return inputs


def _own_inputs(model, batch_size, history_length):
    if isinstance(history_length, dict):
        raise ValueError(
            "`history_length` must be one number: the histories of "
            f"`{model.name}`, which has no schema, have no names. "
            f"Received: history_length={history_length}"
        )
    try:
        own = model.input
    except AttributeError as error:
        raise ValueError(
            "`inputs` must be given for a layer or a subclassed model. "
            f"Received: model={model.name}, inputs=None"
        ) from error

    def fill(tensor):
        shape = list(tensor.shape)
        shape[0] = batch_size
        if None in shape and history_length is None:
            raise ValueError(
                f"`history_length` must be given: input `{tensor.name}` of "
                f"`{model.name}` has an axis without a size. "
                f"Received: shape={tensor.shape}"
            )
        shape = tuple(history_length if s is None else s for s in shape)
        return keras.KerasTensor(shape, tensor.dtype)

    return tree.map_structure(fill, own)


# === By name ===


# The schema that the sizes of a family are counted on: that of its paper, or
# of the paper that compares itself with it.
_REFERENCES = {
    "mixformer": "mixformer",
    "rankmixer": "mixformer",
    "longer_rankmixer": "hyformer",
    "hyformer": "hyformer",
    "unimixer": "unimixer",
    "rankmixer_4m": "unimixer",
}


def _reference_schema(model):
    families = [family for family in _REFERENCES if family in model]
    if families:
        return paper_schema(_REFERENCES[max(families, key=len)])
    raise ValueError(
        f"There is no reference schema for {model!r}, only for models of "
        f"{sorted(_REFERENCES)}. Give `schema`, or a model. "
        f"Received: model={model!r}"
    )


@contextlib.contextmanager
def _unallocated():
    """Builds models without weights, and leaves no trace of them.

    Keras keeps a global list of the variables that a `StatelessScope` has
    deferred, and the next model that is built would allocate them. It also
    counts names and draws seeds, on which the weight paths and the initial
    weights of later models depend.
    """
    from keras.src.backend.common import global_state

    names = ("uninitialized_variables", "object_name_uids")
    before = {name: global_state.get_global_attribute(name) for name in names}
    python_random = random.getstate()
    for name, value in before.items():
        global_state.set_global_attribute(name, copy.copy(value))
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        for name, value in before.items():
            global_state.set_global_attribute(name, value)
        random.setstate(python_random)


# === Printing ===


def _role(name):
    """`query_mixer_3` is a `query_mixer`, `city_embedding` an embedding."""
    # Of the layers with a number, these end in the name of a history.
    decoding = re.match(r"(query_decoding)_\d+(_.+)", name)
    if decoding:
        return "".join(decoding.groups())
    for role in ("embedding", "number", "norm"):
        if name.endswith(f"_{role}"):
            return f"{role}s"
    return re.sub(r"_\d+(_key_value)?(_\d+)?$", r"\1", name)


def _short(number):
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:,.2f}{unit}"
    return f"{number:,.0f}"
