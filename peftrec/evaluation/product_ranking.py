"""Ranking of the whole catalogue by scores that are products, without ever holding a row of them.

Shapes: C cases, B users of a batch, N items of the catalogue, n items of a block, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.data import Cases
from peftrec.evaluation.product import (
    Excluded,
    ProductScores,
    batches_by_length,
    largest_score,
    refuse_unordered,
    score_blocks,
)

if TYPE_CHECKING:
    from peftrec.data import Sequences

# Users whose vectors are held at once.
_MOST_VECTORS = 2**15
_TARGETS_AT_ONCE = 512


@torch.no_grad()
def product_ranks(
    scores: ProductScores, cases: Cases, sequences: Sequences, num_items: int, exclude_history: bool, batch_users: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the ranks of the cases' targets by the rules of `evaluate_cases`, and which lie in their user's history.

    Args:
        scores: of the whole catalogue.
        cases: and `sequences`, `num_items`, `exclude_history`, `batch_users`: as in `evaluate_cases`.
    Raises:
        InputError: if a score is NaN or infinite.
        ValueError: if there is not one item vector for each item.
    """
    vectors_ND, bias_N = scores.vectors_ND, scores.bias_N
    if len(vectors_ND) != num_items:
        raise ValueError(f"scores must be of {num_items} items, got {len(vectors_ND)} item vectors")
    ranks = np.empty(len(cases), dtype=np.int64)
    repeated = np.empty(len(cases), dtype=np.bool_)
    largest = largest_score(vectors_ND, bias_N)
    for first in range(0, len(cases), _MOST_VECTORS):
        part = _cases(cases, slice(first, first + _MOST_VECTORS))
        users_CD = user_vectors(scores, part, sequences, batch_users)
        for start in range(0, len(part), batch_users):
            batch = _cases(part, slice(start, start + batch_users))
            users_BD = users_CD[start : start + batch_users]
            user_ids = [sequences.user_ids[user] for user in batch.users]
            refuse_unordered(users_BD, vectors_ND, bias_N, largest, user_ids)
            offsets, items = sequences.gather_flat(sequences.offsets[batch.users], batch.history_lengths)
            rows = np.repeat(np.arange(len(batch)), batch.history_lengths)
            here = slice(first + start, first + start + len(batch))
            repeated[here] = np.bincount(rows[items == batch.targets[rows]], minlength=len(batch)) > 0
            excluded = Excluded(offsets, items, users_BD.device) if exclude_history else None
            ranks[here] = ranks_of_targets(users_BD, batch.targets, vectors_ND, bias_N, excluded).cpu().numpy()
    return ranks, repeated


def ranks_of_targets(
    users_BD: torch.Tensor,
    targets_B: NDArray[np.int64],
    vectors_ND: torch.Tensor,
    bias_N: torch.Tensor,
    excluded: Excluded | None,
) -> torch.Tensor:
    """Return 1 + the number of other items, excluded ones left out, that score at least as high as the target.

    Wrong where the target is excluded itself.

    Args:
        users_BD: user vectors; all scores are finite.
        targets_B: items.
        vectors_ND: item vectors.
        bias_N: of each item.
        excluded: None leaves out nothing.
    Returns:
        int64, shape (B,).
    """
    columns_B = torch.from_numpy(targets_B).to(users_BD.device)
    expected_B = _target_scores(users_BD, columns_B, vectors_ND, bias_N)
    ranks_B, found_B = _count(users_BD, columns_B, expected_B, vectors_ND, bias_N, excluded)
    if not torch.equal(expected_B, found_B):
        # Where a device rounds otherwise in a block, the count is made again with what stood there.
        ranks_B, _ = _count(users_BD, columns_B, found_B, vectors_ND, bias_N, excluded)
    return ranks_B


def _target_scores(
    users_BD: torch.Tensor, columns_B: torch.Tensor, vectors_ND: torch.Tensor, bias_N: torch.Tensor
) -> torch.Tensor:
    """Return the score of each user's target, rounded as it will be in its block: the diagonal of a whole product."""
    products = []
    for start in range(0, len(users_BD), _TARGETS_AT_ONCE):
        part = columns_B[start : start + _TARGETS_AT_ONCE]
        own = users_BD[start : start + _TARGETS_AT_ONCE]
        products.append(torch.addmm(bias_N[part], own, vectors_ND[part].T))
    return torch.cat([product.diagonal() for product in products])


def _count(
    users_BD: torch.Tensor,
    columns_B: torch.Tensor,
    thresholds_B: torch.Tensor,
    vectors_ND: torch.Tensor,
    bias_N: torch.Tensor,
    excluded: Excluded | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Count what scores at least as high as each threshold, less the excluded items; also return target scores.

    The target itself is the 1 of the rank.
    """
    counts_B = torch.zeros(len(users_BD), dtype=torch.int64, device=users_BD.device)
    found_B = torch.empty_like(thresholds_B)
    order_B = columns_B.argsort()
    sorted_B = columns_B[order_B].cpu().numpy()
    memory = users_BD.new_empty(0)
    for start, scores_Bn in score_blocks(users_BD, vectors_ND, bias_N):
        stop = start + scores_Bn.shape[1]
        low, high = np.searchsorted(sorted_B, (start, stop)).tolist()
        rows = order_B[low:high]
        found_B[rows] = scores_Bn[rows, columns_B[rows] - start]
        if excluded is not None:
            rows, columns = excluded.within(start, stop)
            counts_B.index_add_(0, rows, -(scores_Bn[rows, columns] >= thresholds_B[rows]).long())
        # Ones and zeros as numbers of the scores' own type: comparing into booleans takes three times as long.
        if memory.numel() < scores_Bn.numel():
            memory = torch.empty_like(scores_Bn).flatten()
        above_Bn = memory[: scores_Bn.numel()].view_as(scores_Bn)
        torch.ge(scores_Bn, thresholds_B[:, None], out=above_Bn)
        counts_B += above_Bn.sum(dim=1).long()
    return counts_B, found_B


def user_vectors(scores: ProductScores, cases: Cases, sequences: Sequences, batch_users: int) -> torch.Tensor:
    """Return the vectors of the cases' users, encoded in batches of similar length.

    Args:
        scores: of the whole catalogue.
        cases: and `sequences`, `batch_users`: as in `evaluate_cases`.
    Returns:
        Vectors (C, D) in the order of the cases.
    """
    lengths = np.minimum(cases.history_lengths, scores.max_history)
    users_CD = scores.vectors_ND.new_empty(len(cases), scores.vectors_ND.shape[1])
    for places in batches_by_length(lengths, batch_users):
        batch = _cases(cases, places)
        known = (sequences, 0, len(batch), scores.max_history)
        users_CD[torch.from_numpy(places).to(users_CD.device)] = scores.user_vectors(
            batch.histories(*known), batch.users, batch.event_histories(*known), batch.time_histories(*known)
        )
    return users_CD


def _cases(cases: Cases, which: slice | NDArray[np.int64]) -> Cases:
    return Cases(cases.users[which], cases.history_lengths[which], cases.targets[which])
