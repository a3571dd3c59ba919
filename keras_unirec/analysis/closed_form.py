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
    num_item_heads=None,
    item_feature_dim=None,
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

    UI-MixFormer has the same parameters. Of its N heads, N_G are computed
    `R C` times and the others `R` times: `R (N - N_G) + R C N_G` stands for
    `R C N`, and the slices of the tokenizers are those of each side.

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
        num_item_heads: int. N_G. Defaults to `None`: not decoupled.
        item_feature_dim: int. The part of `feature_dim` that the item columns
            are; with `num_item_heads`.

    Returns:
        dict from the part to its `(parameters, multiply-accumulates)`.
    """
    n, d, layers, t = num_heads, dim, num_layers, history_length
    f = 5 * d if hidden_dim is None else hidden_dim
    e = d if sequence_dim is None else sequence_dim
    g = d if sequence_hidden_dim is None else sequence_hidden_dim
    events, rows = batch_size * t, batch_size * candidates
    sides = [(n, feature_dim, rows)]  # Heads, width, how often.
    if num_item_heads is not None:
        sides = [
            (n - num_item_heads, feature_dim - item_feature_dim, batch_size),
            (num_item_heads, item_feature_dim, rows),
        ]
    head_rows = sum(heads * times for heads, _, times in sides)
    network = 3 * d * f
    return {
        "projection": (event_feature_dim * e, events * event_feature_dim * e),
        "history_encoder": (
            layers * (3 * e * g + e),
            events * layers * 3 * e * g,
        ),
        "tokenizer": (
            feature_dim * d,
            sum(
                times * heads * -(-width // heads) * d
                for heads, width, times in sides
            ),
        ),
        "query_mixer": (
            layers * (n * network + 2 * d),
            layers * head_rows * network,
        ),
        "cross_attention": (
            layers * 2 * n * d * d,
            layers * head_rows * (2 * d * d + 2 * d * e + 2 * t * e),
        ),
        "history_map": (e * n * d, 0),
        "output_fusion": (
            layers * (n * network + d),
            layers * head_rows * network,
        ),
        "towers": _towers(d, (d,), num_labels, rows),
    }


def hyformer_closed_form(
    num_tokens,
    dim,
    num_layers,
    feature_dim,
    histories,
    hidden_dim,
    num_heads,
    head_dim,
    sequence_dim=64,
    encoder="longer",
    encoder_hidden_dim=None,
    recent_length=100,
    query_hidden_dim=64,
    target_dim=None,
    kv_mode="absorbed",
    tower_units=None,
    num_labels=1,
    batch_size=1,
    candidates=1,
):
    """HyFormer's counts without norm, with one query for each history.

    With S histories of T events of width E, M = T_tok - S feature tokens,
    T_tok tokens of width D, L layers, attention of h heads, together W wide,
    hidden widths F (per token), G (events) and Q (queries), and R requests of
    C candidates; sums run over the histories:

    | part | parameters | multiply-accumulates |
    |---|---|---|
    | projection of events | `sum A E` | `R sum T A E` |
    | positions | `sum P E` | 0 |
    | encoders | `L sum (4 E^2 + 2 E G + G + 3 E)` | see below |
    | means of histories | 0 | `R sum T E` |
    | tokenizer | `D_ns D` | `R C M ceil(D_ns / M) D` |
    | query generation | `(M D + S E + 1) S Q + S (Q + 1) D` | see below |
    | decoding | `L S 2 (D + E) W` | `R C L sum (2 D W + 2 E W + 2 T' h E)` |
    | boosting | `L T_tok (2 D F + F + D)` | `R C L T_tok 2 D F` |
    | towers | a dense chain from `T_tok D` | a candidate |

    An encoder that turns T events into T' costs
    `R L (T' (2 E^2 + 2 E G) + 2 T E^2 + 2 T' T E)`; T' is T for the full
    Transformer and at most L_H for LONGER. That of `"swiglu"` has
    `3 E G + E` parameters and costs `R L T 3 E G`. The query generation costs
    `R C (M D S Q + S Q D)` and `R (S E) S Q`. Projected keys and values cost
    `R L sum 2 T' E W`, and the decoding then `R C L sum (2 D W + 2 T' W)`.

    Embedding tables, multi-valued columns and the dense layers of numerical
    columns are not included.

    Args:
        num_tokens: int. T_tok.
        dim: int. D.
        num_layers: int. L.
        feature_dim: int. D_ns, width of the concatenated features.
        histories: list of tuples, for each history the width of the
            concatenated features of an event (A), the number of positions (P,
            its `max_length`) and the number of events (T).
        hidden_dim: int. F.
        num_heads: int. h.
        head_dim: int. W / h.
        sequence_dim: int. E. Defaults to `64`.
        encoder: `"longer"`, `"transformer"` or `"swiglu"`. Defaults to
            `"longer"`.
        encoder_hidden_dim: int. G. Defaults to `None`: 2 E.
        recent_length: int. L_H. Defaults to `100`.
        query_hidden_dim: int. Q. Defaults to `64`.
        target_dim: int. With it, queries are generated from item columns of
            this width alone, `QueryGeneration(context="target")`. Defaults to
            `None`.
        kv_mode: `"absorbed"` or `"projected"`. Defaults to `"absorbed"`.
        tower_units: tuple of int. Defaults to `None`: `(dim,)`.
        num_labels: int. Defaults to `1`.
        batch_size: int. R. Defaults to `1`.
        candidates: int. C. Defaults to `1`.

    Returns:
        dict from the part to its `(parameters, multiply-accumulates)`.
    """
    d, layers, e = dim, num_layers, sequence_dim
    f, q = hidden_dim, query_hidden_dim
    g = 2 * e if encoder_hidden_dim is None else encoder_hidden_dim
    w, s = num_heads * head_dim, len(histories)
    m = num_tokens - s
    rows = batch_size * candidates
    total = sum(t for _, _, t in histories)
    read = [
        min(t, recent_length) if encoder == "longer" else t
        for _, _, t in histories
    ]
    if encoder == "swiglu":
        encoding = (3 * e * g + e, total * 3 * e * g)
    else:
        encoding = (
            4 * e * e + 2 * e * g + g + 3 * e,
            sum(
                r * (2 * e * e + 2 * e * g) + 2 * t * e * e + 2 * r * t * e
                for r, (_, _, t) in zip(read, histories, strict=True)
            ),
        )
    if kv_mode == "absorbed":
        key_values = 0
        attention = 2 * s * e * w + 2 * sum(read) * num_heads * e
    else:
        key_values = sum(read) * 2 * e * w
        attention = 2 * sum(read) * w
    context = m * d if target_dim is None else target_dim
    summary = s * e if target_dim is None else 0
    return {
        "projection": (
            sum(a * e for a, _, _ in histories),
            batch_size * sum(t * a * e for a, _, t in histories),
        ),
        "position": (sum(p * e for _, p, _ in histories), 0),
        "encoder": (
            layers * s * encoding[0],
            batch_size * layers * encoding[1],
        ),
        "mean": (0, batch_size * total * e if summary else 0),
        "tokenizer": (feature_dim * d, rows * m * -(-feature_dim // m) * d),
        "query_generation": (
            (context + summary + 1) * s * q + s * (q + 1) * d,
            rows * (context * s * q + s * q * d) + batch_size * summary * s * q,
        ),
        "query_decoding": (
            layers * s * 2 * (d + e) * w,
            rows * layers * (s * 2 * d * w + attention)
            + batch_size * layers * key_values,
        ),
        "query_boosting": _token_networks(num_tokens, d, f, layers, rows),
        "towers": _towers(
            num_tokens * d, tower_units or (d,), num_labels, rows
        ),
    }


def rankmixer_closed_form(
    num_tokens,
    dim,
    num_layers,
    feature_dim,
    histories,
    hidden_dim,
    sequence_dim=64,
    tower_units=None,
    num_labels=1,
    batch_size=1,
    candidates=1,
):
    """RankMixer's counts in its default form, after `MeanReader(E)`.

    With T tokens of width D, L blocks, hidden width F, S histories, of which
    each has events of width A and becomes a mean of width E, and R requests
    of C candidates:

    | part | parameters | multiply-accumulates |
    |---|---|---|
    | means of histories | 0 | `R sum length A` |
    | projection of the means | `sum A E` | `R sum A E` |
    | tokenizer | `X D` with `X = D_ns + S E` | `R C T ceil(X / T) D` |
    | networks | `L T (2 D F + F + D)` | `R C L T 2 D F` |
    | norms | `L 4 D` | 0 |
    | towers | a dense chain from `D` | a candidate |

    Args:
        num_tokens: int. T.
        dim: int. D.
        num_layers: int. L.
        feature_dim: int. D_ns, width of the concatenated features.
        histories: list of tuples, for each history the width of the
            concatenated features of an event (A) and the number of events.
        hidden_dim: int. F.
        sequence_dim: int. E. Defaults to `64`.
        tower_units: tuple of int. Defaults to `None`: `(dim,)`.
        num_labels: int. Defaults to `1`.
        batch_size: int. R. Defaults to `1`.
        candidates: int. C. Defaults to `1`.

    Returns:
        dict from the part to its `(parameters, multiply-accumulates)`.
    """
    d, rows = dim, batch_size * candidates
    projection = sum(a * sequence_dim for a, _ in histories)
    width = feature_dim + len(histories) * sequence_dim
    piece = -(-width // num_tokens)
    return {
        "mean": (0, batch_size * sum(t * a for a, t in histories)),
        "projection": (projection, batch_size * projection),
        "tokenizer": (width * d, rows * num_tokens * piece * d),
        "feed_forward": _token_networks(
            num_tokens, d, hidden_dim, num_layers, rows
        ),
        "norms": (num_layers * 4 * d, 0),
        "towers": _towers(d, tower_units or (d,), num_labels, rows),
    }


def unimixer_closed_form(
    num_tokens,
    dim,
    num_layers,
    feature_dim,
    histories,
    hidden_dim,
    block_size=4,
    num_bases=None,
    rank=None,
    num_iterations=20,
    sequence_dim=64,
    tower_units=None,
    num_labels=1,
    batch_size=1,
    candidates=1,
):
    """UniMixer's counts in its default form, full or Lite.

    With T tokens of width D in N = T D / B blocks of width B, L layers, hidden
    width F, K iterations of Sinkhorn-Knopp, and R requests of C candidates:

    | part | parameters | multiply-accumulates |
    |---|---|---|
    | pooling, projection, tokenizer, towers | as RankMixer | as RankMixer |
    | block: per-token SwiGLU | `L T 3 D F` | `R C L T 3 D F` |
    | block: mixing | see below | `R C L T D (B + N)` |
    | block: Sinkhorn-Knopp | 0 | `L 2 (K - 1) (N^2 + N B^2)`, once a batch |
    | block: norm of the mixed tokens | `L D` | 0 |
    | norms of the two streams | `L 2 D + D` | 0 |

    Full mixing has `L (N^2 + N B^2)` parameters. Lite has
    `L (b B^2 + N b + 2 N r)`, and its logits cost `L (N b B^2 + N^2 r)`
    multiply-accumulates, once a batch.

    Args:
        num_tokens: int. T.
        dim: int. D.
        num_layers: int. L.
        feature_dim: int. D_ns, width of the concatenated features.
        histories: list of tuples, for each history the width of the
            concatenated features of an event and the number of events.
        hidden_dim: int. F.
        block_size: int. B. Defaults to `4`.
        num_bases: int. b, of Lite. Defaults to `None`: full mixing.
        rank: int. r, of Lite. Defaults to `None`: N / 8.
        num_iterations: int. K. Defaults to `20`.
        sequence_dim: int, the width of the mean of a history. Defaults to
            `64`.
        tower_units: tuple of int. Defaults to `None`: `(dim,)`.
        num_labels: int. Defaults to `1`.
        batch_size: int. R. Defaults to `1`.
        candidates: int. C. Defaults to `1`.

    Returns:
        dict from the part to its `(parameters, multiply-accumulates)`.
    """
    rows, width = batch_size * candidates, num_tokens * dim
    n = width // block_size
    local, mixing = n * block_size**2, n**2
    build = 2 * (num_iterations - 1) * (local + mixing)
    if num_bases is None:
        logits = local + mixing
    else:
        r = rank or max(1, n // 8)
        logits = num_bases * (block_size**2 + n) + 2 * n * r
        build += num_bases * local + mixing * r
    networks = 3 * num_tokens * dim * hidden_dim
    around = rankmixer_closed_form(
        num_tokens,
        dim,
        0,
        feature_dim,
        histories,
        0,
        sequence_dim,
        tower_units,
        num_labels,
        batch_size,
        candidates,
    )
    around.pop("feed_forward")
    return {
        **around,
        "block": (
            num_layers * (networks + logits + dim),
            num_layers * (rows * (networks + width * (block_size + n)) + build),
        ),
        "norms": (num_layers * 2 * dim + dim, 0),
    }


def _token_networks(num_tokens, dim, hidden_dim, num_layers, rows):
    """Two matrices with biases for every token of every layer."""
    networks = num_layers * num_tokens
    macs = 2 * dim * hidden_dim
    return networks * (macs + hidden_dim + dim), rows * networks * macs


def _towers(width, units, num_labels, rows):
    """Dense layers of `units` and the logit, for every label."""
    parameters = macs = 0
    for unit in (*units, 1):
        parameters += (width + 1) * unit
        macs += width * unit
        width = unit
    return num_labels * parameters, num_labels * rows * macs
