"""What weights mean: what a model and a file of weights must agree in."""

import hashlib
import io
import json
import zipfile

import h5py
import numpy as np

_KEY = "meaning"
_MOST = 5  # Differences that a message names.


class Saving:
    """Weights know what they mean, and a model refuses those of another.

    A mixin of a `keras.Model` with a method `meaning()`: a nested dict of
    plain values. It is saved beside the weights; where it differs, no weight
    is loaded, and the error names what differs.
    """

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        """`keras.Model.load_weights`, of a file of the same network.

        Args:
            filepath: Path of a `.weights.h5` or `.keras` file.
            skip_mismatch: bool. Whether to load what fits, layer by layer,
                into a model that differs. Defaults to `False`.
            **kwargs: Other arguments of `keras.Model.load_weights`.

        Raises:
            ValueError: If the weights are those of another network; names what
                differs. No weight has changed then.
        """
        theirs = None if skip_mismatch else stored_meaning(filepath)
        if theirs is not None:
            self._check_meaning(theirs)
        self._skip_meaning = True  # Checked, or told not to.
        try:
            super().load_weights(
                filepath, skip_mismatch=skip_mismatch, **kwargs
            )
        finally:
            self._skip_meaning = False

    def save_own_variables(self, store):
        store[_KEY] = _to_bytes(self.meaning())

    def load_own_variables(self, store):
        # Without the key: written by Keras itself.
        if not getattr(self, "_skip_meaning", False) and _KEY in store.keys():
            self._check_meaning(_from_bytes(store[_KEY]))

    def _check_meaning(self, theirs):
        found = differences(json.loads(json.dumps(self.meaning())), theirs)
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
    """The meaning in a `.weights.h5` or `.keras` file; None if it has none."""
    filepath = str(filepath)
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


def _to_bytes(meaning):
    text = json.dumps(meaning, sort_keys=True)
    return np.frombuffer(text.encode(), "uint8")


def _from_bytes(stored):
    return json.loads(bytes(np.asarray(stored)).decode())


def differences(ours, theirs, where=""):
    """What differs between two nested dicts, as sentences.

    Args:
        ours, theirs: Plain values, as JSON has them.
        where: str. Where they stand.

    Returns:
        List of str.
    """
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = []
        for key in dict.fromkeys([*ours, *theirs]):
            inside = f"{where} `{key}`" if where else str(key)
            if key not in ours:
                found.append(f"{inside}: only in the file")
            elif key not in theirs:
                found.append(f"{inside}: not in the file")
            else:
                found += differences(ours[key], theirs[key], inside)
        return found
    if ours == theirs:
        return []
    return [f"{where}: {_short(ours)} here, {_short(theirs)} in the file"]


def _short(value):
    text = json.dumps(value)
    return text if len(text) <= 100 else text[:97] + "..."


def plain(value):
    """A config as plain values; learned arrays as a digest.

    A dict by history whose values are all equal means the same as one value.
    """
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "packed" in value:
        digest = hashlib.sha256(value["packed"].encode()).hexdigest()
        return f"values {digest[:12]}"
    return {str(key): plain(each) for key, each in value.items()}
