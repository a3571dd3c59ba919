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
# # Several histories: HyFormer, and what its queries read
#
# Users leave more than one history: what they watched, what they liked, what
# they searched for. Each has columns and a length of its own.
# [HyFormer](https://arxiv.org/abs/2601.12681) keeps them apart: every history
# has its own queries, which read it (Query Decoding) and then mix with each
# other and with the other features (Query Boosting), in turns.
#
# The log is simulated, so we know what a query *should* find: a click depends
# on how many watched and liked items share the candidate's tag, and on the last
# search for it.

# %%
import os

import keras
import numpy as np
import pandas as pd

import keras_unirec as ku

keras.utils.set_random_seed(0)
SMOKE = os.environ.get("KERAS_UNIREC_SMOKE") == "1"  # A run of seconds.

# %%
log = ku.data.synthetic_click_log(
    num_rows=4_000 if SMOKE else 120_000, num_items=300, num_tags=12
)
train, test = log.train, log.test
log

# %% [markdown]
# ## Three histories with different columns
#
# - `watched`: up to 50 items, each with its click and time;
# - `liked`: up to 20 items with their time;
# - `searched`: up to 10 queries, which are strings, not items.
#
# The items of the first two bring their author, tag and duration along, as the
# candidate does. The log comes with its schema
# ([quickstart](01_quickstart.ipynb) writes it out).

# %%
schema = log.schema
print(schema.summary())

# %% [markdown]
# ## One choice for each history
#
# A model is a choice of parts, given by name or as a layer with its options.
# The width of events, the encoder and the reader with its number of queries are
# one choice for all histories, or a dict by name. Here the long history gets
# two queries and events of width 48, refined one by one (`"swiglu"`); the
# searches are few, so a full Transformer costs nothing.

# %%
layers = ku.layers


def reader(num_queries):
    return layers.QueryDecoding(
        num_heads=2, num_queries=num_queries, attention="sigmoid"
    )


parts = {
    "events": layers.Events(
        {"watched": 48, "liked": 32, "searched": 16}, position="newest_first"
    ),
    "encoder": {
        "watched": "swiglu",
        "liked": "swiglu",
        "searched": "transformer",
    },
    "reader": {"watched": reader(2), "liked": reader(1), "searched": reader(1)},
}
model = ku.applications.load("hyformer_tiny", schema, **parts)
ku.analysis.profile(model)

# %% [markdown]
# `num_tokens` is 16: four queries leave twelve tokens for the other features.
# What the user half computes once a request, whatever the number of candidates,
# is its state: the encoded histories of both layers, their masks, the means
# from which queries are generated, and the embedded request.

# %%
batches = ku.data.from_pandas(train, schema, batch_size=256, shuffle=True)
held_out = ku.data.from_pandas(test, schema, batch_size=1024)
state = model.encode_user(next(iter(held_out))[0])
pd.DataFrame(
    {name: tuple(tensor.shape) for name, tensor in state.items()}.items(),
    columns=["state", "shape"],
)

# %% [markdown]
# ## Fit, and compare with one merged history
#
# The paper's ablation "Merge Seq" lines all events up by time in one history
# that all queries share: `join="time"` of the events. The best AUC that any
# model could reach on this log is known.

# %%
PASSES = 1 if SMOKE else 2


def fit(model):
    model.compile()
    model.fit(batches, epochs=PASSES, verbose=0)
    return ku.evaluate(model, held_out)["click"]["auc"]


rows = {"hyformer_tiny": fit(model)}
merged = ku.applications.load(
    "hyformer_tiny",
    schema,
    events=layers.Events(32, join="time", position="newest_first"),
)
rows["merged histories"] = fit(merged)
rows["best possible"] = log.bayes_auc
rows["best without histories"] = log.best_auc(without="histories")
pd.Series(rows, name="AUC").round(4).to_frame()

# %% [markdown]
# ## What each query reads
#
# `attention_weights` returns, for every layer and history, the weight of each
# event for each candidate, query and head. Below is one candidate of one
# request, by a user who has watched and searched much: a row is a query and
# head, a column an event.

# %%
requests = ku.data.from_pandas(test, schema, batch_size=512, requests=True)
inputs, labels, weights = next(iter(requests))
inputs = {name: value.numpy() for name, value in inputs.items()}
maps = ku.analysis.attention_weights(model, inputs)
row = int(np.argmax(inputs["watched.length"] + inputs["searched.length"]))
ku.analysis.plot_attention(maps, request=row)

# %% [markdown]
# Do the queries find what decides a click: watched and liked items with the
# candidate's tag? If a query did not care, such events would get the share of
# the weight that they have of the events. The table shows how many times that
# share they get, over all candidates of the batch. (The attention of
# `hyformer_tiny` is a sigmoid: its weights do not sum to one, so that a query
# can count. A head near 1 is no failure: it reads what the user likes at large,
# whatever the candidate.)

# %%
candidate_tag = inputs["item_id.tag"][:, :, None]
real = weights.numpy() > 0
lifts = {}
for name, weight in maps.items():
    history = name.split("_")[-1]
    if history == "searched":
        continue  # A search is a string, not an item with a tag.
    event_tag = inputs[f"{history}_item_id.tag"][:, None, :]
    length = inputs[f"{history}.length"][:, None, None]
    is_event = np.arange(event_tag.shape[-1]) < length
    same = (event_tag == candidate_tag) & is_event
    # Candidates with some events of their tag, but not only such.
    share = same.sum(-1) / np.maximum(is_event.sum(-1), 1)
    used = real & (share > 0) & (share < 1)
    read = (weight * same[:, :, None, None, :]).sum(-1)[used].mean(0)
    lift = read / weight.sum(-1)[used].mean(0) / share[used].mean()
    for query, heads in enumerate(lift):
        for head, value in enumerate(heads):
            lifts[name, query, head] = value
lifts = pd.Series(lifts, name="times its share")
lifts.index.names = ["layer and history", "query", "head"]
lifts.unstack("head").round(2)

# %% [markdown]
# ## In production
#
# Everything above, `export` included, works as for any other model
# ([quickstart](01_quickstart.ipynb)): strings in, probabilities out, the state
# of a user kept between candidates. Long histories take the encoder of LONGER:
# the most recent `recent_length` events read the whole history once, and the
# queries read those.

# %%
longer = layers.Longer(recent_length=10, num_heads=2)
long = ku.applications.load("hyformer_tiny", schema, encoder=longer)
state = long.encode_user(inputs)
{name: tuple(tensor.shape) for name, tensor in state.items() if "_0" in name}
