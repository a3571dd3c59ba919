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
# # Quickstart: from columns to a served ranking model
#
# Columns → schema → batches → `load` → `fit` → `evaluate` → plot → export →
# score. The log here is simulated, so the probability of every click is known,
# and with it the best AUC that any model could reach. To use real impressions
# instead, change one cell.

# %%
import os

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow as tf

import keras_unirec as ku

keras.utils.set_random_seed(0)
SMOKE = os.environ.get("KERAS_UNIREC_SMOKE") == "1"  # A run of seconds.

# %% [markdown]
# ## Columns
#
# One row is one impression: an item was shown to a user, who clicked or not.
# Strings, integers, numbers, and lists: what the user watched, liked and
# searched for before that moment, oldest first.

# %%
log = ku.data.synthetic_click_log(
    num_rows=4_000 if SMOKE else 120_000, num_items=300, num_tags=12
)
train, test = log.train, log.test
train.head(3).T

# %% [markdown]
# ## Schema
#
# The schema says what each column holds and to which side it belongs. Columns
# of the user and of the context hold for all candidates of a request, columns
# of the item differ between them. An `ItemTable` brings side information along
# with an id, here and in every history that shares the id.

# %%
items = ku.ItemTable(
    log.items,
    key="item_id",
    features=[
        ku.Categorical("author_id", embedding_dim=16, vocabulary="lookup"),
        ku.Categorical("tag", embedding_dim=16, vocabulary="lookup"),
        ku.Numerical("duration_s"),
    ],
)
schema = ku.Schema(
    user=[
        ku.Categorical("user_segment", embedding_dim=8, vocabulary="lookup"),
        ku.Numerical("user_age"),
    ],
    context=[
        ku.Categorical("city", 1_000, embedding_dim=4, vocabulary="hash"),
        ku.Categorical("device", embedding_dim=8, vocabulary="lookup"),
        ku.Categorical("tab", embedding_dim=8, vocabulary="lookup"),
        ku.Categorical("hour", num_values=24, embedding_dim=8),
    ],
    item=[
        ku.Categorical(
            "item_id",
            num_values=len(log.items),
            embedding_dim=16,
            table=items,
        )
    ],
    sequences=[
        ku.Sequence(
            "watched",
            max_length=50,
            features=[
                ku.Categorical("watched_item_id", share_with="item_id"),
                ku.Categorical("watched_click", num_values=2, embedding_dim=4),
                ku.Timestamp("watched_time_ms", unit="ms"),
            ],
        ),
        ku.Sequence(
            "liked",
            max_length=20,
            features=[
                ku.Categorical("liked_item_id", share_with="item_id"),
                ku.Timestamp("liked_time_ms", unit="ms"),
            ],
        ),
        ku.Sequence(
            "searched",
            max_length=10,
            features=[
                ku.Categorical(
                    "search_query", embedding_dim=16, vocabulary="lookup"
                ),
                ku.Timestamp("search_time_ms", unit="ms"),
            ],
        ),
    ],
    labels=[ku.Label("click")],
    request_id="request_id",
    group_id="user_id",
    timestamp=ku.Timestamp("time_ms", unit="ms"),
)

# %% [markdown]
# `adapt` learns vocabularies and the mean and spread of numbers, from the
# training rows alone. Nothing else learns before `fit`.

# %%
schema = schema.adapt(train)
print(schema.summary())

# %% [markdown]
# ### Real impressions instead
#
# The files of [KuaiRand](https://kuairand.com) can take the place of the
# simulated log: set the folder and run all cells. (In the environment, so that
# the notebook below stays as it is.)

# %%
KUAIRAND = os.environ.get("KUAIRAND")  # The folder of the files.
if KUAIRAND:
    train, test, schema = ku.data.kuairand(KUAIRAND)
label = schema.label_names[0]

# %% [markdown]
# ## Batches
#
# A batch is R requests of C candidates. Here every row is a request with one
# candidate; with `requests=True` the rows of one `request_id` share their
# histories.

# %%
batches = ku.data.from_pandas(train, schema, batch_size=256, shuffle=True)
held_out = ku.data.from_pandas(test, schema, batch_size=1024)
inputs, labels, weights = next(iter(batches))
pd.DataFrame(
    {name: (value.dtype.name, value.shape) for name, value in inputs.items()},
    index=["dtype", "shape"],
).T

# %% [markdown]
# ## Load, compile, fit
#
# `compile()` without arguments takes a recipe that works on small data; every
# argument of `keras.Model.compile` works too. Two passes over the simulated
# log, in eight parts, for a curve. On real data one pass: a second one
# memorizes ids.

# %%
model = ku.applications.load("mixformer_tiny", schema)
model.compile()
ku.analysis.profile(model)

# %%
POINTS = 2 if SMOKE else 8
passes = 1 if KUAIRAND else 2
steps = passes * len(batches) // POINTS
history = model.fit(
    batches.repeat(),
    epochs=POINTS,
    steps_per_epoch=steps,
    validation_data=held_out,
    verbose=2,
)

# %% [markdown]
# ## Evaluate
#
# Exact metrics, by rank. On the simulated log the probability of every click is
# known: the AUC and logloss of those are the best that any model could reach,
# up to chance.

# %%
report = ku.evaluate(model, held_out)
report

# %%
best = None
if not KUAIRAND:
    best = {"auc": log.bayes_auc, "loss": log.bayes_logloss}
    rows = {
        "mixformer_tiny": report[label]["auc"],
        "best possible": log.bayes_auc,
        "best without histories": log.best_auc(without="histories"),
        "best without crosses": log.best_auc(without="crosses"),
    }
    print(pd.Series(rows, name="AUC").round(4).to_string())

# %%
curves = {**history.history, "step": steps * np.arange(1, POINTS + 1)}
ku.analysis.plot_history(curves, reference=best)

# %% [markdown]
# Are the probabilities right, not only their order? Rows in ten groups by
# prediction:

# %%
predicted = ku.predict(model, test)[label]
groups = pd.qcut(predicted, 10, labels=False)
calibration = pd.DataFrame({"predicted": predicted, "observed": test[label]})
calibration = calibration.groupby(groups.to_numpy()).mean()

figure, axis = plt.subplots(figsize=(4, 4))
axis.plot([0, 1], [0, 1], ls="--", color="gray")
axis.plot(calibration["predicted"], calibration["observed"], marker="o")
axis.set(xlabel="predicted", ylabel="observed", title=f"p({label})")
plt.show()

# %% [markdown]
# ## Export
#
# Preprocessing travels inside the SavedModel: the server gets raw strings and
# integers, and needs TensorFlow alone.

# %%
EXPORT = "quickstart_output/export/1"
model.export(EXPORT)

# %% [markdown]
# ## Score
#
# One request, as a client would send it: what belongs to the request once,
# columns of the item once per candidate.

# %%
rows = test.iloc[:1]
grouped = schema.request_id is not None
if grouped:  # All candidates of that request.
    same = test[schema.request_id] == rows[schema.request_id].iloc[0]
    rows = test[same]
request = ku.serving.raw_inputs(rows, schema, requests=grouped)
pd.DataFrame(
    {
        name: (value.dtype.name, value.shape, str(value.tolist())[:40])
        for name, value in request.items()
    },
    index=["dtype", "shape", "values"],
).T

# %%
served = tf.saved_model.load(EXPORT).signatures["serving_default"]
scores = served(**{name: tf.constant(v) for name, v in request.items()})
pd.DataFrame(
    {
        "served": scores[label].numpy()[0],
        "predict": ku.predict(model, rows)[label].to_numpy(),
    }
)

# %% [markdown]
# With many candidates, `encode_user` computes what belongs to the request once,
# and `score_items` scores groups of candidates against it.

# %%
signatures = tf.saved_model.load(EXPORT).signatures


def call(name, values):
    """Calls a signature with those of the values that it takes."""
    _, specs = signatures[name].structured_input_signature
    return signatures[name](**{k: tf.constant(values[k]) for k in specs})


state = call("encode_user", request)
call("score_items", {**request, **state})[label].numpy()
