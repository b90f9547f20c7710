"""Impressions ranked: AUC of what a user was shown together, and its mean over users.

Shapes: I impressions, S items shown in all of them, B impressions of a chunk, N items of the catalogue, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.evaluation.bootstrap import ratio_intervals
from peftrec.evaluation.product import ProductScores
from peftrec.evaluation.ranking import UserScores, users_at_once
from peftrec.metrics import GroupAuc, group_auc, impression_auc

if TYPE_CHECKING:
    from peftrec.data.impression import Impressions

_IMPRESSIONS_AT_ONCE = 512


def impression_results(scores: UserScores | ProductScores, impressions: Impressions, num_items: int) -> dict[str, Any]:
    """Measure how a model ranks the items of each impression.

    Args:
        scores: what scores the catalogue.
        impressions: of known items.
        num_items: size N of the catalogue.
    Returns:
        `gauc`, the mean over users of the mean AUC of their impressions, users weighted by impressions;
        `gauc_by_clicks`, both weighted by clicks; `intervals` of both (95 %; users are drawn, with all their
        impressions); `num_impressions` and `num_users`.
    Raises:
        InputError: if a score is NaN.
    """
    scores_S = impression_scores(scores, impressions, num_items)
    if not np.isfinite(scores_S).all():
        raise InputError(f"{int((~np.isfinite(scores_S)).sum())} scores of impressions are NaN or infinite")
    auc_I = impression_auc(impressions.clicked, scores_S, impressions.offsets)
    clicks_I = np.add.reduceat(impressions.clicked.astype(np.float64), impressions.offsets[:-1])
    by_impression = group_auc(auc_I, impressions.users_I)
    by_click = group_auc(auc_I, impressions.users_I, clicks_I)
    return {
        "gauc": by_impression.overall,
        "gauc_by_clicks": by_click.overall,
        "intervals": {"gauc": _interval(by_impression), "gauc_by_clicks": _interval(by_click)},
        "num_impressions": len(impressions),
        "num_users": len(by_impression.users),
    }


def _interval(found: GroupAuc) -> list[float]:
    """Return the interval of a mean over users whose weights are drawn with them."""
    (ends,) = ratio_intervals([np.nan_to_num(found.per_user) * found.weights], found.weights)
    return list(ends)


@torch.no_grad()
def impression_scores(
    scores: UserScores | ProductScores, impressions: Impressions, num_items: int
) -> NDArray[np.float64]:
    """Return the score of every item that was shown, shape (S,)."""
    found = np.empty(len(impressions.items), dtype=np.float64)
    most = _IMPRESSIONS_AT_ONCE
    most = most if isinstance(scores, ProductScores) else users_at_once(most, num_items)
    for start in range(0, len(impressions), most):
        stop = min(start + most, len(impressions))
        histories, users = impressions.histories(start, stop), impressions.users_I[start:stop]
        here = slice(int(impressions.offsets[start]), int(impressions.offsets[stop]))
        items = torch.from_numpy(impressions.items[here])
        rows = torch.from_numpy(np.repeat(np.arange(stop - start), np.diff(impressions.offsets[start : stop + 1])))
        if isinstance(scores, ProductScores):
            # The whole history is given; only its newest part is read.
            users_BD = scores.user_vectors(histories[:, -scores.max_history :], users, None, None)
            items = items.to(users_BD.device)
            products = (users_BD[rows.to(users_BD.device)] * scores.vectors_ND[items]).sum(dim=1)
            values = products + scores.bias_N[items]
        else:
            values = scores(histories, users, None, None).cpu()[rows, items]
        found[here] = values.double().cpu().numpy()
    return found
