import keras
from keras import ops

from keras_unirec.layers import _parts
from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers.embedding._columns import concatenate
from keras_unirec.layers.embedding.feature_embedding import layer_name
from keras_unirec.layers.history._by_name import ENCODERS
from keras_unirec.layers.history._by_name import encode
from keras_unirec.layers.history.events import Events
from keras_unirec.layers.history.events import by_history
from keras_unirec.layers.history.history_mean import HistoryMean
from keras_unirec.layers.readers.history_reader import HistoryReader
from keras_unirec.layers.readers.history_reader import make_each
from keras_unirec.layers.readers.query_decoding import QueryDecoding
from keras_unirec.layers.residual._by_name import make_residual
from keras_unirec.layers.tokens.query_generation import QueryGeneration


@keras.saving.register_keras_serializable(package="keras_unirec")
class DecodingReader(HistoryReader):
    """Queries of each candidate read the encoded histories, layer by layer.

    Layer l encodes what layer l - 1 has encoded, the first one the events; in
    every layer the queries of a history read what was encoded of it. After the
    last one they are tokens. It is the first stage of LONGER + RankMixer, where
    queries come from the item columns, and what `HyFormer` does between its
    boosting.

    Args:
        num_layers: int. Defaults to `2`.
        dim: int or None. Width of a query. Defaults to `None`: that of a token
            of the model.
        events: `Events`. Defaults to `None`: 64 wide, with positions.
        encoder: `"longer"`, `"transformer"`, `"swiglu"`, a layer, or dict of
            them by history. Defaults to `"longer"`.
        queries: `QueryGeneration`. Defaults to `None`: from the item columns.
        reader: `QueryDecoding`, or another reader of one history with the
            number of its queries; or dict of them by history. Defaults to
            `None`: `QueryDecoding(residual="pre_rms")`.
        residual: The residual scheme of the readers that leave it open.
            Defaults to `None`: that of `HyFormer`, elsewhere theirs.

    Example:
    ```python
    reader = keras_unirec.layers.DecodingReader(encoder="transformer")
    keras_unirec.applications.RankMixer(schema, history_reader=reader)
    ```

    Reference: [LONGER, 2025](https://arxiv.org/abs/2505.04421);
    [HyFormer, 2026](https://arxiv.org/abs/2601.12681), eq. 3-9 and Table 2
    """

    parts = ("events", "encoder", "queries", "reader", "residual")
    # It is in what is `made` of the reader.
    no_meaning = ("residual",)

    def __init__(
        self,
        num_layers=2,
        dim=None,
        events=None,
        encoder="longer",
        queries=None,
        reader=None,
        residual=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_positive_integers(num_layers=num_layers)
        check_positive_integers(optional=True, dim=dim)
        policy = self.dtype_policy
        self.num_layers = num_layers
        self.dim = dim
        if events is None:
            events = Events(64, position="newest_first", dtype=policy)
        self.events = _instance("events", events, Events)
        self.encoder = make_each("encoder", encoder, ENCODERS, policy, True)
        if queries is None:
            queries = QueryGeneration(context="target", dtype=policy)
        self.queries = _instance("queries", queries, QueryGeneration)
        if reader is None:
            reader = QueryDecoding(residual="pre_rms", dtype=policy)
        self.reader = make_each(
            "reader",
            reader,
            {"query_decoding": QueryDecoding},
            policy,
            needs=("request", "candidates", "num_queries"),
        )
        self.residual = make_residual(residual, policy, optional=True)
        self.made = {"encoder": {}, "reader": {}}

    def num_queries(self, names):
        """Numbers of queries, by history that is read; joined ones are one."""
        readers = by_history("reader", self.reader, names)
        numbers = {
            name: getattr(each, "part", each).num_queries
            for name, each in readers.items()
        }
        if self.events.joins:
            return {"joined": sum(numbers.values())}
        return numbers

    def num_features(self, schema, num_tokens):
        super().num_features(schema, num_tokens)
        names = [sequence.name for sequence in schema.sequences]
        read = sum(self.num_queries(names).values())
        if num_tokens <= read:
            raise ValueError(
                "`num_tokens` must exceed the number of queries, "
                f"{read} (`num_queries` of the reader of every history): the "
                "rest are the tokens of the other features. "
                f"Received: num_tokens={num_tokens}"
            )
        return num_tokens - read

    def request(self, context, histories):
        if self.dim is None:
            raise ValueError(
                "`dim` of the `DecodingReader` must be given: this model has "
                "no tokens whose width its queries could have. "
                "Received: dim=None"
            )
        numbers = self.num_queries(histories)
        state = {"context": context, "histories": {}}
        projected = self.events.project(histories)
        if self.queries.context == "all":
            state["summary"] = concatenate(map(self._mean, projected))
        for history in projected:
            encoded, mask = encode(
                self._copies("encoder", history, histories),
                history.events,
                history.mask,
                history.max_length,
            )
            readers = self._copies("reader", history, histories)
            shape = (None, None, numbers[history.name], self.dim)
            state["histories"][history.name] = {
                "events": [
                    reader.request(events, shape)
                    for reader, events in zip(readers, encoded)
                ],
                "mask": mask,
            }
        total = sum(numbers.values())
        for name, expected in (("num_queries", total), ("dim", self.dim)):
            value = getattr(self.queries, name)
            if value not in (None, expected):
                raise ValueError(
                    f"`{name}` of `queries` is what the model says, {expected};"
                    f" leave it out. Received: {name}={value}"
                )
        self._generation = _parts.copy(
            "queries",
            self.queries,
            self.dtype_policy,
            "query_generation",
            num_queries=total,
            dim=self.dim,
        )
        self._numbers = numbers
        return state

    def _copies(self, part, history, histories):
        """The copies of a part for all layers of one history."""
        value = getattr(self, part)
        if self.events.joins and isinstance(value, dict):
            raise ValueError(
                "Histories that are joined share one "
                f"`{part}`. Received: {part}={value}"
            )
        name = layer_name(history.name)
        if not self.events.joins:
            value = by_history(part, value, histories)[history.name]
        written, settings = f"{name}_encoder_{{}}", {}
        if part == "reader":
            written = f"query_decoding_{{}}_{name}"
            settings["residual"] = _parts.serialized(self.residual)
        copies = _parts.copies(
            part,
            value,
            self.dtype_policy,
            [written.format(i) for i in range(self.num_layers)],
            **settings,
        )
        self.made[part][history.name] = copies
        return copies

    def _mean(self, history):
        mean = HistoryMean(
            dtype=self.dtype_policy, name=f"{layer_name(history.name)}_mean"
        )
        return mean(history.events, mask=history.mask)

    def generate(self, features, items, state):
        """The queries of the first layer.

        Args:
            features: Feature tokens `(R, C, M, D)`.
            items: `Columns` of the candidates.
            state: What `request` returned.

        Returns:
            dict of tensors `(R, C, N_s, D)` by history.
        """
        generation = self._generation
        if features is None and generation.context != "target":
            raise ValueError(
                "A model without feature tokens generates queries from the "
                'item columns: `QueryGeneration(context="target")`. '
                f"Received: context={generation.context!r}"
            )
        if generation.context == "target":
            queries = generation(items.tensor)
        else:
            if generation.tokens is not None:
                if max(generation.tokens) >= features.shape[-2]:
                    raise ValueError(
                        "`tokens` must be a list of different indices of the "
                        f"{features.shape[-2]} feature tokens. "
                        f"Received: tokens={list(generation.tokens)}"
                    )
                features = ops.take(features, generation.tokens, axis=-2)
            num_tokens, dim = features.shape[-2:]
            flat = keras.layers.Reshape(
                (-1, num_tokens * dim), dtype=self.dtype_policy
            )
            queries = generation(flat(features), *self._summary(state))
        return self.split(queries)

    def _summary(self, state):
        return (state["summary"],) if self.queries.context == "all" else ()

    def split(self, tokens):
        """The first tokens, as those of each history: a dict by name."""
        parts, start = {}, 0
        for name, number in self._numbers.items():
            parts[name] = tokens[:, :, start : start + number]
            start += number
        return parts

    def decode(self, i, queries, state):
        """Layer i: the queries of each history read it.

        Args:
            i: int.
            queries: dict of tensors `(R, C, N_s, D)` by history.
            state: What `request` returned.

        Returns:
            dict like `queries`.
        """
        return {
            name: self.made["reader"][name][i].candidates(
                queries[name], kept["events"][i], mask=kept["mask"]
            )
            for name, kept in state["histories"].items()
        }

    def read_tokens(self, features, items, state):
        if features is not None and features.shape[-1] != self.dim:
            raise ValueError(
                "`dim` of the `DecodingReader` must be that of the tokens of "
                f"the model, {features.shape[-1]}, or be left out. "
                f"Received: dim={self.dim}"
            )
        queries = self.generate(features, items, state)
        for i in range(self.num_layers):
            queries = self.decode(i, queries, state)
        return list(queries.values())

    def get_config(self):
        config = super().get_config()
        config["num_layers"] = self.num_layers
        config["dim"] = self.dim
        return config


def _instance(argument, part, cls):
    if not isinstance(part, cls):
        raise ValueError(
            f"`{argument}` must be a `{cls.__name__}`. "
            f"Received: {argument}={part!r}"
        )
    return part
