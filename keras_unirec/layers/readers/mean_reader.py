import keras

from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers.embedding._columns import column
from keras_unirec.layers.embedding.feature_embedding import layer_name
from keras_unirec.layers.history.events import by_history
from keras_unirec.layers.history.history_mean import HistoryMean
from keras_unirec.layers.readers.history_reader import HistoryReader


@keras.saving.register_keras_serializable(package="keras_unirec")
class MeanReader(HistoryReader):
    """Histories as features: the mean of the events of each, projected.

    The means are columns of the request, named `"<history>.mean"`.

    Args:
        dim: int, or dict of int by history: width of a mean. Defaults to
            `64`.

    Example:
    ```python
    reader = keras_unirec.layers.MeanReader(dim=32)
    keras_unirec.applications.RankMixer(schema, history_reader=reader)
    ```
    """

    needs_histories = False

    def __init__(self, dim=64, **kwargs):
        super().__init__(**kwargs)
        for each in dim.values() if isinstance(dim, dict) else [dim]:
            check_positive_integers(dim=each)
        self.dim = dim
        self._layers_by_name = {}

    def request(self, context, histories):
        dims = by_history("dim", self.dim, histories)
        means = []
        for name, history in histories.items():
            layer = f"{layer_name(name)}"
            mean = HistoryMean(dtype=self.dtype_policy, name=f"{layer}_mean")
            # Linear: the mean of projections is the projection of the mean.
            projection = keras.layers.Dense(
                dims[name],
                use_bias=False,
                dtype=self.dtype_policy,
                name=f"{layer}_projection",
            )
            self._layers_by_name[name] = projection
            x = projection(mean(history.events, mask=history.mask))
            means.append(column(f"{name}.mean", "sequence", "vector", x))
        context = context.joined(*means)
        if not len(context.columns):  # A state has the axis of the requests.
            raise ValueError(
                "The schema needs a user or context column or a history. "
                "Received: item columns only"
            )
        return {"context": context}

    def get_config(self):
        return {**super().get_config(), "dim": self.dim}
