"""A small network that scores the best candidates of the dot product again.

Shapes: B users, K candidates of a user, N items of the catalogue, C candidates of a step, P positions, Q positions that
are learned from, R some of these, S items of one user, D width of vectors, E width of the hidden layer.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from peftrec.losses import LossInputs, mean_over_positions

# Numbers in the vectors of candidates that are looked at together.
_MOST_AT_ONCE = 2**23


class SecondStage(nn.Module):
    """score = first + w . gelu(W1 u + W2 v + W3 (u * v) + b), for the best candidates by the first score alone.

    u and v are the vectors of the dot product times sqrt(D), so that their numbers are about 1. w is zero at first: it
    starts as the first stage. A user of whom nothing is known has the vector zero and keeps the first scores.

    Args:
        dim: D.
        hidden_dim: E.
        num_candidates: K.
        num_positions: Q, at most so many positions of a step are learned from.
    """

    def __init__(self, dim: int, hidden_dim: int, num_candidates: int, num_positions: int) -> None:
        super().__init__()
        self.num_candidates, self.num_positions = num_candidates, num_positions
        self.user = nn.Linear(dim, hidden_dim)
        self.item = nn.Linear(dim, hidden_dim, bias=False)
        self.product = nn.Linear(dim, hidden_dim, bias=False)
        self.out = nn.Linear(hidden_dim, 1, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, first_BK: torch.Tensor, users_BD: torch.Tensor, candidates_BKD: torch.Tensor) -> torch.Tensor:
        """Return the scores of candidates, shape (B, K).

        Args:
            first_BK: their scores by the first stage.
            users_BD: user vectors as they enter the dot product, without the scale.
            candidates_BKD: item vectors as they enter it.
        """
        length = users_BD.shape[1] ** 0.5
        users_B1D, items_BKD = length * users_BD[:, None], length * candidates_BKD
        hidden_BKE = F.gelu(self.user(users_B1D) + self.item(items_BKD) + self.product(users_B1D * items_BKD))
        known_B1 = users_BD.any(1, keepdim=True)
        added_BK: torch.Tensor = self.out(hidden_BKE)[..., 0] * known_B1
        return first_BK + added_BK

    def rescore(self, first_BN: torch.Tensor, users_BD: torch.Tensor, items_ND: torch.Tensor) -> torch.Tensor:
        """Return scores of the whole catalogue: the first K by the second stage, all others below, shape (B, N).

        The others keep the order and distances of the first stage; where one would not stand below every candidate,
        all others of that user are lowered until the best is one below. Of equal first scores the lower index is a
        candidate first.

        Args:
            first_BN: scores by the first stage.
            users_BD: and `items_ND`, as in `forward`.
        """
        candidates_BK = _first(first_BN, min(self.num_candidates, first_BN.shape[1]))
        second_BK = self._chunked(first_BN.gather(1, candidates_BK), users_BD, items_ND, candidates_BK)
        highest_B1 = first_BN.scatter(1, candidates_BK, -torch.inf).amax(1, keepdim=True)
        gap_B1 = highest_B1 - second_BK.amin(1, keepdim=True)
        lowered_BN = first_BN - torch.where(gap_B1 >= 0, gap_B1 + 1, 0)
        return lowered_BN.scatter(1, candidates_BK, second_BK)

    def _chunked(
        self, first_BK: torch.Tensor, users_BD: torch.Tensor, items_ND: torch.Tensor, candidates_BK: torch.Tensor
    ) -> torch.Tensor:
        """Score candidates, the vectors of so many users' at a time as fit."""
        chunk = max(1, _MOST_AT_ONCE // (candidates_BK.shape[1] * users_BD.shape[1]))
        parts = [slice(start, start + chunk) for start in range(0, len(first_BK), chunk)]
        return torch.cat([self(first_BK[part], users_BD[part], items_ND[candidates_BK[part]]) for part in parts])

    def loss(self, inputs: LossInputs, scale: torch.Tensor) -> torch.Tensor:
        """Return the mean cross-entropy of the target among it and the best other candidates, by the second stage.

        Only this network gets a gradient: the vectors train by the loss of the recipe, as they do without it. Items
        that the user has had before the target are no candidates, as lists leave them out. Positions are chosen
        without regard to their weights, which are those of the mean.

        Args:
            inputs: of the step.
            scale: that queries were multiplied by.
        """
        chosen_Q = torch.randperm(len(inputs.queries_PD), device=scale.device)[: self.num_positions]
        kept = min(self.num_candidates, len(inputs.candidates_CD))
        chunk = max(1, _MOST_AT_ONCE // len(inputs.candidates_CD))
        with torch.no_grad():
            queries_QD = inputs.queries_PD[chosen_Q]
            found = [_best_others(inputs, part_R, kept) for part_R in chosen_Q.split(chunk)]  # type: ignore[no-untyped-call]
            first_QK, items_QK = (torch.cat(parts) for parts in zip(*found, strict=True))
            candidates_QKD = inputs.candidates_CD[items_QK]
        second_QK = self(first_QK, queries_QD / scale.detach(), candidates_QKD)
        loss_Q = F.cross_entropy(second_QK, torch.zeros_like(chosen_Q), reduction="none")
        return mean_over_positions(loss_Q, None if inputs.weights_P is None else inputs.weights_P[chosen_Q])


def _best_others(inputs: LossInputs, chosen_R: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first scores of a target and of the best k - 1 others, and which they are, (R, k); the target first.

    Args:
        inputs: of the step.
        chosen_R: the positions.
        k: candidates in all.
    """
    targets_R1 = inputs.targets_P[chosen_R, None]
    first_RC = inputs.queries_PD[chosen_R] @ inputs.candidates_CD.T
    if inputs.bias_C is not None:
        first_RC += inputs.bias_C
    target_R1 = first_RC.gather(1, targets_R1)
    seen_RS = inputs.seen_BS[inputs.rows_P[chosen_R]]
    early_S = torch.arange(seen_RS.shape[1], device=seen_RS.device)
    gone_RS = torch.where((seen_RS >= 0) & (early_S < inputs.past_P[chosen_R, None]), seen_RS, targets_R1)
    # Above all others, so that the target comes first of the K.
    first_RC.scatter_(1, gone_RS, -torch.inf).scatter_(1, targets_R1, torch.inf)
    first_RK, items_RK = first_RC.topk(k)
    first_RK[:, :1] = target_R1
    return first_RK, items_RK


def _first(scores_BN: torch.Tensor, k: int) -> torch.Tensor:
    """Return the K items with the highest scores in order of their index; of equal scores the lower index is taken."""
    # What is no number is found by whoever ranks the scores.
    scores_BN = scores_BN.nan_to_num()
    least_B1 = scores_BN.topk(k).values[:, -1:]
    above_BN, tied_BN = scores_BN > least_B1, scores_BN == least_B1
    room_B1 = k - above_BN.sum(1, keepdim=True)
    taken_BN = above_BN | (tied_BN & (tied_BN.cumsum(1) <= room_B1))
    return taken_BN.nonzero()[:, 1].view(len(scores_BN), k)
