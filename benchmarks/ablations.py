"""The ablations of a paper on KuaiRand, over several seeds.

    python benchmarks/ablations.py --data KuaiRand-Pure --family hyformer \
        --out benchmarks/results/ablations_hyformer.json

The protocol is that of `accuracy.py`. Rows that the file of `--out`, or a file
of `accuracy.py` given by `--known`, has with the same seeds are not run again.
Differences are those to the first row, seed by seed.
"""

import json
import os

import accuracy
import numpy as np

from keras_unirec import layers


def longer_tiny(context):
    """The reader of `longer_rankmixer_tiny`, with other queries."""
    return layers.DecodingReader(
        events=layers.Events(32, position="newest_first"),
        encoder=layers.Longer(recent_length=20, num_heads=2),
        queries=layers.QueryGeneration(hidden_dim=32, context=context),
        reader=layers.QueryDecoding(num_heads=2, residual="pre_rms"),
    )


def queries_tiny(context):
    """The queries of `hyformer_tiny`, made of less."""
    return layers.QueryGeneration(hidden_dim=32, context=context)


NARROW = layers.SwiGLU(ratio=1.5, per_token=True)

# Name in the paper: (model, arguments). The first row is what is ablated.
ROWS = {
    "hyformer": {
        "HyFormer": ("hyformer_tiny", {}),
        "Query w/o Seq Pooling Tokens": (
            "hyformer_tiny",
            {"queries": queries_tiny("without_pooling")},
        ),
        "Query w/o Nonseq and Seq Pooling Tokens": (
            "hyformer_tiny",
            {"queries": queries_tiny("target")},
        ),
        "BaseArch w/ Global Tokens": (
            "longer_rankmixer_tiny",
            {"history_reader": longer_tiny("all")},
        ),
        "BaseArch w/o Global Tokens": ("longer_rankmixer_tiny", {}),
        "HyFormer + Merge Seq": (
            "hyformer_tiny",
            {
                "events": layers.Events(
                    32, join="concatenate", position="newest_first"
                )
            },
        ),
    },
    "mixformer": {
        "MixFormer": ("mixformer_tiny", {}),
        "[QM] wo HM": ("mixformer_tiny", {"mixer": None}),
        "[QM] HM -> SA": ("mixformer_tiny", {"mixer": "self_attention"}),
        "[QM] wo FFN": ("mixformer_tiny", {"feed_forward": None}),
        "[CA] PL-FFN -> FFN": (
            "mixformer_tiny",
            {"encoder": layers.Shared("swiglu")},
        ),
        "[OF] PFFN -> FFN": (
            "mixformer_tiny",
            {"fusion": layers.SwiGLU(ratio=2)},
        ),
        "Pre-RN -> Post-LN": ("mixformer_tiny", {"residual": "post_layer"}),
    },
    # 3.4: how many of the 8 heads belong to the items.
    "ui_mixformer": {
        "MixFormer": ("mixformer_tiny", {}),
        "UI-MixFormer, N_G = 4": ("ui_mixformer_tiny", {}),
        "UI-MixFormer, N_G = 6": ("ui_mixformer_tiny", {"num_item_heads": 6}),
        "UI-MixFormer, by width: N_G = 2": (
            "ui_mixformer_tiny",
            {"num_item_heads": "by_width"},
        ),
    },
    # Table 3; then Table 4 with bases and ranks of these widths.
    "unimixer": {
        "UniMixer": ("unimixer_tiny", {}),
        "w/o temperature coefficient": (
            "unimixer_tiny",
            {"mixer": layers.UniMixing(end_temperature=1.0)},
        ),
        "w/o model warm-up": (
            "unimixer_tiny",
            {"mixer": layers.UniMixing(start_temperature=0.05)},
        ),
        "w/o symmetry constraint": (
            "unimixer_tiny",
            {"mixer": layers.UniMixing(symmetric=False)},
        ),
        "w/o block-specific local weights": (
            "unimixer_tiny",
            {"mixer": layers.UniMixing(shared_local=True)},
        ),
        "SiameseNorm -> Post-Norm": ("unimixer_tiny", {"residual": "post_rms"}),
        "Lite, b=4, r=16": ("unimixer_lite_tiny", {}),
        "Lite, b=2": (
            "unimixer_lite_tiny",
            {"mixer": layers.UniMixingLite(num_bases=2)},
        ),
        "Lite, b=8": (
            "unimixer_lite_tiny",
            {"mixer": layers.UniMixingLite(num_bases=8)},
        ),
        "Lite, r=2": (
            "unimixer_lite_tiny",
            {"mixer": layers.UniMixingLite(rank=2)},
        ),
        "Lite, r=32": (
            "unimixer_lite_tiny",
            {"mixer": layers.UniMixingLite(rank=32)},
        ),
    },
    # How the logits start and when they are cold, in steps of a run of 528.
    "annealing": {
        f"stddev {stddev:g}, {steps} steps": (
            "unimixer_lite_tiny",
            {"mixer": layers.UniMixingLite(stddev=stddev, anneal_steps=steps)},
        )
        for stddev, all_steps in (
            (0.1, (100, 528)),
            (0.3, (30, 100, 300)),
            (1.0, (100, 300, 528)),
            (3.0, (528,)),
        )
        for steps in all_steps
    }
    | {
        f"stddev {stddev:g}, always 0.05": (
            "unimixer_lite_tiny",
            {
                "mixer": layers.UniMixingLite(
                    stddev=stddev, start_temperature=0.05
                )
            },
        )
        for stddev in (0.3, 1.0)
    },
    "depth": {
        f"{blocks} blocks, {name}": (
            "unimixer_lite_tiny",
            {
                **({"num_layers": blocks} if blocks != 2 else {}),
                **({"residual": residual} if residual != "siamese" else {}),
            },
        )
        for residual, name in (
            ("siamese", "SiameseNorm"),
            ("post_rms", "Post-Norm"),
        )
        for blocks in (2, 4, 8)
    },
    # At about equal numbers of dense parameters.
    "mixers": {
        "MixFormer, HeadMixing": ("mixformer_tiny", {}),
        "MixFormer, identity": ("mixformer_tiny", {"mixer": "identity"}),
        "MixFormer, self-attention": (
            "mixformer_tiny",
            {"mixer": "self_attention"},
        ),
        "MixFormer, heterogeneous attention": (
            "mixformer_tiny",
            {
                "mixer": "heterogeneous_attention",
                "feed_forward": NARROW,
                "fusion": NARROW,
            },
        ),
        "MixFormer, FM": ("mixformer_tiny", {"mixer": "fm"}),
        "MixFormer, UniMixing": ("mixformer_tiny", {"mixer": "uni_mixing"}),
        "MixFormer, UniMixing-Lite": (
            "mixformer_tiny",
            {"mixer": "uni_mixing_lite"},
        ),
        "UniMixer": ("unimixer_tiny", {}),
        "UniMixer-Lite": ("unimixer_lite_tiny", {}),
        "RankMixer": ("rankmixer_tiny", {}),
    },
}


def main():
    options = accuracy.parser(__doc__)
    options.add_argument("--family", choices=ROWS, default="hyformer")
    options.add_argument("--known", nargs="*", default=[])
    options.add_argument("--rows", nargs="*", help="names; default: all")
    arguments = options.parse_args()
    rows = ROWS[arguments.family]
    known = [read(path) for path in arguments.known]
    if arguments.out and os.path.exists(arguments.out):
        known += read(arguments.out)["rows"].values()
    log, results = None, {}
    for name, (model, overrides) in rows.items():
        result = find(known, model, overrides, len(arguments.seeds))
        if result is None and name in (arguments.rows or rows):
            log = log or accuracy.load(arguments)
            result = accuracy.measure(arguments, log, model, overrides)
        if result is None:
            continue
        results[name] = result
        if arguments.out:
            write(arguments.out, arguments.family, results)
    for name, row in report(results).items():
        difference = row.get("auc_difference", {"mean": 0.0, "std": 0.0})
        print(
            f"{name:42} {row['dense_parameters']:9,}  "
            f"AUC {row['auc']['mean']:.4f} +- {row['auc']['std']:.4f}  "
            f"{difference['mean']:+.4f} +- {difference['std']:.4f}"
        )


def find(known, model, overrides, num_seeds):
    for result in known:
        if (
            result["model"] == model
            and result["overrides"] == accuracy.written(overrides)
            and len(result["auc"]["seeds"]) == num_seeds
        ):
            return result
    return None


def report(results):
    """Adds the difference to the first row, seed by seed."""
    first, *_ = results.values()
    for result in results.values():
        if result is first:
            continue
        pairs = zip(result["auc"]["seeds"], first["auc"]["seeds"])
        differences = [auc - reference for auc, reference in pairs]
        result["auc_difference"] = {
            "mean": float(np.mean(differences)),
            "std": float(np.std(differences, ddof=1))
            if len(differences) > 1
            else 0.0,
        }
    return results


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def write(path, family, results):
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"family": family, "rows": report(results)}, file, indent=2)
        file.write("\n")


if __name__ == "__main__":
    main()
