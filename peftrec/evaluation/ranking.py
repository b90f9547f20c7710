"""Ranking of the whole catalogue, in chunks of users.

Shapes: B users of a chunk, L history, N catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.evaluation.evaluation import Evaluation
from peftrec.evaluation.product import ProductScores, unordered
from peftrec.evaluation.product_ranking import product_ranks
from peftrec.evaluation.shared import shared_rows
from peftrec.launch import Ranks
from peftrec.metrics import MISS, rank_metrics

if TYPE_CHECKING:
    from peftrec.data import Cases, Sequences

# Of whole rows, that are held at once.
MOST_SCORES = 2**26

Scores = Callable[[NDArray[np.int64]], torch.Tensor]
"""Histories (B, L), left padded with -1, newest last, to scores of the whole catalogue (B, N)."""

UserScores = Callable[
    [NDArray[np.int64], NDArray[np.int64] | None, NDArray[np.int64] | None, NDArray[np.int64] | None], torch.Tensor
]
"""Histories, indexes of their users (B,), kinds and times of their events (B, L) or None, to scores (B, N)."""


def evaluate_cases(
    scores: Scores | UserScores | ProductScores,
    cases: Cases,
    sequences: Sequences,
    num_items: int,
    *,
    ks: Sequence[int] = (10,),
    exclude_history: bool = True,
    batch_users: int = 512,
    of_users: bool = False,
    names: Sequence[str] | None = None,
    processes: Ranks | None = None,
) -> Evaluation:
    """Rank each case's target among the whole catalogue.

    rank = 1 + number of other items that are not excluded and score at least as high as the target: ties count
    against the model. The excluded history is always the full one, however little of it the scorer sees; a target that
    lies in it has the rank `MISS`. A user without history is ranked among all items. No gradient is kept, and memory
    does not grow with the number of users: of `ProductScores` a block of items is held at a time, of others whole rows
    of one chunk, which are only read.

    Several processes rank a share of the cases each. Ranks are those of one process; where sums over other chunks of
    users round otherwise, items whose scores differ by that alone may change places.

    Args:
        scores: histories (B, L) to scores (B, N), higher is better, or `ProductScores`; on any device.
        cases: one or more a user.
        sequences: the users' events, which the cases index.
        num_items: size N of the catalogue.
        ks: cutoffs of the metrics, each from 1.
        exclude_history: leave the user's full history out of the ranking.
        batch_users: users scored at once, from 1; fewer where whole rows of so many would be 256 MiB.
        of_users: whether `scores` are `UserScores`; `ProductScores` are told of users in any case.
        names: which of `RANK_METRICS`; None: `DEFAULT_RANK_METRICS`.
        processes: that share the work, called alike on each; None for this one alone.
    Returns:
        Ranks and metrics of every case, in their order; all of them on every process.
    Raises:
        InputError: if there are no cases, one is there twice, or a score is NaN or infinite (with their number and the
            first user); if another process has failed, or what all found together is not of these cases.
        ValueError: if the scores have another shape than (B, N), or an argument is out of range.
    """
    _check(cases, num_items, ks, batch_users, names)

    def rank(part: Cases) -> NDArray[np.int64]:
        if isinstance(scores, ProductScores):
            found = product_ranks(scores, part, sequences, num_items, exclude_history, batch_users)
        else:
            found = _whole_ranks(scores, part, sequences, num_items, exclude_history, batch_users, of_users)
        return np.stack(found, axis=1)

    rows_C2 = shared_rows(rank, cases, sequences, processes)
    ranks, repeated = rows_C2[:, 0].copy(), rows_C2[:, 1] == 1
    if exclude_history:
        ranks[repeated] = MISS
    return Evaluation(
        users=cases.users.copy(),
        targets=cases.targets.copy(),
        ranks=ranks,
        per_user=rank_metrics(ranks, ks, names),
        repeat_target_share=float(repeated.mean()),
        num_items=num_items,
        exclude_history=exclude_history,
    )


def users_at_once(batch_users: int, num_items: int) -> int:
    """Return of how many users whole rows of scores are held: `batch_users`, or fewer where these are 256 MiB."""
    return max(1, min(batch_users, MOST_SCORES // num_items))


def _whole_ranks(
    scores: Scores | UserScores,
    cases: Cases,
    sequences: Sequences,
    num_items: int,
    exclude_history: bool,
    batch_users: int,
    of_users: bool,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the ranks of targets among whole rows of scores, and which lie in their user's history."""
    num_cases = len(cases.users)
    ranks = np.empty(num_cases, dtype=np.int64)
    repeated = np.empty(num_cases, dtype=np.bool_)
    batch_users = users_at_once(batch_users, num_items)
    for start in range(0, num_cases, batch_users):
        stop = min(start + batch_users, num_cases)
        histories_BL = cases.histories(sequences, start, stop)
        targets_B = cases.targets[start:stop]
        user_ids = [sequences.user_ids[user] for user in cases.users[start:stop]]
        excluded_BL = histories_BL if exclude_history else histories_BL[:, :0]
        with torch.no_grad():
            scores_BN = scores(histories_BL, *(_known(cases, sequences, start, stop) if of_users else ()))
            _check_scores(scores_BN, num_items, user_ids)
            ranks[start:stop] = _ranks(scores_BN, targets_B, excluded_BL)
        del scores_BN  # before the next chunk's are made
        repeated[start:stop] = (histories_BL == targets_B[:, None]).any(axis=1)
    return ranks, repeated


def _known(
    cases: Cases, sequences: Sequences, start: int, stop: int
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None, NDArray[np.int64] | None]:
    """Return what `UserScores` take beside histories."""
    kinds = cases.event_histories(sequences, start, stop)
    return cases.users[start:stop], kinds, cases.time_histories(sequences, start, stop)


def _ranks(scores_BN: torch.Tensor, targets_B: NDArray[np.int64], excluded_BL: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count what scores at least as high as the target, less the excluded items among it.

    The count over the catalogue includes the target itself, which is the 1 of the rank. Counting and subtracting
    leaves the scores untouched: no copy, no sort over the catalogue. Wrong where the target is excluded.
    """
    device = scores_BN.device
    targets_B1 = torch.from_numpy(targets_B).to(device).unsqueeze(1)
    target_scores_B1 = scores_BN.gather(1, targets_B1)
    ranks_B = (scores_BN >= target_scores_B1).sum(dim=1, dtype=torch.int32)  # twice as fast as int64
    # An item that occurs twice in a history is one item of the catalogue: keep the first of equal neighbours.
    sorted_BL = np.sort(excluded_BL, axis=1)
    counted_BL = sorted_BL >= 0
    counted_BL[:, 1:] &= sorted_BL[:, 1:] != sorted_BL[:, :-1]
    excluded_scores_BL = scores_BN.gather(1, torch.from_numpy(np.maximum(sorted_BL, 0)).to(device))
    above_BL = (excluded_scores_BL >= target_scores_B1) & torch.from_numpy(counted_BL).to(device)
    ranks: NDArray[np.int64] = (ranks_B - above_BL.sum(dim=1)).cpu().numpy()
    return ranks


def _check(cases: Cases, num_items: int, ks: Sequence[int], batch_users: int, names: Sequence[str] | None) -> None:
    """Refuse what cannot be evaluated before anything is scored."""
    if len(cases.users) == 0:
        raise InputError("there are no cases to evaluate: the split left no user with a target")
    cases_C3 = np.stack([cases.users, cases.history_lengths, cases.targets], axis=1)
    distinct, counts = np.unique(cases_C3, axis=0, return_counts=True)
    if len(distinct) < len(cases.users):
        user, _, target = distinct[counts > 1][0]
        raise InputError(
            f"a case must be there once; user {user} with target {target} is there {int(counts.max())} times"
        )
    if int(cases.targets.min()) < 0 or int(cases.targets.max()) >= num_items:
        raise ValueError(f"targets must be items 0 to {num_items - 1}, got {int(cases.targets.max())}")
    if batch_users < 1:
        raise ValueError(f"batch_users must be from 1, got {batch_users}")
    rank_metrics(np.empty(0, dtype=np.int64), ks, names)


def _check_scores(scores_BN: torch.Tensor, num_items: int, user_ids: Sequence[str]) -> None:
    """Refuse scores of the wrong shape, and scores that have no order."""
    expected = (len(user_ids), num_items)
    if tuple(scores_BN.shape) != expected:
        raise ValueError(f"scores must have the shape (users, items) = {expected}, got {tuple(scores_BN.shape)}")
    # A sum is finite only if every term is: one pass without a mask in the usual case.
    if scores_BN.sum().isfinite():
        return
    bad_BN = ~scores_BN.isfinite()
    num_bad = int(bad_BN.sum())
    if num_bad:
        raise unordered(num_bad, bad_BN.numel(), user_ids[int(bad_BN.any(dim=1).nonzero()[0, 0])])
