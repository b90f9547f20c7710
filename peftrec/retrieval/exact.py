"""The best items by exact score.

Shapes: B users, L places of a history, N items of the catalogue, K length of a list.
"""

from __future__ import annotations

import torch


def top_items(
    scores_BN: torch.Tensor, k: int, *, exclude_BL: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the K items with the highest scores, best first; of equal scores the lower index is first.

    Args:
        scores_BN: higher is better.
        k: length of the lists; fewer come back where the catalogue, less the excluded items, is smaller for every user.
        exclude_BL: items to leave out, -1 for padding; None leaves out nothing.
    Returns:
        Items (B, K) and their scores (B, K). Where a user has fewer than K items left, the rest is -1 with score -inf.
    Raises:
        ValueError: if k is below 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if exclude_BL is not None and exclude_BL.numel():
        # One column more takes the padding, so that no real item is touched by it.
        extended = torch.cat([scores_BN, scores_BN.new_zeros(len(scores_BN), 1)], dim=1)
        columns_BL = torch.where(exclude_BL < 0, scores_BN.shape[1], exclude_BL)
        scores_BN = extended.scatter_(1, columns_BL, -torch.inf)[:, :-1]
    k = min(k, scores_BN.shape[1])
    scores_BK, items_BK = torch.sort(scores_BN, dim=1, descending=True, stable=True)
    scores_BK, items_BK = scores_BK[:, :k], items_BK[:, :k]
    return torch.where(scores_BK == -torch.inf, -1, items_BK), scores_BK
