"""Dropout whose random numbers cost little on a CPU."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

# Numbers that one word of the generator is cut into, and their span.
_A_WORD, _SPAN = 4, 2**16


class Dropout(nn.Module):
    """Sets elements to zero with a probability in training mode, and scales the others so that the mean stays.

    On a CPU torch draws a number of 32 bits or more for each element, which takes longer than the matrix products of a
    small head. Here 64 random bits serve four elements, so that the probability is rounded to a multiple of 2^-16; the
    scale is that of the rounded one. They come from torch's generator, whose state replays them. Elsewhere this is
    torch's own dropout.

    Args:
        probability: of an element to become zero, at least 0 and below 1.
    Source:
        Srivastava et al. (2014), Dropout: A Simple Way to Prevent Neural Networks from Overfitting.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        if not 0 <= probability < 1:
            raise ValueError(f"probability must be at least 0 and below 1, got {probability}")
        self.probability = probability
        # At most all but one of the steps, lest everything be dropped.
        self._dropped = min(round(probability * _SPAN), _SPAN - 1)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return the states of the same shape, unchanged in eval mode."""
        if not self.training or self._dropped == 0:
            return states
        if states.device.type != "cpu":
            return F.dropout(states, self.probability)
        words = torch.empty(-(-states.numel() // _A_WORD), dtype=torch.int64).random_(-(2**63), None)
        numbers = words.view(torch.int16)[: states.numel()].view(states.shape)
        kept = numbers >= self._dropped - _SPAN // 2
        return (states * kept).mul_(_SPAN / (_SPAN - self._dropped))

    def extra_repr(self) -> str:
        return f"probability={self.probability}"
