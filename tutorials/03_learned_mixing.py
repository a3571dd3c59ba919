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
# # Learned mixing: UniMixer, its temperature, and one frame for mixers
#
# Between its layers, a ranking model has to move information from token to
# token. RankMixer and MixFormer do it by a fixed permutation (head mixing),
# Transformers by attention. [UniMixer](https://arxiv.org/abs/2604.00590) learns
# it: matrices that do not depend on the input, whose rows and columns sum to
# one. A temperature that falls during the training makes them sparse, so that
# they end as nearly permutations of their own.
#
# This notebook trains one, watches the matrices sharpen, exports it, and then
# puts each mixer of the library in the place of MixFormer's.

# %%
import os
import re

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import keras_unirec as ku

keras.utils.set_random_seed(0)
SMOKE = os.environ.get("KERAS_UNIREC_SMOKE") == "1"  # A run of seconds.

# %%
log = ku.data.synthetic_click_log(
    num_rows=4_000 if SMOKE else 30_000, num_items=300, num_tags=12
)
schema = log.schema
batches = ku.data.from_pandas(log.train, schema, batch_size=256, shuffle=True)
held_out = ku.data.from_pandas(log.test, schema, batch_size=1024)
log

# %% [markdown]
# ## The model
#
# `unimixer_lite_tiny` has 16 tokens of width 32. Flattened, they are 512
# numbers, cut into 128 blocks of 4. Each block is multiplied by its own 4 x 4
# matrix, then one 128 x 128 matrix mixes the blocks. In the Lite form the
# logits of the small matrices are combinations of shared ones, and those of the
# large one a product of low rank; `unimixer_tiny` has free logits (and, for
# about as many parameters, narrower networks). Sizes and temperatures are
# options of the mixer:
# `mixer=ku.layers.UniMixingLite(block_size=4, num_bases=4, rank=16)`.

# %%
model = ku.applications.load("unimixer_lite_tiny", schema)
ku.analysis.profile(model, batch_size=256)

# %% [markdown]
# Before training the temperature is 1 and the matrices are soft: every block
# reads a little of all others, hardly one more than another.

# %%
ku.analysis.plot_mixing(model)

# %% [markdown]
# ## Training with annealing
#
# Nothing is to be done for it: `fit` knows how many steps it will make, and
# lets the temperature fall linearly from 1.0 to 0.05 over the first fifth of
# them (`anneal_steps` of the mixer sets another number). The callback below
# only looks: how many blocks does a block read? It is the exponential of the
# entropy of a row of the global matrix, 128 if all the same, 1 for a
# permutation.


# %%
class Sharpness(keras.callbacks.Callback):
    def __init__(self, every):
        super().__init__()
        self.every = every
        self.rows = []

    def look(self, step):
        for name, (_, mixing) in ku.analysis.mixing_matrices(
            self.model
        ).items():
            entropy = -(mixing * np.log(np.maximum(mixing, 1e-30))).sum(-1)
            temperature = float(self.model.mixings[0].temperature())
            self.rows.append((step, name, temperature, np.exp(entropy).mean()))

    def on_train_batch_begin(self, batch, logs=None):
        if batch % self.every == 0:
            self.look(batch)


sharpness = Sharpness(every=4)
model.compile()
model.fit(batches, callbacks=[sharpness], verbose=0)
columns = ["step", "layer", "temperature", "blocks read"]
seen = pd.DataFrame(sharpness.rows, columns=columns)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
by_step = seen.pivot(index="step", columns="layer", values="blocks read")
by_step.plot(ax=left, logy=True, ylabel="blocks that a block reads")
seen.groupby("step")["temperature"].first().plot(
    ax=right, ylabel="temperature", ylim=(0, 1.05)
)
plt.show()

# %% [markdown]
# Cold, a block reads few others. What was learned is in the logits, and does
# not depend on the temperature; `plot_mixing` shows the same logits at both
# ends of the annealing.

# %%
ku.analysis.plot_mixing(model, temperatures=[1.0, 0.05])

# %%
scores = {"unimixer_lite_tiny": ku.evaluate(model, held_out)["click"]["auc"]}
scores

# %% [markdown]
# How many steps were annealed is saved with the weights: a loaded model goes on
# where it was.

# %%
os.makedirs("unimixer_output", exist_ok=True)
model.save("unimixer_output/model.keras")
loaded = keras.models.load_model("unimixer_output/model.keras")
[float(mixing.temperature()) for mixing in loaded.mixings]

# %% [markdown]
# ## In production, constants
#
# The matrices do not depend on the input, so an export computes them once: the
# served graph has no Sinkhorn iterations and no logits, only two products with
# constant matrices.

# %%
import tensorflow as tf  # noqa: E402

model.export("unimixer_output/1")
served = tf.saved_model.load("unimixer_output/1")
graph = served.signatures["score_items"].graph.as_graph_def()
operations = [
    node.op
    for function in graph.library.function
    for node in function.node_def
    if re.search(r"/mixer(_\d+)?/", node.name)
]
pd.Series(operations).value_counts().to_frame("operations in the mixers")

# %% [markdown]
# ## The paper's other way: two stages
#
# Where data is short, the paper trains to the end at temperature 1 first, then
# goes on at 0.05 from those weights. The temperatures are options of the mixer,
# not part of its weights, so the second model loads them.

# %%
warm = ku.applications.load(
    "unimixer_lite_tiny",
    schema,
    mixer=ku.layers.UniMixingLite(end_temperature=1.0),
)
warm.compile()
warm.fit(batches, verbose=0)
warm.save_weights("unimixer_output/warm.weights.h5")
cold = ku.applications.load(
    "unimixer_lite_tiny",
    schema,
    mixer=ku.layers.UniMixingLite(start_temperature=0.05),
    weights="unimixer_output/warm.weights.h5",
)
cold.compile()
cold.fit(batches, verbose=0)
scores["first stage"] = ku.evaluate(warm, held_out)["click"]["auc"]
scores["second stage"] = ku.evaluate(cold, held_out)["click"]["auc"]
pd.Series(scores, name="AUC").round(4).to_frame()

# %% [markdown]
# The second stage has seen every row twice; compare it with two passes of
# annealing before drawing conclusions.
#
# ## Swap the mixer of a MixFormer
#
# All mixers have one signature, tokens in, tokens out, so each fits where
# another does: in `MixFormer`, in `RankMixer`, in HyFormer's boosting, and in
# the blocks of UniMixer. By name, or as a layer with arguments, of which every
# block gets a copy:

# %%
MIXERS = {
    "head mixing (MixFormer)": "head_mixing",
    "UniMixing": "uni_mixing",
    "UniMixing-Lite, 8 wide": ku.layers.UniMixingLite(block_size=8),
    "heterogeneous attention": "heterogeneous_attention",
    "nothing": "identity",
}
if SMOKE:
    MIXERS = {"UniMixing": "uni_mixing"}
rows = {}
for name, mixer in MIXERS.items():
    keras.utils.set_random_seed(0)
    mixed = ku.applications.load("mixformer_tiny", schema, mixer=mixer)
    mixed.compile()
    mixed.fit(batches, verbose=0)
    rows[name] = {
        "AUC": ku.evaluate(mixed, held_out)["click"]["auc"],
        "dense parameters": ku.analysis.profile(mixed).dense_parameters,
    }
table = pd.DataFrame(rows).T
table["AUC"] = table["AUC"].round(4)
table["dense parameters"] = table["dense parameters"].astype(int)
table

# %% [markdown]
# One seed on simulated clicks is no ranking of mixers: in MixFormer every head
# also reads the history and has networks of its own, so that much of the
# exchange happens without a mixer. [Next to the paper](../docs/unimixer.md) has
# three seeds on a real log.

# %%
print(f"best possible AUC: {log.bayes_auc:.4f}")
