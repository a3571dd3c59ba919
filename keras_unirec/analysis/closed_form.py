"""Parameters and multiply-accumulates of a model, by formula."""


def mixformer_closed_form(
    num_heads,
    dim,
    num_layers,
    feature_dim,
    event_feature_dim,
    history_length,
    hidden_dim=None,
    sequence_dim=None,
    sequence_hidden_dim=None,
    num_labels=1,
    batch_size=1,
    candidates=1,
):
    """MixFormer's counts in its default form, to check `profile` against.

    With N heads of width D, L layers, T events of width E, feed-forward
    hidden widths F (per head) and G (events), and R requests of C candidates:

    | part | parameters | multiply-accumulates |
    |---|---|---|
    | projection of events | `A E` | `R T A E` |
    | history encoders | `L (3 E G + E)` | `R T L 3 E G` |
    | tokenizer | `D_ns D` | `R C N ceil(D_ns / N) D` |
    | query mixers | `L (3 N D F + 2 D)` | `R C L 3 N D F` |
    | cross attention | `L 2 N D^2` | `R C L (2 N D^2 + 2 N D E + 2 T N E)` |
    | history map | `E N D` | (in the line above) |
    | output fusions | `L (3 N D F + D)` | `R C L 3 N D F` |
    | towers, a label | `D^2 + 2 D + 1` | `R C (D^2 + D)` |

    Keys and values are absorbed (`2 N D^2` a candidate instead of `2 N D^2`
    an event), and so is the map. Embedding tables and the dense layers of
    numerical columns are not included.

    Args:
        num_heads: int. N.
        dim: int. D.
        num_layers: int. L.
        feature_dim: int. D_ns, width of the concatenated features.
        event_feature_dim: int. A, width of the concatenated features of an
            event.
        history_length: int. T.
        hidden_dim: int. F. Defaults to `None`: 5 D.
        sequence_dim: int. E. Defaults to `None`: D.
        sequence_hidden_dim: int. G. Defaults to `None`: D.
        num_labels: int. Defaults to `1`.
        batch_size: int. R. Defaults to `1`.
        candidates: int. C. Defaults to `1`.

    Returns:
        dict from the part to its `(parameters, multiply-accumulates)`.
    """
    n, d, layers, t = num_heads, dim, num_layers, history_length
    f = 5 * d if hidden_dim is None else hidden_dim
    e = d if sequence_dim is None else sequence_dim
    g = d if sequence_hidden_dim is None else sequence_hidden_dim
    events, rows = batch_size * t, batch_size * candidates
    heads = 3 * n * d * f
    piece = -(-feature_dim // n)
    return {
        "projection": (event_feature_dim * e, events * event_feature_dim * e),
        "history_encoder": (
            layers * (3 * e * g + e),
            events * layers * 3 * e * g,
        ),
        "tokenizer": (feature_dim * d, rows * n * piece * d),
        "query_mixer": (layers * (heads + 2 * d), rows * layers * heads),
        "cross_attention": (
            layers * 2 * n * d * d,
            rows * layers * (2 * n * d * d + 2 * n * d * e + 2 * t * n * e),
        ),
        "history_map": (e * n * d, 0),
        "output_fusion": (layers * (heads + d), rows * layers * heads),
        "towers": (
            num_labels * (d * d + d + d + 1),
            num_labels * rows * (d * d + d),
        ),
    }
