"""What `Schema.adapt` does: every feature learns from the columns it is in."""

from keras_unirec.schema import reading
from keras_unirec.schema._learners import learner_of
from keras_unirec.schema.categorical import Categorical
from keras_unirec.schema.timestamp import Timestamp


def adapt(schema, data):
    """Returns the schema with what it learned from a frame or from Parquet."""
    learners = {}

    def learner(feature):
        if isinstance(feature, Categorical):
            feature = schema.categorical(feature.name)  # Its owner.
        if feature.name not in learners:
            learners[feature.name] = learner_of(feature)
        return learners[feature.name]

    for feature, _, depth in schema.feature_columns():
        learner(feature).columns[feature.name] = depth
    for carrier in schema.carriers():
        table, rows = carrier.table, reading.Rows()
        for name, feature in (
            (table.key, carrier),
            *((feature.name, feature) for feature in table.features),
        ):
            where = f"Column `{name}` of an `ItemTable`"
            learner(feature).update(table.data[name], where, rows)
    active = [one for one in learners.values() if not one.is_idle]
    names = {name for learner in active for name in learner.columns}
    _check_types(schema, data)
    for chunk, rows in reading.chunks(data, sorted(names)):
        for learner in active:
            for name, depth in learner.columns.items():
                learner.read(chunk[name], name, depth, rows)
    return schema.replace_features(
        lambda feature: (
            learners[feature.name].learned(feature)
            if feature.name in learners
            else feature
        )
    )


def _check_types(schema, data):
    """Raises for a column that is absent or, at its start, of a wrong type.

    Also for what nothing is learned from: labels, the ids of metrics, times of
    a known unit. The readers check all values.
    """
    kinds = {}
    for feature, _, depth in schema.feature_columns():
        kind, unit = "float", None
        if isinstance(feature, Timestamp):
            kind, unit = "time", feature.unit
        elif isinstance(feature, Categorical):
            root = schema.categorical(feature.name)
            kind = {None: "category", "int64": "int"}.get(root.dtype, "string")
        kinds[feature.name] = (kind, depth, unit)
    for name in (schema.request_id, schema.group_id):
        if name is not None:
            kinds.setdefault(name, ("category", 0, None))
    for name in schema.label_names:
        kinds[name] = ("float", 0, None)
    for chunk, rows in reading.chunks(data, kinds, chunk_rows=1_000):
        for name, (kind, depth, unit) in kinds.items():
            if not reading.is_null(chunk[name]):
                reading.read(chunk[name], name, kind, depth, rows, unit)
        return
