"""Estimates of metrics as if all items were equally likely to be seen: self-normalised inverse propensities.

Shapes: C cases, U users.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftrec.evaluation.bootstrap import check_resampling, ratio_intervals
from peftrec.losses import ItemPropensities, effective_number

# Below so many cases, or this part of all, the figures hang on a few targets.
_FEW_CASES, _FEW_PART = 100, 0.1


def snips(values_C: NDArray[np.float64], propensities_C: NDArray[np.float64], users_C: NDArray[np.int64]) -> float:
    """Compute the self-normalised estimate of a mean from values that were seen with unequal chances.

    snips = sum_c w_c v_c / sum_c w_c, with w_c = 1 / (p_c m_c) and m_c the number of cases of c's user: where every
    user has one case, sum_c (v_c / p_c) / sum_c (1 / p_c). Equal propensities give the mean over users of each user's
    mean. It lies between the lowest and the highest value; it is consistent, not unbiased.

    Args:
        values_C: one a case.
        propensities_C: chance of the case's target to be seen, up to a factor that all share; above 0.
        users_C: whose case it is.
    Raises:
        ValueError: if there are no cases, shapes differ, or a propensity is not above 0.
    Source:
        Swaminathan and Joachims (2015), The Self-Normalized Estimator for Counterfactual Learning; for recommendations
        Schnabel et al. (2016), Recommendations as Treatments.
    """
    weights_C = case_weights(propensities_C, users_C)
    if values_C.shape != weights_C.shape:
        raise ValueError(f"values must be one a case, got shape {values_C.shape} for {len(weights_C)} cases")
    return float((weights_C * values_C).sum() / weights_C.sum())


def case_weights(propensities_C: NDArray[np.float64], users_C: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return w_c = 1 / (p_c m_c), see `snips`; arguments and errors as there."""
    if propensities_C.shape != users_C.shape or not len(users_C):
        raise ValueError(
            f"propensities must be one a case, at least one, got shape {propensities_C.shape} for {len(users_C)} cases"
        )
    if not (np.isfinite(propensities_C) & (propensities_C > 0)).all():
        raise ValueError(f"propensities must be above 0, got {propensities_C.min()}")
    _, row_C, cases_U = np.unique(users_C, return_inverse=True, return_counts=True)
    weights_C: NDArray[np.float64] = 1 / (propensities_C * cases_U[row_C])
    return weights_C


def snips_intervals(
    values: Mapping[str, NDArray[np.float64]],
    propensities_C: NDArray[np.float64],
    users_C: NDArray[np.int64],
    *,
    level: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Compute percentile bootstrap intervals of `snips`, of the ratio itself: users are drawn with all their cases.

    See `ratio_intervals`, of each user's sum of w_c v_c over that of w_c. Deterministic by seed; all metrics are of the
    same samples.

    Args:
        values: one a case, by metric.
        propensities_C: and `users_C`, as in `snips`.
        level: share of resampled estimates inside, between 0 and 1.
        num_resamples: from 1.
        seed: seed of the draws.
    Returns:
        The low and the high end of each metric.
    Raises:
        ValueError: as `snips` does, or if a value is not finite, or level or num_resamples is out of range.
    """
    weights_C = case_weights(propensities_C, users_C)
    for values_C in values.values():
        check_resampling(values_C, level, num_resamples)
    _, row_C = np.unique(users_C, return_inverse=True)
    weights_U = np.bincount(row_C, weights_C).astype(np.float64)
    sums = [np.bincount(row_C, weights_C * values_C).astype(np.float64) for values_C in values.values()]
    ends = ratio_intervals(sums, weights_U, level=level, num_resamples=num_resamples, seed=seed)
    return dict(zip(values, ends, strict=True))


def snips_block(
    values: Mapping[str, NDArray[np.float64]],
    targets_C: NDArray[np.int64],
    users_C: NDArray[np.int64],
    propensities: ItemPropensities,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Give estimates, intervals and how much they rest on, as plain JSON values.

    Args:
        values: one a case, by metric; NaN where it is not defined for one, which is then left out.
        targets_C: the item of each case.
        users_C: whose case it is.
        propensities: of the catalogue.
        level: level of the intervals, between 0 and 1.
        seed: seed of their draws.
    Returns:
        The keys `metrics`, `intervals`, `effective_cases` ((sum w)^2 / sum w^2: so many equally weighted cases would
        say as much), `few` (whether that is below 100, or a tenth of the cases), `power`, `column`, `clip`, `source`. A
        metric that is defined for no case is None, and has no interval.
    Raises:
        ValueError: if a value is infinite, or level is out of range.
    """
    propensities_C, config = propensities.values_N[targets_C], propensities.config
    effective = effective_number(case_weights(propensities_C, users_C))
    metrics: dict[str, float | None] = dict.fromkeys(values)
    intervals: dict[str, list[float]] = {}
    for rows_C, names in _by_cases(values):
        taken = {name: values[name][rows_C] for name in names}
        arguments = (propensities_C[rows_C], users_C[rows_C])
        metrics |= {name: snips(values_C, *arguments) for name, values_C in taken.items()}
        found = snips_intervals(taken, *arguments, level=level, seed=seed)
        intervals |= {name: list(ends) for name, ends in found.items()}
    return {
        "metrics": metrics,
        "intervals": intervals,
        "effective_cases": effective,
        "few": effective < max(_FEW_CASES, _FEW_PART * len(targets_C)),
        "power": config.power,
        "column": config.column,
        "clip": config.clip,
        "source": config.source,
    }


def _by_cases(values: Mapping[str, NDArray[np.float64]]) -> Iterator[tuple[NDArray[np.bool_], list[str]]]:
    """Group metrics by the cases that they are defined for; those of no case are left out."""
    groups: dict[bytes, list[str]] = {}
    for name, values_C in values.items():
        groups.setdefault((~np.isnan(values_C)).tobytes(), []).append(name)
    for mask, names in groups.items():
        rows_C = np.frombuffer(mask, dtype=np.bool_)
        if rows_C.any():
            yield rows_C, names
