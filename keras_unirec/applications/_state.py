"""The state of a request: nested for the methods, flat for the halves."""

import dataclasses

import keras

from keras_unirec.layers.embedding._columns import Columns
from keras_unirec.layers.embedding._columns import cut
from keras_unirec.layers.embedding.feature_embedding import layer_name


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """Stands for a state tensor in the nested form."""

    name: str


@dataclasses.dataclass(frozen=True)
class _Columns:
    """Stands for columns, whose concatenation is the state tensor."""

    name: str
    columns: tuple


class State:
    """What `request` returned, as named tensors and back.

    A tensor that stands in several places is one state tensor. The names are
    the path: `{"events": [a, b]}` becomes `"state_events_0"` and
    `"state_events_1"`.

    Args:
        nested: dict, list or tuple of tensors, `Columns`, None, and what is
            no tensor.

    Attributes:
        tensors: dict of the symbolic tensors by name.
        lengths: List of dicts from the name of a tensor to the axis of its
            events: those of one mask have the same number.
    """

    def __init__(self, nested):
        self.tensors, self._names, self._groups = {}, {}, []
        self._form = self._flatten(nested, "state", [])
        if not self.tensors:
            raise ValueError(
                "`request` must return at least one tensor: the state has the "
                "axis of the requests. Received: no tensor"
            )
        self.lengths = self._joined_groups()

    def inputs(self):
        """`keras.Input`s by name, to trace the other half on."""
        return {
            name: keras.Input(
                shape=tensor.shape[1:], dtype=tensor.dtype, name=name
            )
            for name, tensor in self.tensors.items()
        }

    def nested(self, tensors):
        """The form that `request` returned, with other tensors.

        Args:
            tensors: dict of tensors by name.
        """

        def build(form):
            if isinstance(form, _Tensor):
                return tensors[form.name]
            if isinstance(form, _Columns):
                if not form.columns:
                    return Columns(())
                return cut(tensors[form.name], form.columns)
            if isinstance(form, dict):
                return {key: build(value) for key, value in form.items()}
            if isinstance(form, (list, tuple)):
                return type(form)(build(value) for value in form)
            return form

        return build(self._form)

    def _flatten(self, value, path, groups):
        if isinstance(value, Columns):
            name = self._add(value.tensor, path, groups) if len(value) else None
            return _Columns(name, value.columns)
        if isinstance(value, keras.KerasTensor):
            return _Tensor(self._add(value, path, groups))
        if isinstance(value, dict):
            if any(_is_mask(each) for each in value.values()):
                groups = [[]]
                self._groups.append(groups[0])
            return {
                key: self._flatten(
                    each, f"{path}_{layer_name(str(key))}", groups
                )
                for key, each in value.items()
            }
        if isinstance(value, (list, tuple)):
            return type(value)(
                self._flatten(each, f"{path}_{i}", groups)
                for i, each in enumerate(value)
            )
        return value

    def _add(self, tensor, path, groups):
        name = self._names.setdefault(id(tensor), path)
        if self.tensors.setdefault(name, tensor) is not tensor:
            raise ValueError(
                "Two entries of the state would have the same name. "
                f"Received: two of {name!r}"
            )
        if tensor.shape[0] is not None:
            raise ValueError(
                "The first axis of a state tensor must be the requests. "
                f"Received: {name!r} of shape {tuple(tensor.shape)}"
            )
        if None in tensor.shape[1:]:
            for group in groups:
                group.append(name)
        return name

    def _joined_groups(self):
        """Groups that share a tensor have the same number of events."""
        joined = []
        for group in map(set, self._groups):
            others = [other for other in joined if other & group]
            joined = [other for other in joined if not other & group]
            joined.append(group.union(*others))
        return [
            {
                name: tensor.shape.index(None, 1)
                for name, tensor in self.tensors.items()
                if name in group
            }
            for group in joined
        ]


def _is_mask(value):
    return (
        isinstance(value, keras.KerasTensor)
        and keras.backend.standardize_dtype(value.dtype) == "bool"
        and None in value.shape[1:]
    )
