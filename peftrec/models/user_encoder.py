"""What every user encoder is.

Shapes: B users, L places of a history (left-padded: the newest event is last), D width.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import torch
from torch import nn

from peftrec.config import Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class UserEncoderConfig:
    """What all user encoders share.

    Args:
        max_history: events of a history that are read, the newest ones.
    """

    kind: ClassVar[str]

    max_history: Annotated[int, Range(ge=1)] = 50

    @property
    def needs_times(self) -> bool:
        """Whether the encoder reads when events happened; others are not told."""
        return False

    def check_dim(self, dim: int) -> None:
        """See whether item vectors of width D can be used.

        Raises:
            ValueError: if not, naming the key of the recipe.
        """

    def build(self, dim: int) -> nn.Module:
        """Return a module mapping (items_BLD, valid_BL) to user vectors (B, L, D).

        Where `needs_times`, it is handed times_BL too, int64 milliseconds. The vector at a place depends on the events
        up to it, never on later ones. Padding on the left changes nothing. What stands at padded places is not used.
        """
        raise NotImplementedError


class RecencyMean(nn.Module):
    """Weighted mean of the newest events: sum over k of w_k x_(l-k), divided by the sum of the weights in use.

    Args:
        num_recent: how many events are weighed.
        decay: w_k = decay^k at the start.
        learned: whether the weights train (as logarithms).
    """

    def __init__(self, num_recent: int, decay: float, *, learned: bool) -> None:
        super().__init__()
        start = torch.arange(num_recent) * torch.log(torch.tensor(decay))
        self.log_weights: torch.Tensor
        if learned:
            self.log_weights = nn.Parameter(start)
        else:
            self.register_buffer("log_weights", start)

    def forward(self, items_BLD: torch.Tensor, valid_BL: torch.Tensor) -> torch.Tensor:
        """Return the weighted mean up to every place, shape (B, L, D)."""
        length = items_BLD.shape[1]
        place_L = torch.arange(length, device=items_BLD.device)
        lag_LL = place_L[:, None] - place_L
        used_LL = (lag_LL >= 0) & (lag_LL < len(self.log_weights))
        weights_LL = self.log_weights.exp()[lag_LL.clamp(0, len(self.log_weights) - 1)] * used_LL
        weights_BLL = weights_LL * valid_BL[:, None, :]
        total_BL1 = weights_BLL.sum(-1, keepdim=True)
        return (weights_BLL / total_BL1.clamp(min=torch.finfo(items_BLD.dtype).tiny)) @ items_BLD
