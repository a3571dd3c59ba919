"""The table that `Schema.summary` returns."""

from keras_unirec.schema.categorical import Categorical
from keras_unirec.schema.numerical import Numerical
from keras_unirec.schema.timestamp import Timestamp


def summary(schema):
    """Returns a table of the columns and what becomes of them."""
    embeddings = schema.embeddings if schema.is_adapted else {}
    table = [("input", "group", "kind", "vocabulary", "embedding")]
    for encoded in schema.encoded:
        group = encoded.sequence or encoded.group
        kind, vocabulary, embedding = encoded.kind, "", ""
        if encoded.multi:
            kind += f" x {encoded.multi}"
        if encoded.feature is not None:
            vocabulary = _vocabulary(schema, schema.feature(encoded.feature))
        if encoded.embedding in embeddings:
            spec = embeddings[encoded.embedding]
            embedding = f"{spec.rows:,} x {spec.dim}"
        table.append((encoded.key, group, kind, vocabulary, embedding))
    widths = [max(len(row[i]) for row in table) for i in range(5)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths))
        for row in table
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    time = schema.timestamp
    facts = [
        ("labels", ", ".join(schema.label_names) or None),
        ("request_id", schema.request_id),
        ("group_id", schema.group_id),
        ("timestamp", time and f"{time.name} ({time.unit or 'datetime'})"),
        ("still to learn", ", ".join(schema.unlearned) or None),
    ]
    lines += [f"{name}: {fact}" for name, fact in facts if fact]
    return "\n".join(line.rstrip() for line in lines)


def _vocabulary(schema, feature):
    """What is known of the values of a feature."""
    if isinstance(feature, Categorical):
        root = schema.categorical(feature.name)
        text = root.vocabulary.kind
        if root.num_values is not None:
            text += f" {root.num_values:,}"
        if getattr(root.vocabulary, "min_count", 1) > 1:
            text += f" (min_count {root.vocabulary.min_count})"
        if root.name != feature.name:
            text += f" (shares {root.name})"
        return text
    if isinstance(feature, Numerical) and feature.mean is not None:
        return f"mean {feature.mean:.4g}, std {feature.std:.4g}"
    if isinstance(feature, Timestamp) and feature.unit:
        return f"unit {feature.unit}"
    return ""
