import dataclasses

import keras

from keras_unirec.layers import _parts
from keras_unirec.layers._checks import check_bools
from keras_unirec.layers._checks import check_choice
from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers.embedding._columns import History
from keras_unirec.layers.embedding.feature_embedding import layer_name
from keras_unirec.layers.embedding.history_merge import HistoryMerge
from keras_unirec.layers.embedding.newest_first_position import (
    NewestFirstPosition,
)

POSITIONS = {"newest_first": NewestFirstPosition}


@keras.saving.register_keras_serializable(package="keras_unirec")
class Events(_parts.Composite):
    """The events of histories at the widths that a model reads.

    Every history has a linear map of its embedded columns to `dim`. Then the
    histories may be joined to one, and positions be added. A model calls
    `project`; the layer itself is not called.

    Args:
        dim: int, or dict of int by history: the width of an event. Defaults to
            `None`: what the model says.
        join: `None` keeps the histories apart; `"concatenate"` joins them one
            after the other, the last of the schema as the most recent;
            `"time"` by time, where each needs a `Timestamp`. Defaults to
            `None`: what the model says, or apart.
        max_length: int or None. Number of most recent events of the joined
            history to keep. Defaults to `None`: all.
        position: `"newest_first"`, a layer that is called with the events and
            their `mask`, or `None`. Defaults to `None`: no positions.
        use_bias: bool. Whether the map of each history has a bias: where they
            are joined, it says which one an event is of. Defaults to `False`.

    Example:
    ```python
    events = keras_unirec.layers.Events(dim=32, join="time")
    model = keras_unirec.applications.MixFormer(schema, events=events)
    ```

    Reference: [MixFormer, 2026](https://arxiv.org/abs/2602.14110), 3.2
    """

    parts = ("position",)
    # What stands for arguments that are None.
    resolved = {"max_length": "all"}

    def __init__(
        self,
        dim=None,
        join=None,
        max_length=None,
        position=None,
        use_bias=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for each in dim.values() if isinstance(dim, dict) else [dim]:
            check_positive_integers(optional=True, dim=each)
        check_choice((None, "apart", "concatenate", "time"), join=join)
        check_positive_integers(optional=True, max_length=max_length)
        check_bools(use_bias=use_bias)
        self.dim = dim
        self.join = join
        self.max_length = max_length
        self.position = _parts.make(
            "position",
            position,
            POSITIONS,
            self.dtype_policy,
            optional=True,
            shared=False,
        )
        self.use_bias = use_bias
        self._layers_by_name = {}

    @property
    def joins(self):
        """bool. Whether all histories become one."""
        return self.join not in (None, "apart")

    def widths(self, names):
        """The width of an event, by history.

        Raises:
            ValueError: If `dim` is open or does not name the histories, or
                joined ones have different widths; or if `max_length` is given
                for histories that are apart.
        """
        widths = by_history("dim", self.dim, names)
        if None in widths.values():
            raise ValueError(
                "`dim` must be given where no model says it. "
                f"Received: dim={self.dim}"
            )
        if self.joins and len(set(widths.values())) > 1:
            raise ValueError(
                "Histories that are joined share one `dim`. "
                f"Received: join={self.join!r}, dim={self.dim}"
            )
        if self.max_length is not None and not self.joins:
            raise ValueError(
                "`max_length` is that of the joined history; the histories are "
                "apart, and each has the `max_length` of its `Sequence`. "
                f"Received: max_length={self.max_length}, join={self.join!r}"
            )
        return widths

    def project_to_one(self, histories):
        """`project`, for a model that reads one history of all events.

        Raises:
            ValueError: If several histories stay apart.
        """
        projected = self.project(histories)
        if len(projected) > 1:
            raise ValueError(
                "This model reads one history: `join` of its `Events` must be "
                f'"concatenate" or "time". Received: join={self.join!r} with '
                f"the histories {list(histories)}"
            )
        return projected[0]

    def project(self, histories):
        """Projects, joins and adds positions.

        Args:
            histories: dict of `History` by name.

        Returns:
            List of `History`: one for each, or one for all.
        """
        widths = self.widths(histories)
        projected = [
            self._projected(history, widths[name])
            for name, history in histories.items()
        ]
        if self.joins:
            projected = [self._joined(projected)]
        if self.position is None:
            return projected
        return [self._with_position(history) for history in projected]

    def _projected(self, history, width):
        projection = keras.layers.Dense(
            width,
            use_bias=self.use_bias,
            dtype=self.dtype_policy,
            name=f"{layer_name(history.name)}_projection",
        )
        self._layers_by_name[projection.name] = projection
        return dataclasses.replace(history, events=projection(history.events))

    def _joined(self, histories):
        by_time = self.join == "time"
        untimed = [h.name for h in histories if h.gaps is None]
        if by_time and untimed:
            raise ValueError(
                '`join="time"` needs a `Timestamp` in every sequence. '
                f"Received: sequences without one: {untimed}"
            )
        longest = sum(history.max_length for history in histories)
        joined = History(
            name="joined",
            events=histories[0].events,
            mask=histories[0].mask,
            gaps=None,
            ids={},
            max_length=min(longest, self.max_length or longest),
        )
        if len(histories) == 1 and self.max_length is None and not by_time:
            return joined
        merge = HistoryMerge(
            self.max_length, dtype=self.dtype_policy, name="history_merge"
        )
        events, mask = merge(
            [history.events for history in histories],
            [history.mask for history in histories],
            [history.gaps for history in histories] if by_time else None,
        )
        return dataclasses.replace(joined, events=events, mask=mask)

    def _with_position(self, history):
        name = layer_name(history.name)
        position = _parts.copy(
            "position",
            self.position,
            self.dtype_policy,
            f"{name}_position",
            max_length=history.max_length,
        )
        self._layers_by_name[position.name] = position
        return dataclasses.replace(
            history, events=position(history.events, mask=history.mask)
        )

    def get_config(self):
        config = super().get_config()
        config["dim"] = self.dim
        config["join"] = self.join
        config["max_length"] = self.max_length
        config["use_bias"] = self.use_bias
        return config


def by_history(argument, value, names):
    """One value for all histories, or a dict by name, as a dict by name.

    Raises:
        ValueError: If the dict does not name the histories.
    """
    names = list(names)
    values = value if isinstance(value, dict) else dict.fromkeys(names, value)
    if set(values) != set(names):
        raise ValueError(
            f"`{argument}` must be one value, or a dict with one for each "
            f"history of {names}. Received: {argument}={value}"
        )
    return {name: values[name] for name in names}
