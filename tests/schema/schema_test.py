import pathlib
import subprocess
import sys

import pytest

from keras_unirec.schema import Numerical
from keras_unirec.schema import Schema
from tests.schema.rich_schema import frame
from tests.schema.rich_schema import rich_schema
from tests.test_case import TestCase

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


class SchemaTest(TestCase):
    def test_no_tensorflow_at_import(self):
        code = (
            "import sys; from importlib import util\n"
            "import types; package = types.ModuleType('keras_unirec')\n"
            "package.__path__ = ['keras_unirec']\n"
            "sys.modules['keras_unirec'] = package\n"
            "import keras_unirec.schema\n"
            "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)

    def test_summary(self):
        schema = rich_schema()
        text = schema.summary()
        self.assertIn("still to learn: the values of `country`", text)
        text = schema.adapt(frame()).summary()
        self.assertNotIn("still to learn", text)
        self.assertRegex(text, r"item_id +item +id +identity 10 +12 x 16")
        self.assertRegex(text, r"viewed_id .*shares item_id")
        self.assertRegex(text, r"slots +item +id x 3")
        self.assertIn("timestamp: time (s)", text)


ERRORS = {
    "lookup_feature": (
        lambda: Schema(user=[Numerical("n")]).feature("m"),
        r"`name` must be one of \['n'\]. Received: name='m'",
    ),
    "lookup_kind": (
        lambda: Schema(user=[Numerical("n")]).categorical("n"),
        "must be a `Categorical`. Received: name='n', a Numerical",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    make, message = ERRORS[case]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make()
