"""Attention pooling: the states of a text's tokens to one vector, with learned weights.

Shapes: C texts in a chunk, P padded tokens of one text, H width of a state, A inner width.
"""

from __future__ import annotations

import torch
from torch import nn


class TokenAttention(nn.Module):
    """Weighted mean of token states, the weights a softmax over the text's own tokens.

    a_p = softmax_p(q . tanh(V h_p + v)), vector = sum_p a_p h_p. The query q is zero at the start, so that all weights
    are equal: pooling starts as the mean. V and v learn from the second step on.

    Args:
        dim: H.
        inner_dim: A.
    Source:
        Wu et al. (2019), Neural News Recommendation with Attentive Multi-View Learning (NAML), attention over words;
        there q is drawn at random.
    """

    def __init__(self, dim: int, inner_dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(dim, inner_dim)
        self.query = nn.Parameter(torch.zeros(inner_dim))

    def forward(self, states_CPH: torch.Tensor, valid_CP: torch.Tensor) -> torch.Tensor:
        """Return one vector a text, shape (C, H).

        Args:
            states_CPH: states; those of padding may hold anything finite.
            valid_CP: which of them are tokens, at least one a text.
        """
        states_CPH = states_CPH.float()
        scores_CP = torch.tanh(self.project(states_CPH)) @ self.query
        weights_CP = scores_CP.float().masked_fill(~valid_CP, -torch.inf).softmax(dim=1)
        return torch.einsum("cph,cp->ch", states_CPH, weights_CP)
