"""Scores a request with an exported model. Needs TensorFlow and nothing else.

    cd demo_output
    python ../examples/score_export.py export/1 request.json

The request is the body that TF Serving's `:predict` takes:
`{"signature_name": ..., "inputs": {column: values}}`.
"""

import json
import sys

import tensorflow as tf


def main(export, request):
    with open(request, encoding="utf-8") as file:
        request = json.load(file)
    signature = tf.saved_model.load(export).signatures[
        request["signature_name"]
    ]
    _, specs = signature.structured_input_signature
    outputs = signature(
        **{
            column: tf.constant(values, specs[column].dtype)
            for column, values in request["inputs"].items()
        }
    )
    print(json.dumps({k: v.numpy().tolist() for k, v in outputs.items()}))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
