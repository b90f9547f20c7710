"""Scores of several recommenders made into one.

Shapes: M recommenders, B users, N items of the catalogue.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Final, Literal, get_args

import torch

from peftrec.config import InputError

By = Literal["score", "rank"]

RANK_OFFSET: Final = 60


@dataclasses.dataclass(frozen=True)
class Fusion:
    """A weighted mean of what each recommender says of an item.

    fused(item) = sum_m w_m part_m(item) / sum_m w_m, where a part is the standardised score (`score`) or the reciprocal
    rank (`rank`). Only weights relative to each other matter.

    Args:
        by: `score` or `rank`.
        weights: one a recommender, from 0; not all of them 0.
    Raises:
        InputError: if there are fewer than two weights, or one is negative or no finite number, or all are 0.
    """

    by: By
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.by not in get_args(By):
            raise InputError(f"'{self.by}' is not one of {', '.join(get_args(By))}")
        if len(self.weights) < 2:
            raise InputError(f"an ensemble has two members or more, got {len(self.weights)}")
        for place, weight in enumerate(self.weights, start=1):
            if not math.isfinite(weight) or weight < 0:
                raise InputError(f"weight {place} is {weight}; a weight is a number from 0")
        if not any(self.weights):
            raise InputError("all weights are 0; at least one member must count")

    def part(self, scores_BN: torch.Tensor) -> torch.Tensor:
        """Return what one recommender contributes, before its weight, shape (B, N)."""
        return _PARTS[self.by](scores_BN)

    def combine(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the weighted mean of parts, shape (B, N); parts of weight 0 are not read.

        Args:
            parts: from `part`, one a weight.
        Raises:
            ValueError: if there are more or fewer parts than weights.
        """
        if len(parts) != len(self.weights):
            raise ValueError(f"{len(parts)} parts for {len(self.weights)} weights; there must be one of each")
        total = sum(self.weights)
        counted = [(part, weight / total) for part, weight in zip(parts, self.weights, strict=True) if weight]
        fused_BN = counted[0][0] * counted[0][1]
        for part_BN, weight in counted[1:]:
            fused_BN.add_(part_BN.to(fused_BN.device), alpha=weight)
        return fused_BN


def standardised(scores_BN: torch.Tensor) -> torch.Tensor:
    """Return each user's scores with mean 0 and variance 1 over the catalogue.

    z = (s - mean_N s) / sqrt(mean_N (s - mean_N s)^2); the items of the history count as all others do. Ties stay ties.
    A user whose scores are all equal gets 0 everywhere: who knows no difference has no say.

    Args:
        scores_BN: higher is better.
    Source:
        Montague and Aslam (2001), Relevance score normalization for metasearch (ZMUV).
    """
    centred_BN = scores_BN - scores_BN.mean(dim=1, keepdim=True)
    spread_B1 = centred_BN.square().mean(dim=1, keepdim=True).sqrt()
    # What is left of equal numbers after their mean is taken off is rounding, and must not be blown up.
    noise_B1 = scores_BN.abs().amax(dim=1, keepdim=True) * 8 * torch.finfo(scores_BN.dtype).eps
    # In this direction NaN stays NaN, which evaluation refuses.
    return torch.where(spread_B1 <= noise_B1, torch.zeros_like(centred_BN), centred_BN / spread_B1)


def reciprocal_ranks(scores_BN: torch.Tensor) -> torch.Tensor:
    """Return 1 / (60 + rank) of each item in its user's ranking of the catalogue.

    rank = number of items that score at least as high, the item itself included: equal scores share the worst of their
    places. The items of the history have places as all others do.

    Args:
        scores_BN: higher is better.
    Source:
        Cormack, Clarke and Büttcher (2009), Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
        Methods, with their constant 60; weights and the rule for ties are ours.
    """
    lower_first_BN = (-scores_BN).contiguous()
    sorted_BN = torch.sort(lower_first_BN, dim=1).values
    ranks_BN = torch.searchsorted(sorted_BN, lower_first_BN, right=True)
    # What has no order has no rank either; evaluation refuses it.
    return torch.where(scores_BN.isfinite(), 1.0 / (RANK_OFFSET + ranks_BN.to(torch.float32)), torch.nan)


_PARTS: Final[dict[str, Callable[[torch.Tensor], torch.Tensor]]] = {"score": standardised, "rank": reciprocal_ranks}


def weight_grid(num_members: int, max_size: int = 100) -> list[tuple[float, ...]]:
    """Return weights to try: equal ones first, then all whole tenths that sum to one, or coarser fractions.

    The fractions are the finest from tenths to halves of which there are at most `max_size`; where even halves are
    more, each member alone.

    Args:
        num_members: M, at least 2.
        max_size: how many there may be besides equal weights.
    """
    finest = next((s for s in range(10, 1, -1) if math.comb(s + num_members - 1, num_members - 1) <= max_size), 1)
    grid = [tuple(share / finest for share in shares) for shares in _shares(finest, num_members)]
    equal = (1 / num_members,) * num_members
    return [equal, *(weights for weights in grid if not math.isclose(max(weights), min(weights)))]


def _shares(total: int, num_members: int) -> list[tuple[int, ...]]:
    """Return every way to deal out so many equal shares."""
    if num_members == 1:
        return [(total,)]
    return [(first, *rest) for first in range(total + 1) for rest in _shares(total - first, num_members - 1)]
