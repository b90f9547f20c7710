"""All list metrics by name; a new one is its own file and one line here."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.calibration import calibration
from peftrec.metrics.catalogue_coverage import catalogue_coverage
from peftrec.metrics.category_diversity import category_diversity
from peftrec.metrics.gini import gini
from peftrec.metrics.intra_list_diversity import intra_list_diversity
from peftrec.metrics.item_list import check_lists
from peftrec.metrics.list_facts import ListFacts
from peftrec.metrics.novelty import novelty
from peftrec.metrics.popularity_lift import popularity_lift
from peftrec.metrics.rank import check_cutoff
from peftrec.metrics.serendipity import serendipity


class ListMetric(NamedTuple):
    """A metric of lists and the facts that it is computed from.

    Attributes:
        compute: lists (U, K) and these facts to values per user (U,), or to one value of all lists.
        facts: attributes of `ListFacts`, in the order of the arguments; none may be None.
        told: what reports say that it is.
        higher_is_better: True or False; None where neither is.
    """

    compute: Callable[..., Any]
    facts: tuple[str, ...]
    told: str
    higher_is_better: bool | None = True


LIST_METRICS: Final[Mapping[str, ListMetric]] = {
    "novelty": ListMetric(novelty, ("counts", "num_counted"), "mean self-information in bits"),
    "popularity_lift": ListMetric(
        popularity_lift,
        ("history_popularity", "counts"),
        "how much more popular the list is than the history, as a share",
        None,
    ),
    "diversity": ListMetric(intra_list_diversity, ("vectors",), "mean distance of pairs by text (1 - cosine)"),
    "category_diversity": ListMetric(category_diversity, ("categories",), "mean distance of pairs by category"),
    "serendipity": ListMetric(serendipity, ("targets", "counts"), "hits that popularity would not have made"),
    "calibration": ListMetric(
        calibration,
        ("history_items", "history_offsets", "categories"),
        "divergence of the list's categories from the history's, 0 is best",
        False,
    ),
}
"""One value per user."""

OVERALL_LIST_METRICS: Final[Mapping[str, ListMetric]] = {
    "coverage": ListMetric(catalogue_coverage, ("num_items",), "share of the catalogue in somebody's list"),
    "gini": ListMetric(gini, ("num_items",), "inequality of exposure, 0 is even", False),
}
"""One value of all lists together."""


def list_metrics(
    lists: NDArray[np.int64], facts: ListFacts, ks: Sequence[int], names: Sequence[str] | None = None
) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
    """Compute every list metric whose facts are known, at every cutoff.

    Keys of values per user are `novelty@k`, `popularity_lift@k`, `diversity@k`, `category_diversity@k`,
    `serendipity@k` and `calibration@k`; keys of values of all lists together are `coverage@k` and `gini@k`. A list is
    cut at k. A value is NaN where the metric is not defined for that user; means are over the others.

    Args:
        lists: item indexes, best first, one list a user, -1 for places without an item, shape (U, K).
        facts: of the catalogue and of the same users.
        ks: cutoffs, at least one, each from 1 to K.
        names: which metrics, without cutoff; None: all whose facts are there.
    Returns:
        Values per user, each of shape (U,), and values of all lists together.
    Raises:
        ValueError: if lists or facts have another shape or hold what is out of range, if there is no cutoff or one is
            beyond K, or if a metric is named that is not known or whose facts are missing.
    """
    check_lists(lists, facts.num_items)
    if not ks:
        raise ValueError("ks must name at least one cutoff, such as (10,)")
    for k in ks:
        check_cutoff(k)
        if k > lists.shape[1]:
            raise ValueError(f"the lists have {lists.shape[1]} places, too few for a cutoff of {k}")
    known = _known_facts(facts, names)
    per_user: dict[str, NDArray[np.float64]] = {}
    overall: dict[str, float] = {}
    for k in ks:
        for name, arguments in known.items():
            if name in LIST_METRICS:
                per_user[f"{name}@{k}"] = LIST_METRICS[name].compute(lists[:, :k], *arguments)
            else:
                overall[f"{name}@{k}"] = OVERALL_LIST_METRICS[name].compute(lists[:, :k], *arguments)
    return per_user, overall


def _known_facts(facts: ListFacts, names: Sequence[str] | None) -> dict[str, list[Any]]:
    """Give the facts of each metric; of those not named, leave out what has none."""
    metrics = {**LIST_METRICS, **OVERALL_LIST_METRICS}
    unknown = [name for name in names or () if name not in metrics]
    if unknown:
        raise ValueError(f"there is no metric '{unknown[0]}'; there are {', '.join(metrics)}")
    known = {}
    for name in metrics if names is None else names:
        arguments = {fact: getattr(facts, fact) for fact in metrics[name].facts}
        missing = [fact for fact, value in arguments.items() if value is None]
        if missing and names is not None:
            raise ValueError(f"{name} needs {' and '.join(missing)}, which the facts lack")
        if not missing:
            known[name] = list(arguments.values())
    return known
