"""Ranks among sampled candidates, which published tables have and which mislead: for reproducing these alone.

Shapes: C cases, B users of a chunk, N items of the catalogue, K places of a row (the target, then what was drawn), D
width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data import Cases
from peftrec.evaluation.config import SampledCandidatesConfig
from peftrec.evaluation.evaluation import Evaluation
from peftrec.evaluation.product import ProductScores, unordered
from peftrec.evaluation.product_ranking import user_vectors
from peftrec.evaluation.ranking import Scores, UserScores, users_at_once
from peftrec.evaluation.shared import shared_rows
from peftrec.launch import Ranks
from peftrec.metrics import MISS, rank_metrics

if TYPE_CHECKING:
    from peftrec.data import Sequences

# Draws that may be in vain before what is left is weighed item by item.
_MOST_ROUNDS = 8
# Numbers of gathered item vectors that are held at once: 64 MiB.
_MOST_GATHERED = 2**24


def evaluate_sampled(
    scores: Scores | UserScores | ProductScores,
    cases: Cases,
    sequences: Sequences,
    item_counts: NDArray[np.int64],
    sampled: SampledCandidatesConfig,
    *,
    ks: Sequence[int] = (10,),
    batch_users: int = 512,
    of_users: bool = False,
    names: Sequence[str] | None = None,
    processes: Ranks | None = None,
) -> Evaluation:
    """Rank each case's target among so many drawn items, which are the same for every model.

    rank = 1 + number of drawn items that score at least as high as the target; a target in the user's own history has
    the rank `MISS`. Such numbers are no estimate of those over the whole catalogue and may order models otherwise:
    keys begin with `sampled100_`, and the protocol says what was drawn, with a digest of the draws: results are
    comparable only where the very same items were drawn.

    Args:
        scores: as in `evaluate_cases`.
        cases: one or more a user.
        sequences: the users' events, which the cases index.
        item_counts: events of each item that popularity is read from, shape (N,).
        sampled: how many, how drawn, with which seed.
        ks: cutoffs of the metrics, each from 1.
        batch_users: users scored at once, from 1.
        of_users: whether `scores` are `UserScores`.
        names: of the metrics; None: `DEFAULT_RANK_METRICS`.
        processes: that share the work, called alike on each, as in `evaluate_cases`; None for this one alone.
    Returns:
        Ranks and metrics of every case, in their order; all of them on every process.
    Raises:
        InputError: if there are no cases, fewer items than asked for can be drawn, or a score is NaN or infinite; if
            another process has failed, or what all found together is not of these cases.
        ValueError: if batch_users is below 1.
    Source:
        Krichene and Rendle (2020), On sampled metrics for item recommendation, which shows why not to use them.
    """
    if not len(cases):
        raise InputError("there are no cases to evaluate: the split left no user with a target")
    if batch_users < 1:
        raise ValueError(f"batch_users must be from 1, got {batch_users}")

    def rank(part: Cases) -> NDArray[np.int64]:
        drawn = draw_candidates(part, sequences, item_counts, sampled)
        found = _sampled_ranks(scores, part, sequences, drawn, len(item_counts), batch_users, of_users)
        return np.concatenate([np.stack(found, axis=1), drawn], axis=1)

    rows = shared_rows(rank, cases, sequences, processes)
    ranks, repeated, drawn = rows[:, 0].copy(), rows[:, 1] == 1, rows[:, 2:]
    ranks[repeated] = MISS
    return Evaluation(
        users=cases.users.copy(),
        targets=cases.targets.copy(),
        ranks=ranks,
        per_user={f"{sampled.prefix}{key}": values for key, values in rank_metrics(ranks, ks, names).items()},
        repeat_target_share=float(repeated.mean()),
        num_items=len(item_counts),
        exclude_history=True,
        catalogue=f"{sampled.describe()}, draws {_digest(drawn)}",
    )


def _sampled_ranks(
    scores: Scores | UserScores | ProductScores,
    cases: Cases,
    sequences: Sequences,
    drawn_CK: NDArray[np.int64],
    num_items: int,
    batch_users: int,
    of_users: bool,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the ranks of targets among what was drawn, and which lie in their user's history."""
    places_CK = np.concatenate([cases.targets[:, None], drawn_CK], axis=1)
    ranks = np.empty(len(cases), dtype=np.int64)
    repeated = np.empty(len(cases), dtype=np.bool_)
    at_once = users_at_once(batch_users, num_items)
    for start in range(0, len(cases), at_once):
        here = slice(start, start + at_once)
        part = Cases(cases.users[here], cases.history_lengths[here], cases.targets[here])
        with torch.no_grad():
            scores_BK = _scores_of(scores, part, sequences, places_CK[here], batch_users, of_users)
        if not bool(scores_BK.isfinite().all()):
            bad_BK = ~scores_BK.isfinite()
            user = sequences.user_ids[part.users[int(bad_BK.any(dim=1).nonzero()[0, 0])]]
            raise unordered(int(bad_BK.sum()), scores_BK.numel(), user)
        ranks[here] = 1 + (scores_BK[:, 1:] >= scores_BK[:, :1]).sum(dim=1).cpu().numpy()
        repeated[here] = (part.histories(sequences, 0, len(part)) == part.targets[:, None]).any(axis=1)
    return ranks, repeated


def _digest(drawn_CK: NDArray[np.int64]) -> str:
    return hashlib.sha256(np.sort(drawn_CK, axis=1).astype("<i8").tobytes()).hexdigest()[:12]


def draw_candidates(
    cases: Cases, sequences: Sequences, item_counts: NDArray[np.int64], sampled: SampledCandidatesConfig
) -> NDArray[np.int64]:
    """Draw items for each case, without replacement, neither its target nor what its user has had before.

    Each draw takes an item of those left with a chance in proportion to its weight: 1, or its count with
    `by: popularity`. A case's draws depend on the seed, its user, its place in the user's events and the data alone.

    Args:
        cases: one or more a user.
        sequences: the users' events.
        item_counts: events of each item, shape (N,); with `by: popularity`, items without any are never drawn.
        sampled: how many, how drawn, with which seed.
    Returns:
        Items, shape (C, `sampled.number`).
    Raises:
        InputError: if fewer items than asked for are left for a case.
    """
    by_count = sampled.by == "popularity"
    weights_N = item_counts.astype(np.float64) if by_count else np.ones(len(item_counts))
    total_N = np.cumsum(weights_N)
    num_weighed = int((weights_N > 0).sum())
    drawn = np.empty((len(cases), sampled.number), dtype=np.int64)
    for row, (user, length, target) in enumerate(zip(cases.users, cases.history_lengths, cases.targets, strict=True)):
        start = sequences.offsets[user]
        out = np.unique(np.append(sequences.items[start : start + length], target))
        left = num_weighed - int((weights_N[out] > 0).sum())
        if left < sampled.number:
            raise InputError(
                f"evaluation.sampled_candidates.number: {sampled.number} items are to be drawn, but for user "
                f"'{sequences.user_ids[user]}' {left} are left{' that occur in training' * by_count}; use {left} or "
                f"fewer"
            )
        generator = np.random.default_rng((sampled.seed, int(user), int(length)))
        drawn[row] = _draw(generator, weights_N, total_N, set(out.tolist()), sampled.number)
    return drawn


def _draw(
    generator: np.random.Generator, weights_N: NDArray[np.float64], total_N: NDArray[np.float64], out: set[int], k: int
) -> list[int]:
    """Draw and throw away what is out or there already; where that is in vain too often, weigh what is left."""
    found: dict[int, None] = {}
    for _ in range(_MOST_ROUNDS):
        # Only rounding can lead beyond the end or to an item without weight.
        places = np.searchsorted(total_N, generator.random(2 * k) * total_N[-1], side="right")
        for item in np.minimum(places, len(total_N) - 1).tolist():
            if item not in out and weights_N[item] > 0:
                found[item] = None
            if len(found) == k:
                return list(found)
    # The smallest of exponential times at rates of the weights: the same chances, in one pass over the catalogue.
    rates_N = weights_N.copy()
    rates_N[[*out, *found]] = 0.0
    with np.errstate(divide="ignore"):
        times_N = np.where(rates_N > 0, generator.exponential(size=len(rates_N)) / rates_N, np.inf)
    more = k - len(found)
    return [*found, *np.argpartition(times_N, more - 1)[:more].tolist()]


def _scores_of(
    scores: Scores | UserScores | ProductScores,
    part: Cases,
    sequences: Sequences,
    places_BK: NDArray[np.int64],
    batch_users: int,
    of_users: bool,
) -> torch.Tensor:
    """Return the scores of certain items of each user, the target's first."""
    if not isinstance(scores, ProductScores):
        known = (sequences, 0, len(part))
        of = (part.users, part.event_histories(*known), part.time_histories(*known)) if of_users else ()
        scores_BN = scores(part.histories(*known), *of)
        return scores_BN.gather(1, torch.from_numpy(places_BK).to(scores_BN.device))
    users_BD = user_vectors(scores, part, sequences, batch_users)
    places = torch.from_numpy(places_BK).to(users_BD.device)
    step = max(1, _MOST_GATHERED // (places.shape[1] * users_BD.shape[1]))
    # Products summed row by row: equal items have equal scores wherever they stand in a row.
    rows = [
        (scores.vectors_ND[places[low : low + step]] * users_BD[low : low + step, None, :]).sum(dim=2)
        for low in range(0, len(part), step)
    ]
    return torch.cat(rows) + scores.bias_N[places]
