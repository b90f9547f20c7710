"""Which way metrics are better."""

from peftrec.metrics.list_metrics import LIST_METRICS, OVERALL_LIST_METRICS
from peftrec.metrics.rank_metrics import rank_keys


def higher_is_better(key: str) -> bool | None:
    """Tell whether a higher value of a metric is the better one.

    Args:
        key: of a metric, such as `ndcg@10`, `sampled100_hr@10` or `calibration@10`.
    Returns:
        True for metrics of ranks and most of lists, False where lower is better; None where neither is
        (`popularity_lift`, where 0 is what the history has), or no such metric is known.
    """
    if rank_keys([key]):
        return True
    metric = {**LIST_METRICS, **OVERALL_LIST_METRICS}.get(key.partition("@")[0])
    return None if metric is None else metric.higher_is_better
