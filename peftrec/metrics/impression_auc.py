"""AUC of impressions, and its mean over users (GAUC).

Shapes: S items shown in all impressions, I impressions, U users.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftrec.metrics.ratio import ratio


def impression_auc(
    labels: NDArray[np.int64] | NDArray[np.bool_],
    scores: NDArray[np.floating],
    impression_offsets: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Compute which share of each impression's pairs of a clicked and another item is in order.

    AUC = |pairs with score of clicked > score of other| / (clicked x others). Ties count against the model: a pair with
    equal scores is out of order (other tools count it half). NaN for an impression with clicks alone, without any, or
    without items.

    Args:
        labels: 1 for clicked and 0 for others, one impression's after the other's, shape (S,).
        scores: higher is better; infinite is allowed, shape (S,).
        impression_offsets: where each impression begins, and S at the end, shape (I + 1,).
    Returns:
        Between 0 and 1 for each impression, or NaN, shape (I,).
    Raises:
        ValueError: if shapes or offsets do not fit, a label is neither 0 nor 1, or a score is NaN; with the impression.
    Source:
        Fawcett (2006), An introduction to ROC analysis, section 7.
    """
    num_shown = len(labels)
    if labels.ndim != 1 or scores.shape != labels.shape:
        raise ValueError(f"labels and scores must have one shape (S,), got {labels.shape} and {scores.shape}")
    offsets = impression_offsets
    if offsets.ndim != 1 or not np.issubdtype(offsets.dtype, np.integer) or not len(offsets):
        raise ValueError(
            f"impression_offsets must be integers of shape (I + 1,), got {offsets.shape} of {offsets.dtype}"
        )
    if int(offsets[0]) != 0 or int(offsets[-1]) != num_shown or (np.diff(offsets) < 0).any():
        raise ValueError(f"impression_offsets must rise from 0 to {num_shown}, the number of labels")
    lengths_I = np.diff(offsets)
    num_impressions = len(lengths_I)
    impression_S = np.repeat(np.arange(num_impressions), lengths_I)
    if np.isnan(scores).any():
        raise ValueError(f"impression {int(impression_S[np.argmax(np.isnan(scores))])} has a score that is NaN")
    clicked_S = labels == 1
    if not (clicked_S | (labels == 0)).all():
        place = int(np.argmin(clicked_S | (labels == 0)))
        raise ValueError(f"impression {int(impression_S[place])} has the label {labels[place]}; labels are 0 and 1")
    # Within an impression, scores ascend, and of equal ones the clicked come first: the others before a clicked one
    # are then those with a lower score.
    order = np.lexsort((~clicked_S, scores, impression_S))
    clicked_S = clicked_S[order]
    others_upto = np.concatenate([[0], np.cumsum(~clicked_S)])
    below_S = others_upto[1:][clicked_S] - others_upto[offsets[:-1]][impression_S[clicked_S]]
    right_I = np.bincount(impression_S[clicked_S], below_S, minlength=num_impressions)
    clicks_I = np.bincount(impression_S[clicked_S], minlength=num_impressions)
    pairs_I = clicks_I * (lengths_I - clicks_I)
    return ratio(right_I, pairs_I)


@dataclass(frozen=True, kw_only=True)
class GroupAuc:
    """GAUC and what it is the mean of.

    Attributes:
        overall: weighted mean over users; NaN where no user has a value.
        users: those with an impression, ascending, shape (U,).
        per_user: weighted mean over each one's impressions; NaN where none has a value, shape (U,).
        weights: of each user, the sum over impressions that have a value, shape (U,).
    """

    overall: float
    users: NDArray[np.int64]
    per_user: NDArray[np.float64]
    weights: NDArray[np.float64]


def group_auc(
    values: NDArray[np.float64], users: NDArray[np.int64], weights: NDArray[np.floating] | None = None
) -> GroupAuc:
    """Compute the mean AUC of each user's impressions, and the mean over users.

    AUC_u = sum over the user's impressions of w_i AUC_i / sum of w_i, GAUC = sum over users of W_u AUC_u / sum of W_u,
    W_u = sum of w_i. Impressions without a value (NaN) weigh nothing.

    Args:
        values: AUC of each impression, or NaN, such as of `impression_auc`, shape (I,).
        users: user of each impression, any whole numbers, shape (I,).
        weights: of each impression, from 0, such as its clicks; None: 1 each, which weighs users by impressions,
            shape (I,).
    Returns:
        The overall mean, and values and weights per user.
    Raises:
        ValueError: if shapes differ, a value is infinite, or a weight is below 0 or not finite.
    Source:
        Zhu et al. (2017), Optimized Cost per Click in Taobao Display Advertising, section 5; Zhou et al. (2018), Deep
        Interest Network for Click-Through Rate Prediction, eq. 7. There, AUC_u is over all that a user was shown; here,
        scores of one impression are never compared with those of another.
    """
    weights = np.ones(len(values)) if weights is None else weights
    if values.ndim != 1 or users.shape != values.shape or weights.shape != values.shape:
        raise ValueError(
            f"values, users and weights must have one shape (I,), got {values.shape}, {users.shape}, {weights.shape}"
        )
    if not np.issubdtype(users.dtype, np.integer):
        raise ValueError(f"users must be integers, got {users.dtype}")
    if np.isinf(values).any():
        raise ValueError(f"the value of impression {int(np.argmax(np.isinf(values)))} is infinite")
    fine = np.isfinite(weights) & (weights >= 0)
    if not fine.all():
        raise ValueError(
            f"the weight of impression {int(np.argmin(fine))} is {weights[np.argmin(fine)]}; they are from 0"
        )
    distinct, row_I = np.unique(users, return_inverse=True)
    known = ~np.isnan(values)
    weights_U = np.bincount(row_I[known], weights[known], minlength=len(distinct)).astype(np.float64)
    sums_U = np.bincount(row_I[known], weights[known] * values[known], minlength=len(distinct))
    per_user = ratio(sums_U, weights_U)
    total = float(weights_U.sum())
    overall = float(sums_U.sum()) / total if total > 0 else float("nan")
    return GroupAuc(overall=overall, users=distinct.astype(np.int64), per_user=per_user, weights=weights_U)
