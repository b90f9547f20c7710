"""Gaps between groups: what users get by their own or their targets' attributes, and how lists share out exposure.

Shapes: C cases, U users, G groups, M metrics, R resamples, N items of the catalogue, K length of a list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from peftrec.data.group_table import Groups
from peftrec.evaluation.evaluation import Evaluation
from peftrec.evaluation.slice import Slice
from peftrec.metrics import exposure_ratio, group_gaps, higher_is_better

FEWEST_USERS: Final = 20
"""Users with a value that a group must have to be the best or the worst."""
# Counts of draws that are held at once: 8 bytes each.
_MOST_DRAWS = 4_000_000


def gap_rows(
    found: Mapping[str, Evaluation],
    slices: Sequence[Slice],
    *,
    fewest: int = FEWEST_USERS,
    num_resamples: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Compare the groups of one column: for every model and metric the best, the worst, and how far they are apart.

    The interval (95 %, percentile) is of the difference between these two groups; users are drawn with replacement, all
    with whatever groups they are in. It does not know that the two were picked as the ends, so that of many groups it
    lies too far from 0.

    Args:
        found: evaluations of the same cases in the same order, by what they are called.
        slices: the groups, of these cases.
        fewest: users with a value that a group must have to be compared.
        num_resamples: draws of the users.
        seed: of the draws, which are the same for all models and metrics.
    Returns:
        `kind`, `model`, `metric`, `difference`, `interval`, `best`, `worst`, `best_mean`, `worst_mean`; best is the
        highest, but for metrics of which lower is better. No row where fewer than two groups can be compared.
    Source:
        Ekstrand et al. (2018), All The Cool Kids, How Do They Fit In?: differences of effectiveness between groups.
    """
    rows = []
    for model, evaluation in found.items():
        parts = [_of_group(evaluation, part) for part in slices]
        draws_RGM = _resampled_means(parts, len(np.unique(evaluation.users)), num_resamples, seed)
        for place, metric in enumerate(evaluation.per_user):
            defined = [values[:, place][~np.isnan(values[:, place])] for _, values in parts]
            groups = [number for number, values in enumerate(defined) if len(values) >= fewest]
            if len(groups) < 2:
                continue
            gaps = group_gaps(
                np.concatenate([defined[number] for number in groups]),
                np.repeat(np.arange(len(groups)), [len(defined[number]) for number in groups]),
                [slices[number].name for number in groups],
                higher_is_better=higher_is_better(metric) is not False,
            )
            assert gaps.best is not None
            assert gaps.worst is not None
            number_of = {slices[number].name: number for number in groups}
            ends = sorted((gaps.best, gaps.worst), key=lambda name: -gaps.means[name])
            high, low = (draws_RGM[:, number_of[name], place] for name in ends)
            rows.append(
                {
                    "kind": slices[0].kind,
                    "model": model,
                    "metric": metric,
                    "difference": gaps.gap,
                    "interval": np.nanquantile(high - low, [0.025, 0.975]).tolist(),
                    "best": gaps.best,
                    "worst": gaps.worst,
                    "best_mean": gaps.means[gaps.best],
                    "worst_mean": gaps.means[gaps.worst],
                }
            )
    return rows


def _of_group(evaluation: Evaluation, part: Slice) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return users of a group, numbered as among all, and the mean of each over their cases in it, shape (U, M)."""
    taken = evaluation.take(part.rows_C)
    means = taken.user_means()
    several = len(np.unique(taken.users)) < len(taken.users)
    users = np.unique(taken.users) if several else taken.users
    return np.searchsorted(np.unique(evaluation.users), users), np.stack([*means.values()], axis=1)


def _resampled_means(
    parts: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]], num_users: int, num_resamples: int, seed: int
) -> NDArray[np.float64]:
    """Draw all users with replacement, and take the means of every group and metric; NaN where none was drawn."""
    rng = np.random.default_rng(seed)
    means_RGM = np.empty((num_resamples, len(parts), parts[0][1].shape[1]))
    sums = [np.nan_to_num(values) for _, values in parts]
    defined = [(~np.isnan(values)).astype(np.float64) for _, values in parts]
    block = max(1, _MOST_DRAWS // num_users)
    for start in range(0, num_resamples, block):
        stop = min(start + block, num_resamples)
        drawn = rng.integers(0, num_users, size=(stop - start, num_users))
        drawn += np.arange(stop - start)[:, None] * num_users
        counts = np.bincount(drawn.ravel(), minlength=(stop - start) * num_users).reshape(-1, num_users)
        for group, (users, _) in enumerate(parts):
            of_group = counts[:, users].astype(np.float64)
            with np.errstate(invalid="ignore"):
                means_RGM[start:stop, group] = (of_group @ sums[group]) / (of_group @ defined[group])
    return means_RGM


def exposure_rows(
    lists: Mapping[str, NDArray[np.int64]], kinds: Mapping[str, Groups], counts_N: NDArray[np.int64], *, most: int = 12
) -> list[dict[str, Any]]:
    """Compare the share of places in lists that groups of items have with their share of training events.

    Args:
        lists: of each model the lists, -1 beyond their ends, shape (C, K).
        kinds: groups of all items, by what they are called; an item of several groups counts in each.
        counts_N: training events of every item.
        most: groups of a kind to tell of, those with most training events.
    Returns:
        `kind`, `name`, `part` (of training events), and for each model `shares` of all places and `ratios`, which are
        shares over parts (`exposure_ratio`), None where there was no event.
    """
    rows: list[dict[str, Any]] = []
    for kind, groups in kinds.items():
        parts_G = groups.sums(counts_N) / max(1, int(counts_N.sum()))
        shares = {model: _shares(items_CK, groups) for model, items_CK in lists.items()}
        ratios = {model: exposure_ratio(shares_G, parts_G) for model, shares_G in shares.items()}
        for place in sorted(np.argsort(-parts_G, kind="stable")[:most].tolist()):
            rows.append(
                {
                    "kind": kind,
                    "name": groups.names[place],
                    "part": float(parts_G[place]),
                    "shares": {model: float(shares_G[place]) for model, shares_G in shares.items()},
                    "ratios": {model: _plain(ratios_G[place]) for model, ratios_G in ratios.items()},
                }
            )
    return rows


def _plain(ratio: float) -> float | None:
    return None if np.isnan(ratio) else float(ratio)


def _shares(items_CK: NDArray[np.int64], groups: Groups) -> NDArray[np.float64]:
    """Return the share of all places in lists that items of each group have, shape (G,)."""
    shown_N = np.bincount(items_CK[items_CK >= 0], minlength=len(groups.known))
    shares_G: NDArray[np.float64] = groups.sums(shown_N) / max(1, int(shown_N.sum()))
    return shares_G
