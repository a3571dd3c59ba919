import dataclasses
import json

from keras_unirec import schema as schemas
from keras_unirec.schema import Categorical
from keras_unirec.schema import Schema
from tests.schema.rich_schema import frame
from tests.schema.rich_schema import rich_schema
from tests.test_case import TestCase


class ConfigTest(TestCase):
    def test_json_round_trip_with_what_it_learned(self):
        for schema in (rich_schema(), rich_schema().adapt(frame())):
            text = schema.to_json()
            again = Schema.from_json(text)
            self.assertEqual(again, schema)
            self.assertEqual(hash(again), hash(schema))
            self.assertEqual(again.to_json(), text)
            self.assertEqual(again.encoded, schema.encoded)
            self.assertEqual(
                Schema.from_config(json.loads(json.dumps(again.get_config()))),
                schema,
            )
        self.assertNotEqual(rich_schema(), rich_schema().adapt(frame()))
        table = again.feature("item_id").table
        self.assertEqual(list(table.data["brand"].strings()), ["x", "y", "x"])
        self.assertEqual(list(table.data["words"].offsets[0]), [0, 2, 2, 3])

    def test_json_refuses_what_it_does_not_know(self):
        config = rich_schema().get_config()
        with self.assertRaisesRegex(ValueError, r"Received: \['color'\]"):
            Schema.from_config({**config, "color": "red"})
        with self.assertRaisesRegex(ValueError, "Received: type='Tree'"):
            Schema.from_config({"item": [{"type": "Tree", "name": "x"}]})

    def test_repr_is_python(self):
        schema = rich_schema()
        schema = dataclasses.replace(
            schema,
            item=[Categorical("item_id", 10, 16)],
            sequences=schema.sequences[:1],
        )
        text = repr(schema)
        self.assertEqual(eval(text, vars(schemas)), schema)
        self.assertIn(
            "    context=[\n        Categorical(name='page', num_values=20,",
            text,
        )
        adapted = repr(rich_schema().adapt(frame()))
        self.assertIn("values=<2 values>", adapted)
        self.assertIn("data=<3 rows of", adapted)
