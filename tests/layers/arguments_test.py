"""Every constructor argument of every public layer, given what it is not."""

import inspect
import json

import keras
import pytest

from keras_unirec import layers
from keras_unirec.layers import _parts


class Thing:
    def __repr__(self):
        return "Thing()"


NAN, INFINITY = float("nan"), float("inf")
# What is bad for most arguments; `Kind.legal` are those that are not.
VALUES = (
    *("x", "", -1, 0, 2.5, NAN, INFINITY, True, None),
    *([], (), {}, set(), Thing(), layers.HeadMixing),
)


class Kind:
    """Bad values of one kind of argument."""

    def __init__(self, *legal, more=()):
        self.legal, self.more = legal, tuple(more)

    @property
    def bad(self):
        plain = [
            value
            for value in VALUES
            # `True == 1`, and `() in ([],)` is not meant either.
            if not any(
                type(value) is type(x) and value == x for x in self.legal
            )
        ]
        return [*plain, *self.more]


INT = Kind(more=[1.0, "4", [4]])
OPTIONAL_INT = Kind(None, more=INT.more)
RATIO = Kind(2.5, None, more=["2", -0.5])
BOOL = Kind(True, more=[1, "True"])
NUMBER = Kind(2.5, more=["1", 1e5])
CHOICE = Kind()
# Parts: a class is no layer, and nothing is shared inside of one layer.
SHARED = layers.Shared("uni_mixing")
PART = Kind(more=[SHARED, ["head_mixing"]])
OPTIONAL_PART = Kind(None, more=PART.more)
SCHEME = Kind(more=[SHARED, keras.layers.Dense(8), layers.HeadMixing()])
OPTIONAL_SCHEME = Kind(None, more=SCHEME.more)
BY_HISTORY = [{"watched": "x"}, {"watched": 2}, {"watched": layers.HeadMixing}]
INITIALIZER = Kind(None, more=[["zeros"], {"class_name": "x", "config": {}}])
WIDTHS = [[0], [2.5], [True], ["x"], [[1]], {8: 8}, "88"]

ENCODER = {
    "hidden_dim": OPTIONAL_INT,
    "ratio": RATIO,
    "residual": OPTIONAL_SCHEME,
}
TRANSFORMER = {**ENCODER, "num_heads": INT, "causal": BOOL}
ANNEALED = {
    "block_size": INT,
    "num_iterations": INT,
    "symmetric": BOOL,
    "start_temperature": NUMBER,
    "end_temperature": Kind(more=["1", 1e5]),
    "anneal_steps": OPTIONAL_INT,
    "stddev": Kind(0, 2.5, more=["1", 1e5]),
}
COMPOSITE = {"feed_forward": PART, "residual": SCHEME}

ARGUMENTS = {
    layers.BesideCandidates: {},
    layers.ConcatenatedReadout: {},
    layers.DCN: {
        "num_layers": INT,
        "projection_dim": OPTIONAL_INT,
        "units": Kind([], (), more=WIDTHS),
    },
    layers.DIN: {
        "activation": Kind(None, {}, more=[*BY_HISTORY, layers.HeadMixing()])
    },
    layers.DecodingReader: {
        "num_layers": INT,
        "dim": OPTIONAL_INT,
        "events": Kind(None, more=[layers.HeadMixing(), "events"]),
        "encoder": Kind(None, {}, more=BY_HISTORY),
        "queries": Kind(None, more=[layers.HeadMixing(), "query_generation"]),
        "reader": Kind(
            None, {}, more=[*BY_HISTORY, layers.HeadCrossAttention()]
        ),
        "residual": OPTIONAL_SCHEME,
    },
    layers.DecoupledHeadMixing: {"num_user_heads": INT, "num_item_heads": INT},
    layers.EmbeddingPooling: {"pooling": CHOICE},
    layers.Events: {
        "dim": Kind(None, {}, more=[{"watched": 0}, {"watched": "x"}, [8]]),
        "join": Kind(None),
        "max_length": OPTIONAL_INT,
        "position": OPTIONAL_PART,
        "use_bias": BOOL,
    },
    layers.FMMixing: {},
    layers.FeatureTokenizer: {
        "dim": OPTIONAL_INT,
        "num_tokens": OPTIONAL_INT,
        "groups": Kind(
            None, more=[[[]], [["a"], []], [[1]], ["ab"], [{"a"}], {"a": ["b"]}]
        ),
        "group_dims": Kind(None, more=WIDTHS),
    },
    layers.HeadCrossAttention: {
        "history_map": Kind(None, more=[layers.HeadMixing()]),
        "attention": CHOICE,
        "kv_mode": CHOICE,
    },
    layers.HeadKeyValue: {"reader": Kind(more=[layers.HeadMixing()])},
    layers.HeadMixing: {"num_heads": OPTIONAL_INT},
    layers.HeterogeneousAttention: {"num_heads": OPTIONAL_INT},
    layers.HistoryEncoder: ENCODER,
    layers.HistoryMap: {"num_heads": INT, "dim": INT},
    layers.HistoryMean: {},
    layers.HistoryMerge: {"max_length": OPTIONAL_INT},
    layers.LengthMask: {},
    layers.LocalActivation: {
        "units": Kind(more=WIDTHS),
        "chunk_size": OPTIONAL_INT,
    },
    layers.Longer: {
        **TRANSFORMER,
        "recent_length": OPTIONAL_INT,
        "token_merge": INT,
        # True is legal, beside another `token_merge`.
        "inner_transformer": Kind(more=BOOL.more),
    },
    layers.MeanReader: {
        "dim": Kind({}, more=[{"watched": 0}, {"watched": None}, [8]])
    },
    layers.MeanReadout: {},
    layers.NewestFirstPosition: {
        "max_length": OPTIONAL_INT,
        "initializer": INITIALIZER,
    },
    layers.NoNorm: {"residual": BOOL},
    layers.OutputFusion: COMPOSITE,
    layers.PerTokenFFN: {
        "hidden_dim": OPTIONAL_INT,
        "ratio": RATIO,
        "shared": BOOL,
    },
    layers.PostNorm: {"norm": CHOICE},
    layers.PreNorm: {"norm": CHOICE, "final_norm": BOOL},
    layers.QueryBoosting: {**COMPOSITE, "mixer": OPTIONAL_PART},
    layers.OneTransBlock: {
        "num_heads": INT,
        "feed_forward": PART,
        "causal": BOOL,
        "num_tokens": OPTIONAL_INT,
        "num_queries": Kind(None, 0, more=INT.more),
    },
    layers.ProjectedTokenizer: {
        "dim": OPTIONAL_INT,
        "num_tokens": OPTIONAL_INT,
    },
    layers.QueryDecoding: {
        "num_heads": INT,
        "head_dim": OPTIONAL_INT,
        "num_queries": INT,
        "attention": CHOICE,
        "kv_mode": CHOICE,
        "residual": OPTIONAL_SCHEME,
    },
    layers.QueryGeneration: {
        "num_queries": OPTIONAL_INT,
        "dim": OPTIONAL_INT,
        "hidden_dim": INT,
        "compression_dim": OPTIONAL_INT,
        "context": CHOICE,
        "tokens": Kind(
            None, more=[[0, 0], [-1], [True], [2.5], ["x"], [[0]], {0: 1}, "01"]
        ),
    },
    layers.QueryMixer: {
        "mixer": OPTIONAL_PART,
        "feed_forward": OPTIONAL_PART,
        "residual": SCHEME,
    },
    layers.RowEmbedding: {
        "rows": Kind(more=[2, 3.0]),
        "dim": INT,
        "embeddings_initializer": INITIALIZER,
    },
    layers.SiameseNorm: {"normalize_input": BOOL, "scale_by_depth": BOOL},
    layers.SwiGLU: {
        "hidden_dim": OPTIONAL_INT,
        "ratio": RATIO,
        "per_token": BOOL,
        "input_scale": BOOL,
    },
    layers.TargetAttention: {
        "reader": Kind(None, {}, more=[*BY_HISTORY, layers.HeadMixing()])
    },
    layers.TimeGapBucket: {
        "boundaries": Kind(
            more=[[2, 1], [1, 1], [-1], [2.5], [True], ["x"], [[1]], [2**31]]
        )
    },
    layers.TokenMerge: {
        "size": INT,
        "inner_transformer": BOOL,
        "num_heads": INT,
    },
    layers.TokenSelfAttention: {"num_heads": OPTIONAL_INT},
    layers.Tower: {"units": Kind(None, [], (), more=WIDTHS)},
    layers.TransformerEncoder: TRANSFORMER,
    layers.UniMixerBlock: {"mixer": OPTIONAL_PART, "feed_forward": PART},
    layers.UniMixing: {**ANNEALED, "shared_local": BOOL},
    layers.UniMixingLite: {
        **ANNEALED,
        "num_bases": INT,
        "rank": OPTIONAL_INT,
    },
    # No layers, and made by users as well.
    layers.FeatureEmbedding: {"schema": Kind()},
    layers.Shared: {"part": Kind("x", "", more=[SHARED])},
}
# Legal values of the arguments that have no default.
REQUIRED = {
    layers.DecoupledHeadMixing: {"num_user_heads": 2, "num_item_heads": 2},
    layers.HistoryMap: {"num_heads": 2, "dim": 8},
    layers.RowEmbedding: {"rows": 5, "dim": 8},
    layers.TokenMerge: {"size": 2},
}


# What is only written on, never given to a model.
BASES = {layers.HistoryReader, layers.ResidualScheme}


def test_the_table_has_every_argument():
    public = {
        value
        for value in vars(layers).values()
        if inspect.isclass(value) and issubclass(value, keras.layers.Layer)
    }
    assert public - BASES <= set(ARGUMENTS)
    for cls in public - BASES:
        assert set(_parts.arguments(cls)) == set(ARGUMENTS[cls]), cls


@pytest.mark.parametrize("cls", ARGUMENTS, ids=lambda cls: cls.__name__)
def test_bad_arguments_are_value_errors_that_name_them(cls):
    wrong = []
    for argument, kind in ARGUMENTS[cls].items():
        for value in kind.bad:
            call = f"{argument}={value!r}"
            try:
                cls(**{**REQUIRED.get(cls, {}), argument: value})
                wrong.append(f"{call}: taken")
            except ValueError as error:
                if f"`{argument}`" not in str(error) or (
                    "Received: " not in str(error)
                ):
                    wrong.append(f"{call}: {error}")
            except Exception as error:
                wrong.append(f"{call}: {type(error).__name__}: {error}")
    assert wrong == []


@pytest.mark.parametrize(
    "cls",
    [cls for cls in ARGUMENTS if issubclass(cls, keras.layers.Layer)],
    ids=lambda cls: cls.__name__,
)
def test_configs_keep_every_argument_and_the_dtype_policy(cls):
    """Keras writes a config by itself only where `dtype` is a string."""
    required = dict(REQUIRED.get(cls, {}))
    if cls is layers.HeadKeyValue:
        required["reader"] = layers.QueryDecoding()
    if cls is layers.TimeGapBucket:
        required["boundaries"] = [1, 60]
    for dtype in ("float32", "mixed_bfloat16"):
        policy = keras.DTypePolicy(dtype)
        layer = cls(**required, name="mine", dtype=policy)
        assert set(ARGUMENTS[cls]) <= set(layer.get_config())
        serialized = keras.saving.serialize_keras_object(layer)
        copy = keras.saving.deserialize_keras_object(
            json.loads(json.dumps(serialized))
        )
        assert isinstance(copy, cls)
        assert copy.name == "mine"
        assert copy.dtype_policy == policy
        again = keras.saving.serialize_keras_object(copy)
        assert json.dumps(again) == json.dumps(serialized)


@pytest.mark.parametrize("cls", ARGUMENTS, ids=lambda cls: cls.__name__)
def test_legal_arguments_are_taken(cls):
    """Of the values that are bad elsewhere."""
    for argument, kind in ARGUMENTS[cls].items():
        for value in kind.legal:
            cls(**{**REQUIRED.get(cls, {}), argument: value})
