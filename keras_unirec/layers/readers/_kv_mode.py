"""Whether keys and values are computed, or absorbed by the queries."""

KV_MODES = ("auto", "absorbed", "projected")


def resolve_kv_mode(kv_mode, num_candidates, length, macs):
    """`"auto"` by cost where shapes are static, else `"absorbed"`.

    Args:
        kv_mode: `"auto"`, or what is returned as it is.
        num_candidates: int, or None where it is not static.
        length: int, or None. Number of events.
        macs: Function of the two that returns the multiply-accumulates, a
            dict by mode.

    Returns:
        `"absorbed"` or `"projected"`.
    """
    if kv_mode != "auto":
        return kv_mode
    if num_candidates is None or length is None:
        return "absorbed"
    costs = macs(num_candidates, length)
    return min(costs, key=costs.get)
