"""The metrics as modules of Hugging Face `evaluate`: made here, nothing is fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peftrec.metrics.list_facts import ListFacts
from peftrec.metrics.list_metrics import LIST_METRICS, OVERALL_LIST_METRICS
from peftrec.metrics.rank import check_cutoff
from peftrec.metrics.rank_metrics import RANK_METRICS

if TYPE_CHECKING:
    from evaluate import EvaluationModule

_FROM_RANKS = (*RANK_METRICS, "auc")
_FROM_LISTS = (*LIST_METRICS, *OVERALL_LIST_METRICS)


def evaluate_metric(name: str, k: int = 10, facts: ListFacts | None = None, **settings: Any) -> EvaluationModule:
    """Make a metric a module of `evaluate`, for `.compute`, `.add`, `.add_batch` and `evaluate.combine`.

    Predictions are ranked lists of item ids, best first, references lists of the items that the user took; one row a
    user. Ids are whole numbers or texts. A target that is not in its list has the rank `MISS`. `compute` gives the mean
    over users under the key `<name>@<k>`, and takes `k` too. `auc` has no cutoff: its lists hold all that was ranked.
    Metrics of lists want `facts` of the same users in the same order, and ids that are indexes of its items; their
    mean leaves out users for whom they are not defined. They read no references, but `serendipity` does, in place of
    `facts.targets`.

    Args:
        name: of `RANK_METRICS`, `LIST_METRICS` or `OVERALL_LIST_METRICS`, or `auc`.
        k: cutoff, from 1.
        facts: for metrics of lists.
        settings: of `evaluate.EvaluationModule`, such as `experiment_id`; rows are kept in memory unless there are
            several processes.
    Returns:
        A module; `compute` raises ValueError if a row has no reference, or an item twice, naming the row.
    Raises:
        ValueError: if the name is not known, k is below 1, or facts are missing or not read.
        ImportError: if `evaluate` is not installed.
    """
    if name not in (*_FROM_RANKS, *_FROM_LISTS):
        raise ValueError(f"there is no metric '{name}'; there are {', '.join((*_FROM_RANKS, *_FROM_LISTS))}")
    check_cutoff(k)
    if (facts is None) != (name in _FROM_RANKS):
        raise ValueError(f"{name} reads no facts" if name in _FROM_RANKS else f"{name} needs facts of items and users")
    try:
        from peftrec.metrics.ranked_list_metric import RankedListMetric
    except ImportError as error:
        raise ImportError("evaluate is not installed: pip install 'peftrec[evaluate]'") from error
    settings.setdefault("keep_in_memory", settings.get("num_process", 1) == 1)
    # A module is named after its class, and `combine` tells modules apart by name.
    named = type(name, (RankedListMetric,), {"metric": name, "k": k, "facts": facts})
    module: EvaluationModule = named(**settings)
    return module
