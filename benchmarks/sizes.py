"""Parameters and FLOPs of the published rows that exist as choices of parts.

    python benchmarks/sizes.py --out benchmarks/results/sizes.json

Counts HyFormer's Tables 1 and 2, RankMixer's sizes and UniMixer's Tables 2 to
4, on the reference schemas and in the units of the papers, beside what they
print; then what the state of one user holds. No weight is allocated; a row
takes a few seconds.
"""

import argparse
import json
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from accuracy import written  # noqa: E402

from keras_unirec import layers  # noqa: E402
from keras_unirec.analysis import profile  # noqa: E402

# "1k": the setting of Table 3 whose AUC is that of Table 1.
LENGTHS = {"long_term": 1_000}
SELF_ATTENTION = {"mixer": "self_attention"}


def longer_base(encoder=None, context="target"):
    """The reader of `longer_rankmixer_base`, with other parts."""
    return layers.DecodingReader(
        num_layers=4,
        encoder=encoder or layers.Longer(recent_length=200),
        queries=layers.QueryGeneration(hidden_dim=80, context=context),
        reader=layers.QueryDecoding(head_dim=16, residual="pre_rms"),
    )


def queries_base(context):
    """The queries of `hyformer_base`, made of less."""
    return layers.QueryGeneration(hidden_dim=80, context=context)


TRANSFORMER = {"history_reader": longer_base("transformer")}
GLOBAL_TOKENS = {"history_reader": longer_base(context="all")}
MERGED = layers.Events(64, join="time", position="newest_first")

# (row, model, parts, parameters in millions, FLOPs in the unit)
TABLES = {
    "hyformer_table_1": [
        ("LONGER, RankMixer", "longer_rankmixer_base", {}, 386, 3.5),
        (
            "LONGER, Full Transformer",
            "longer_rankmixer_base",
            SELF_ATTENTION,
            416,
            6.2,
        ),
        (
            "Full Transformer, RankMixer",
            "longer_rankmixer_base",
            TRANSFORMER,
            388,
            6.6,
        ),
        (
            "Full Transformer, Full Transformer",
            "longer_rankmixer_base",
            {**TRANSFORMER, **SELF_ATTENTION},
            418,
            9.3,
        ),
        ("HyFormer", "hyformer_base", {}, 418, 3.9),
    ],
    "hyformer_table_2": [
        ("HyFormer", "hyformer_base", {}, 418, 3.9),
        (
            "Query w/o Seq Pooling Tokens",
            "hyformer_base",
            {"queries": queries_base("without_pooling")},
            415,
            3.9,
        ),
        (
            "Query w/o Nonseq and Seq Pooling Tokens",
            "hyformer_base",
            {"queries": queries_base("target")},
            414,
            3.8,
        ),
        (
            "BaseArch w/ Global Tokens",
            "longer_rankmixer_base",
            GLOBAL_TOKENS,
            505,
            3.6,
        ),
        ("BaseArch w/o Global Tokens", "longer_rankmixer_base", {}, 387, 3.5),
        ("HyFormer + Merge Seq", "hyformer_base", {"events": MERGED}, 397, 3.9),
    ],
    "rankmixer_table_1": [
        ("RankMixer-100M", "rankmixer_100m", {}, 107, 233),
        ("RankMixer-1B", "rankmixer_1b", {}, 1_100, 2_106),
    ],
    "unimixer_table_2": [
        ("UniMixer, 2 blocks", "unimixer_67m", {}, 67.5, 2.07),
        ("UniMixer, 2 blocks, wider", "unimixer_101m", {}, 101.5, 2.50),
        ("Lite, 2 blocks", "unimixer_lite_42m", {}, 42.4, 2.17),
        ("Lite, 2 blocks, wider", "unimixer_lite_76m", {}, 76.2, 2.60),
        ("Lite, 4 blocks", "unimixer_lite_38m", {}, 38.2, 1.26),
        ("Lite, 4 blocks, wider", "unimixer_lite_84m", {}, 84.5, 4.24),
    ],
    "unimixer_table_3": [("UniMixer", "unimixer_6m", {}, 6.57, None)],
    "unimixer_table_4": [
        ("RankMixer, 2 blocks", "rankmixer_4m", {}, 4.44, 0.056),
        ("RankMixer, 4 blocks", "rankmixer_4m", {"num_layers": 4}, 8.66, 0.108),
        ("Lite, 2 blocks", "unimixer_lite_5m", {}, 4.968, 0.161),
        (
            "Lite, 8 bases",
            "unimixer_lite_5m",
            {"mixer": layers.UniMixingLite(num_bases=8, rank=128)},
            4.98,
            None,
        ),
        ("Lite, 4 blocks", "unimixer_lite_5m", {"num_layers": 4}, 9.72, 0.316),
        ("Lite, 8 blocks", "unimixer_lite_5m", {"num_layers": 8}, 19.21, 0.629),
    ],
}
# Rows of the table of states in docs/serving.md.
PROJECTED = {"reader": layers.HeadCrossAttention(kv_mode="projected")}
STATES = [
    ("mixformer_medium", {}),
    ("mixformer_medium", PROJECTED),
    ("ui_mixformer_medium", {}),
    ("ui_mixformer_medium", PROJECTED),
    ("hyformer_base", {}),
    (
        "hyformer_base",
        {"reader": layers.QueryDecoding(8, 96, kv_mode="projected")},
    ),
    ("longer_rankmixer_base", {}),
    ("rankmixer_1b", {}),
    ("unimixer_101m", {}),
    ("unimixer_lite_84m", {}),
]
# Of `Profile.paper_units`: the key, and what it is.
UNITS = {
    "hyformer_table_1": ("hyformer", "TFLOPs"),
    "hyformer_table_2": ("hyformer", "TFLOPs"),
    "rankmixer_table_1": ("mixformer", "GFLOPs"),
    "unimixer_table_2": ("unimixer", "TFLOPs"),
    "unimixer_table_3": ("unimixer", "TFLOPs"),
    "unimixer_table_4": ("unimixer", "TFLOPs"),
}


def count(table, row, model, overrides, parameters, flops):
    unit, name = UNITS[table]
    lengths = LENGTHS if unit == "hyformer" else None
    # Mixing matrices are computed once a batch.
    batch_size = 2_048 if unit == "unimixer" else 1
    result = profile(
        model, batch_size=batch_size, history_length=lengths, **overrides
    )
    ours = result.paper_units()[unit]
    paper = ""
    if flops is not None:
        paper = f"(paper {flops:5,}, {ours / flops - 1:+6.1%})"
    print(
        f"{row:40} {result.dense_parameters / 1e6:8,.2f}M "
        f"(paper {parameters:5,}M, "
        f"{result.dense_parameters / 1e6 / parameters - 1:+6.1%})  "
        f"{ours:8,.3f} {name} {paper}",
        flush=True,
    )
    counts = {
        "row": row,
        "batch_size": batch_size,
        "model": model,
        "overrides": written(overrides),
        "parameters": result.dense_parameters,
        "paper_parameters": round(parameters * 1_000_000),
        "flops": ours,
        "paper_flops": flops,
        "unit": name,
    }
    return counts, result


def state(model, overrides):
    lengths = (
        LENGTHS if model in ("hyformer_base", "longer_rankmixer_base") else None
    )
    # Mixing matrices are computed once a batch, and not at all in an export.
    batch_size = 2_048 if model.startswith("unimixer") else 1
    result = profile(
        model, batch_size=batch_size, history_length=lengths, **overrides
    )
    user_flops, item_flops = (
        flops / batch_size for flops in (result.user_flops, result.item_flops)
    )
    print(
        f"{model:24} {str(written(overrides) or ''):30} "
        f"{result.state_bytes / 1e6:8.3f} MB, "
        f"{user_flops / 1e9:8.3f} GFLOPs a request, "
        f"{item_flops / 1e9:8.3f} a candidate",
        flush=True,
    )
    return {
        "model": model,
        "overrides": written(overrides),
        "state": result.state,
        "state_bytes": result.state_bytes,
        "user_flops": user_flops,
        "item_flops": item_flops,
    }


def parts(result):
    """Of the batch, forward, 2 per multiply-accumulate."""
    return [
        {
            "part": part.name,
            "parameters": part.dense_parameters,
            "flops": part.flops,
        }
        for part in result.grouped()
        if part.dense_parameters or part.flops
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", help="path of a JSON file")
    args = parser.parse_args()
    report = {"hyformer_history_length": LENGTHS, "parts": {}}
    for table, rows in TABLES.items():
        print(table)
        report[table] = []
        for row in rows:
            counts, result = count(table, *row)
            report[table].append(counts)
            if not counts["overrides"]:
                report["parts"][counts["model"]] = parts(result)
    print("states")
    report["states"] = [state(*row) for row in STATES]
    if args.out:
        os.makedirs(os.path.dirname(args.out) or ".", exist_ok=True)
        with open(args.out, "w") as file:
            json.dump(report, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
