"""From columns to a served model in one run.

    python examples/demo.py                  on a synthetic log
    python examples/demo.py --data FOLDER    on KuaiRand files

Trains `mixformer_tiny`, prints the evaluation beside the best that any model
could reach (where it is known), plots the training curve, exports a
SavedModel, and scores one request with it in a new process that has TensorFlow
alone.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import keras

import keras_unirec as ku

POINTS = 8  # Of the training curve.


def main(data, out, model_name, num_rows):
    start = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)

    # === Data ===
    if data is None:
        log = ku.data.synthetic_click_log(num_rows, num_items=300, num_tags=12)
        train, test, schema = log.train, log.test, log.schema
        best = {"auc": log.bayes_auc, "loss": log.bayes_logloss}
        passes = 2
    else:
        train, test, schema = ku.data.kuairand(data)
        best = None
        passes = 1  # Ids repeat: a second pass would memorize them.
    label = schema.label_names[0]
    print(schema.summary())
    print(
        f"\n{len(train):,} rows to train on, {len(test):,} later rows to test"
    )

    # === Train ===
    batches = ku.data.from_pandas(train, schema, batch_size=256, shuffle=True)
    held_out = ku.data.from_pandas(test, schema, batch_size=1024)
    model = ku.applications.load(model_name, schema)
    model.compile()
    profile = ku.analysis.profile(model)
    print(
        f"{model_name}: {profile.dense_parameters:,} dense parameters, "
        f"{profile.embedding_parameters:,} in embeddings\n"
    )
    # The passes over the data in equal parts: each is a point of the curve.
    steps = passes * len(batches) // POINTS
    history = model.fit(
        batches.repeat(),
        epochs=POINTS,
        steps_per_epoch=steps,
        validation_data=held_out,
    ).history
    history["step"] = [steps * (i + 1) for i in range(POINTS)]
    ku.analysis.plot_history(history, out / "training_curve.png", best)

    # === Evaluate ===
    report = ku.evaluate(model, held_out)
    print(f"\n{report}\n")
    if best is not None:
        print("                               AUC  logloss")
        found = report[label]
        print(line(model_name, found["auc"], found["logloss"]))
        print(line("best possible", best["auc"], best["loss"]))
        for part in ("histories", "crosses"):
            print(line(f"best without {part}", log.best_auc(without=part)))
        print()

    # === Export, and serve one request ===
    export = out / "export" / "1"
    model.export(export)
    rows = test.iloc[:1]
    inputs = ku.serving.raw_inputs(rows, schema)
    request = out / "request.json"
    request.write_text(
        json.dumps(
            {
                "signature_name": "serving_default",
                "inputs": {k: v.tolist() for k, v in inputs.items()},
            }
        )
    )
    script = Path(__file__).with_name("score_export.py")
    served = subprocess.run(
        [sys.executable, str(script), str(export), str(request)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    served = json.loads(served)[label][0]
    here = ku.predict(model, rows)[label].tolist()
    print(f"p({label}) of one request, served by TensorFlow alone: {served}")
    print(f"p({label}) of that request by `predict`: {here}")

    print(f"\nWrote {out}/: training_curve.png, export/1, request.json")
    print(f"{time.perf_counter() - start:.0f} seconds")


def line(name, auc, logloss=None):
    """A line of the table of results."""
    logloss = "" if logloss is None else f"{logloss:9.4f}"
    return f"{name:25s}{auc:9.4f}{logloss}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, help="folder of KuaiRand files")
    parser.add_argument("--out", type=Path, default=Path("demo_output"))
    parser.add_argument("--model", default="mixformer_tiny")
    parser.add_argument(
        "--rows", type=int, default=120_000, help="of the synthetic log"
    )
    arguments = parser.parse_args()
    main(arguments.data, arguments.out, arguments.model, arguments.rows)
