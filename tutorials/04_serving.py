# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Serving: one user, many candidates
#
# A request is one user and the candidates to rank. All candidates share the
# user's columns and histories, so a model should read those once a request, in
# training and behind the server.
# [UI-MixFormer](https://arxiv.org/abs/2602.14110) goes further than the
# encoded history: some of its heads belong to the user alone, and their whole
# way through the model is computed once.
#
# This notebook trains one on requests, exports it, calls it over gRPC as a
# service would, keeps the state of a user, swaps the version, and measures
# latency by the number of candidates. It needs the messages of TF Serving:
# `pip install -e '.[plot,serving]'`.

# %%
import json
import os
import shutil
import sys
import textwrap

import grpc
import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.ticker import LogLocator
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

import keras_unirec as ku

keras.utils.set_random_seed(0)
tf.get_logger().setLevel("ERROR")  # No notes on saving and loading.
SMOKE = os.environ.get("KERAS_UNIREC_SMOKE") == "1"  # A run of seconds.

# %% [markdown]
# ## Requests
#
# The rows of the log that share a `request_id` are the ten candidates that one
# request showed. Its schema names that column
# ([quickstart](01_quickstart.ipynb) writes a schema out).

# %%
log = ku.data.synthetic_click_log(
    num_rows=4_000 if SMOKE else 120_000,
    num_items=300,
    num_tags=12,
    candidates_per_request=10,
)
train, test, schema = log.train, log.test, log.schema
train[["request_id", "user_id", "time_ms", "device", "item_id", "click"]].head(
    12
)

# %% [markdown]
# With `requests=True` a batch holds R = 32 requests of C candidates, and
# `batch_size` counts requests. Columns of the user and of the context have the
# shape `(R,)`, histories `(R, T)`, columns of the candidate, labels and weights
# `(R, C)`. Requests of a real log differ in size: batches are then as wide as
# their largest, and padding has weight 0
# ([batches of requests](../docs/data.md#batches-of-requests)).

# %%
batches = ku.data.from_pandas(
    train, schema, batch_size=32, shuffle=True, requests=True
)
held_out = ku.data.from_pandas(test, schema, batch_size=128, requests=True)
inputs, labels, weights = next(iter(batches))
some = ["device", "watched_item_id", "watched.length", "item_id", "item_id.tag"]
pd.Series(
    {
        **{name: tuple(inputs[name].shape) for name in some},
        "label: click": tuple(labels["click"].shape),
        "weights": tuple(weights.shape),
    },
    name="shape",
).to_frame()

# %% [markdown]
# ## What is computed once
#
# `profile` counts the matrix products of both halves of the model. The half of
# the request is the same for any number of candidates. With one row per
# candidate it would be computed again for each.

# %%
model = ku.applications.load(
    "ui_mixformer_tiny", schema, num_layers=1 if SMOKE else 2
)


def cost(candidates, **kwargs):
    profile = ku.analysis.profile(model, candidates=candidates, **kwargs)
    alone = ku.analysis.profile(model, **kwargs)
    return {
        "request half": profile.user_flops / 1e6,
        "candidate half": profile.item_flops / 1e6,
        "together": profile.flops / 1e6,
        "as single rows": candidates * alone.flops / 1e6,
    }


costs = pd.DataFrame({c: cost(c) for c in (1, 10, 100, 1000)}).T
costs["single rows / together"] = costs["as single rows"] / costs["together"]
costs.rename_axis("candidates").round(1).rename_axis("MFLOPs", axis=1)

# %% [markdown]
# Which heads are the user's? Half of the eight, in this size;
# `num_item_heads` says how many are made of item columns. The state that
# `encode_user` hands to `score_items` holds the others: `state_user_heads_0`
# are those made of user and context columns, `_1` and `_2` the same after each
# layer. The heads of the items read them, and never the other way round, so
# that the user's can be computed first.

# %%
state = model.encode_user(inputs)
print(f"{model.num_user_heads} of {model.num_heads} heads are the user's")
profile = ku.analysis.profile(model)
print(f"state of one request: at most {profile.state_bytes:,} bytes")
pd.Series(
    {name: tuple(tensor.shape) for name, tensor in state.items()},
    name="shape",
).to_frame()

# %% [markdown]
# ## Fit
#
# Batches of requests change the cost of a step, not what it learns: loss and
# gradients are those of the same rows one by one. Here is the loss of one batch
# both ways.

# %%
model.compile()
rows = train[:320]
for requests in (True, False):
    data = ku.data.from_pandas(
        rows, schema, batch_size=len(rows), requests=requests
    )
    inputs, labels, weights = next(iter(data))
    result = model.evaluate(data, verbose=0, return_dict=True)
    print(f"labels of shape {labels['click'].shape}: loss {result['loss']:.6f}")

# %%
model.fit(batches, validation_data=held_out, verbose=2)
report = ku.evaluate(model, held_out)
report

# %% [markdown]
# `auc` ranks all rows, `query_auc` the candidates of each request among
# themselves, which is what the service does with the scores.

# %%
print(f"AUC {report['click']['auc']:.4f}, best possible {log.bayes_auc:.4f}")
print(f"query AUC {report['click']['query_auc']:.4f}")

# %% [markdown]
# ## Export
#
# TF Serving watches a folder of numbered versions. The first call of a
# signature is slow; with `warmup` the export holds requests that the server
# replays before it answers with that version. `raw_inputs` makes them from rows
# of a frame.

# %%
EXPORTED = "serving_output/exported"
shutil.rmtree(EXPORTED, ignore_errors=True)  # Versions of an earlier run.
os.makedirs(EXPORTED)
raw = ku.serving.raw_inputs(test[:10], schema, requests=True)
model.export(f"{EXPORTED}/1", warmup=raw)

for folder, _, files in sorted(os.walk(f"{EXPORTED}/1")):
    for file in sorted(files):
        path = os.path.join(folder, file)
        name = os.path.relpath(path, EXPORTED)
        print(f"{os.path.getsize(path):>10,}  {name}")

# %% [markdown]
# The preprocessing is part of `saved_model.pb`: strings, integers and unpadded
# lists go in. `schema.json` describes the columns, the file in `assets.extra`
# holds the warm-up requests. Three signatures:

# %%
loaded = tf.saved_model.load(f"{EXPORTED}/1")
takes, table = {}, {}
for name in ("encode_user", "score_items", "serving_default"):
    signature = loaded.signatures[name]
    takes[name] = signature.structured_input_signature[1]
    returns = signature.structured_outputs
    for what, specs in (("takes", takes[name]), ("returns", returns)):
        for key, spec in specs.items():
            row = table.setdefault(key, {"dtype": spec.dtype.name})
            row["shape"] = tuple(spec.shape)
            row[name] = what
order = [*raw, *sorted(state), *schema.label_names]
pd.DataFrame(table).T.loc[order].fillna("")

# %% [markdown]
# ## A server
#
# `examples/prediction_server.py` stands in for TF Serving: the same gRPC
# messages, on this machine, for tests and for this notebook. The client below
# is what would talk to the real one. It needs no `keras_unirec`, only the
# messages and arrays; a service fills those from where it keeps its features,
# here `raw_inputs` does.

# %%
repository = os.path.dirname(os.path.dirname(ku.__file__))
sys.path.insert(0, os.path.join(repository, "examples"))
from prediction_server import PredictionServer

server = PredictionServer(EXPORTED, model_name="ranker")
channel = grpc.insecure_channel(server.address)
stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
print("warm-up requests replayed, by version:", server.num_warmed_up)


def call(inputs, signature="serving_default", version=None):
    """Returns the outputs as arrays, and the version that answered."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "ranker"
    request.model_spec.signature_name = signature
    if version is not None:  # Or the newest.
        request.model_spec.version.value = version
    for name in inputs:
        request.inputs[name].CopyFrom(tf.make_tensor_proto(inputs[name]))
    response = stub.Predict(request, timeout=60)
    outputs = {k: tf.make_ndarray(v) for k, v in response.outputs.items()}
    return outputs, response.model_spec.version.value


# %% [markdown]
# ## A whole request
#
# The user's columns once, the candidates' once per candidate: one call.

# %%
request_id = test["request_id"].iloc[-1]
rows = test[test["request_id"] == request_id]
raw = ku.serving.raw_inputs(rows, schema, requests=True)
outputs, version = call(raw)
pd.DataFrame(
    {
        "item_id": raw["item_id"][0],
        f"served by version {version}": outputs["click"][0],
        "ku.predict": ku.predict(model, rows)["click"].to_numpy(),
    }
).set_index("item_id")

# %% [markdown]
# TF Serving takes the same request over REST, as JSON. (The stand-in has no
# REST, so it is not sent.) This is the body of
# `POST /v1/models/ranker:predict` for a user with a short history and three
# candidates. Integers, strings and lists are as in the log; the length of a
# history says how many of its events are real.

# %%
histories = ["watched_item_id", "liked_item_id", "search_query"]
events = test[histories].map(len)
shortest = events.sum(axis=1)[events.min(axis=1) > 0].idxmin()
short = test[test["request_id"] == test["request_id"][shortest]][:3]
columns = {
    name: value.tolist()
    for name, value in ku.serving.raw_inputs(
        short, schema, requests=True
    ).items()
}
body = {"signature_name": "serving_default", "inputs": columns}
lines = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in columns.items()]
print('{"signature_name": "serving_default", "inputs": {')
print(",\n".join(lines) + "}}")

# %% [markdown]
# ## Keep the state of the user
#
# A service that ranks in stages, or page by page, asks for the same user more
# than once. It calls `encode_user` once, keeps the state, and sends it along
# with each group of candidates. Half of the candidates first, then the others;
# together they get the scores of the whole request.

# %%
user = ku.serving.raw_inputs(rows[:1], schema, side="user")
items = ku.serving.raw_inputs(rows, schema, requests=True, side="item")

state, version = call(user, "encode_user")
half = {name: value[:, :5] for name, value in items.items()}
rest = {name: value[:, 5:] for name, value in items.items()}
first, _ = call({**state, **half}, "score_items")
second, _ = call({**state, **rest}, "score_items")

scores = np.concatenate([first["click"], second["click"]], axis=1)
np.testing.assert_allclose(scores, outputs["click"], atol=1e-5)
size = sum(value.nbytes for value in state.values())
print(f"the state takes {size:,} bytes; the same scores in three calls")

# %% [markdown]
# How long may it be kept? As long as the columns that it was made of are the
# right ones: until the user does something that belongs into a history, or the
# time of the request (events age) and the context differ by more than one is
# willing to ignore. And as long as the version of the model that made it is
# served, see below.
#
# ## Wrong inputs
#
# No value is an error: an id that was never seen is the unknown id, a missing
# string is `""`. A wrong name, dtype or shape is one, and the message names
# the input. (What the graph itself refuses ends in the name of its node.)


# %%
def refused(inputs, signature="serving_default", version=None):
    try:
        call(inputs, signature, version)
    except grpc.RpcError as error:
        print(error.code().name)
        print(textwrap.indent(textwrap.fill(error.details(), 76), "    "))


without = {name: value for name, value in raw.items() if name != "device"}
refused(without)
refused({**raw, "item_id": raw["item_id"][0]})  # `(C,)`, not `(R, C)`.
two = {name: np.repeat(value, 2, axis=0) for name, value in items.items()}
refused({**state, **two}, "score_items")  # One user, items for two.

unknown = {**raw, "item_id": np.full_like(raw["item_id"], 10**9)}
print("never seen items:", call(unknown)[0]["click"][0, :3].round(3))

# %% [markdown]
# ## The next version
#
# One more pass over the log makes version 2. An export appears in the folder
# when it is complete. TF Serving polls the folder, loads the new version beside
# the old one, replays its warm-up, and only then swaps. `refresh()` is one such
# poll.

# %%
if not SMOKE:
    model.fit(batches, verbose=2)
    print(f"AUC {ku.evaluate(model, held_out)['click']['auc']:.4f}")
model.export(f"{EXPORTED}/2", warmup=raw)
print("before the poll: version", call(raw)[1])
server.refresh()
outputs, version = call(raw)
print("after the poll: version", version)
expected = ku.predict(model, rows)["click"].to_numpy()
np.testing.assert_allclose(outputs["click"][0], expected, atol=1e-5)

# %% [markdown]
# The kept state is of version 1, and version 2 refuses it. A client that keeps
# states keeps the number of the version with them and asks for that one. When
# it is gone, it encodes the user again.

# %%
refused({**state, **items}, "score_items")
refused({**state, **items}, "score_items", version=1)

state, version = call(user, "encode_user")
again, _ = call({**state, **items}, "score_items", version)
np.testing.assert_allclose(again["click"], outputs["click"], atol=1e-5)
print("encoded again: the scores of version", version)

# %%
channel.close()
server.close()

# %% [markdown]
# ## Latency by candidates
#
# `measure_latency` scores C candidates of one user in this process, without
# gRPC, in several ways, in turns:
#
# - `rows`: C rows, each with the user's columns and histories;
# - `serving_default`: one request;
# - `score_items`: one request of a user whose state was kept.
#
# The user is one with long histories.

# %%
CANDIDATES = (10, 50) if SMOKE else (10, 50, 200, 1000)
raw = ku.serving.raw_inputs(test.loc[[events.sum(axis=1).idxmax()]], schema)
times = ku.serving.measure_latency(
    f"{EXPORTED}/2", raw, CANDIDATES, runs=3 if SMOKE else 30
).pivot(index="candidates", columns="way", values="p50_ms")
times = times[["rows", "serving_default", "score_items"]]
times.rename_axis("milliseconds", axis=1).round(2)

# %%
lengths = {
    sequence.name: raw[sequence.features[0].name].shape[1]
    for sequence in schema.sequences
}
costs = pd.DataFrame({c: cost(c, history_length=lengths) for c in CANDIDATES}).T
flops = costs[["as single rows", "together", "candidate half"]]
flops.columns = times.columns

figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
times.plot(ax=axes[0], marker="o", ylabel="milliseconds (median)")
flops.plot(ax=axes[1], marker="o", ylabel="MFLOPs of matrix products")
for axis in axes:
    axis.set(xscale="log", yscale="log", xlabel="candidates of the request")
    axis.set_xticks(CANDIDATES, CANDIDATES)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.grid(alpha=0.3)
axes[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
plt.show()

# %% [markdown]
# On the right is what the matrix products allow, on the left what the calls
# took. The two differ, because this model is tiny. With few candidates a call
# is mostly overhead: hundreds of small operations, lookups of strings and ids,
# most of which take as long for ten rows as for one. There the ways are closer
# together than their products, and become further apart with more candidates.
# What a kept state saves does not grow with the candidates: the half of the
# user, the lookups of its columns included. And one client on one machine says
# nothing about load.
#
# `benchmarks/serving.py` measures the same at a real size, with longer
# histories, MixFormer next to UI-MixFormer, several clients at once, and
# memory. [Serving](../docs/serving.md) describes the signatures and their raw
# columns; `model.export` has the options: `micro_batch_size` bounds the memory
# of a request with many candidates, `xla_signatures=True` adds compiled
# signatures.
