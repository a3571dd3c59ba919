"""What weights mean: what a model and a file of weights must agree in."""

import collections
import io
import json
import os
import re
import zipfile

import h5py
import numpy as np

_KEY = "meaning"
_MOST = 5  # Differences that a message names.
_NOTHING = "(nothing)"


class Saving:
    """Weights know what they mean, and a model refuses those of another.

    A mixin of a `keras.Model` with a method `meaning()`: a nested dict of
    plain values. It is saved beside the weights, with their paths and shapes;
    where it differs, no weight is loaded, and the error names what differs.
    None against a value is no difference while the weights are the same: it
    leaves open what the other one says.
    """

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        """`keras.Model.load_weights`, of a file of the same network.

        Args:
            filepath: Path of a `.weights.h5`, `.weights.json` or `.keras` file.
            skip_mismatch: bool. Whether to load what fits, layer by layer,
                into a model that differs. Defaults to `False`.
            **kwargs: Other arguments of `keras.Model.load_weights`.

        Raises:
            ValueError: If the weights are those of another network; names what
                differs. No weight has changed then. (The function
                `keras.saving.load_weights` raises it, too, in the end.)
        """
        theirs = None if skip_mismatch else stored_meaning(filepath)
        if theirs is not None:
            self._check_meaning(theirs)
        self._skip_meaning = skip_mismatch or theirs is not None
        try:
            super().load_weights(
                filepath, skip_mismatch=skip_mismatch, **kwargs
            )
        finally:
            self._skip_meaning = False

    def save_own_variables(self, store):
        text = json.dumps(self._stored_meaning(), sort_keys=True)
        store[_KEY] = np.frombuffer(text.encode(), "uint8")

    def load_own_variables(self, store):
        # Without the key: written by Keras itself.
        if not getattr(self, "_skip_meaning", False) and _KEY in store.keys():
            self._check_meaning(_from_bytes(store[_KEY]))

    def _stored_meaning(self):
        weights = [[weight.path, list(weight.shape)] for weight in self.weights]
        return {**self.meaning(), "weights": weights}

    def _check_meaning(self, theirs):
        ours = json.loads(json.dumps(self._stored_meaning()))
        found = differences(ours, theirs)
        if found:
            more = len(found) - _MOST
            found = found[:_MOST] + ([f"{more} more"] if more > 0 else [])
            raise ValueError(
                "The weights belong to another network. No weight was loaded. "
                f"What differs from this {type(self).__name__}: "
                f"{'; '.join(found)}. `keras.saving.load_model` on a `.keras` "
                "file makes the model that its weights belong to."
            )


def stored_meaning(filepath):
    """The meaning in a file of weights; None if it has none.

    Args:
        filepath: Path of a `.weights.h5`, `.weights.json` or `.keras` file.
    """
    filepath = str(filepath)
    if not os.path.exists(filepath):  # Keras says so, or finds it elsewhere.
        return None
    if filepath.endswith(".json"):  # In shards.
        with open(filepath, encoding="utf-8") as file:
            shards = json.load(file)["weight_map"].get("/vars", [])
        for shard in [shards] if isinstance(shards, str) else shards:
            return _read(os.path.join(os.path.dirname(filepath), shard))
        return None
    if zipfile.is_zipfile(filepath):
        with zipfile.ZipFile(filepath) as archive:
            if "model.weights.h5" not in archive.namelist():
                return None
            with archive.open("model.weights.h5") as file:
                return _read(io.BytesIO(file.read()))
    if filepath.endswith(".h5"):
        return _read(filepath)
    return None


def _read(file):
    with h5py.File(file, "r") as weights:
        stored = weights.get(f"vars/{_KEY}")
        return None if stored is None else _from_bytes(stored)


def _from_bytes(stored):
    return json.loads(bytes(np.asarray(stored)).decode())


def differences(ours, theirs):
    """What differs between two meanings, as sentences.

    Args:
        ours, theirs: Nested dicts of plain values, as JSON has them; the
            `weights` are a list of pairs of a path and a shape.

    Returns:
        List of str.
    """
    ours, theirs = dict(ours), dict(theirs)
    weights = _of_weights(ours.pop("weights"), theirs.pop("weights"))
    certain, possible = [], []
    for where, one, other in _unequal(ours, theirs):
        found = possible if None in (one, other) else certain
        found.append(
            f"{where or 'class'}: {_short(one)} here, "
            f"{_short(other)} in the file"
        )
    if not weights:
        return certain
    return certain + possible or weights


def _unequal(ours, theirs, where=""):
    """Yields where two plain values differ, and the two values."""
    if _is_by_name(ours) and not _is_by_name(theirs) and theirs != _NOTHING:
        theirs = dict.fromkeys(ours, theirs)
    elif _is_by_name(theirs) and not _is_by_name(ours) and ours != _NOTHING:
        ours = dict.fromkeys(theirs, ours)
    if not isinstance(ours, dict) or not isinstance(theirs, dict):
        if ours != theirs:
            yield where, ours, theirs
        return
    if ours.get("class") != theirs.get("class"):  # So do its arguments.
        yield where, ours.get("class", ours), theirs.get("class", theirs)
        return
    for key in dict.fromkeys([*ours, *theirs]):
        inside = f"{where} `{key}`" if where else str(key)
        yield from _unequal(
            ours.get(key, _NOTHING), theirs.get(key, _NOTHING), inside
        )


def _is_by_name(value):
    """Whether a value is one for each history, or copy: another is for all."""
    return isinstance(value, dict) and "class" not in value


def _of_weights(ours, theirs):
    """Differences of two tables of weights, by path and shape.

    Keras numbers the layers without a name of their own, another way in each
    process.
    """

    def counted(table):
        return collections.Counter(
            (re.sub(r"_[0-9]+(?=/|$)", "", path), tuple(shape))
            for path, shape in table
        )

    ours, theirs = counted(ours), counted(theirs)
    sides = (("here", ours - theirs), ("in the file", theirs - ours))
    return [
        f"weights {side}: `{path}` of shape {shape}"
        for side, more in sides
        for path, shape in more
    ]


def _short(value):
    if isinstance(value, dict) and "class" in value:
        value = value["class"]
    if value == _NOTHING:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
